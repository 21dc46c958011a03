"""Figures and tables on disk: whole or not at all, and the same bytes every time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dsnn.files import atomic, write_text
from experiments.csv_table import csv_table

_WITHOUT_DATES: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
}


def write_figure(figure: Figure, stem: Path) -> None:
    """`stem`.pdf and `stem`.png, with no time stamp in either. UserError as dsnn.files.atomic."""
    for suffix, metadata in _WITHOUT_DATES.items():
        with atomic(beside(stem, suffix)) as path:
            figure.savefig(path, format=suffix, metadata=metadata)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table with one header line; floats are written so that they read back unchanged."""
    write_text(path, csv_table(header, rows))


def beside(stem: Path, suffix: str) -> Path:
    """`stem` with `suffix` added: an artefact's name may hold a dot, as in margin 0.15."""
    return stem.parent / f"{stem.name}.{suffix}"
