"""What the tests of pages measure in a browser."""

import re

import numpy as np


def contrast(paper: str, ink: str) -> float:
    """The ratio of WCAG between two colours as getComputedStyle writes them."""
    low, high = sorted((_luminance(paper), _luminance(ink)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    channels = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
