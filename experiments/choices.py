"""Choices that several commands offer. Imports nothing heavy."""

from enum import StrEnum


class Scale(StrEnum):
    """Seconds, minutes, or the paper's size."""

    smoke = "smoke"
    cpu = "cpu"
    paper = "paper"


class Device(StrEnum):
    """Where to compute."""

    cpu = "cpu"
    cuda = "cuda"
