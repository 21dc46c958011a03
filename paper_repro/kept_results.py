"""The kept results of the structured experiments: numbers by experiment, curves by table.

They come with the program, in `results/structured`, written by `dsnn experiment NAME --out FOLDER`.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paper_repro.output import beside, write_csv

FOLDER = Path(__file__).parent / "results" / "structured"
Rows = list[dict[str, str]]


def files(*experiments: str, tables: Mapping[str, str] | None = None) -> dict[str, Path]:
    """The inputs of an artefact: the JSON of each experiment under its own name, and the tables by
    the names given, as in curves="sir-map-curves"."""
    found = {name: FOLDER / f"{name}.json" for name in experiments}
    return found | {name: FOLDER / f"{file}.csv" for name, file in (tables or {}).items()}


def numbers(path: Path) -> dict[str, Any]:
    """The JSON of one experiment."""
    return json.loads(path.read_text(encoding="utf-8"))


def row(path: Path, **wanted: str) -> dict[str, Any]:
    """The one row of its table of numbers that has these values."""
    (found,) = (
        row
        for row in numbers(path)["rows"]
        if all(row[key] == value for key, value in wanted.items())
    )
    return found


def table(path: Path) -> Rows:
    """The rows of a CSV file, as text by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def groups(rows: Rows, name: str) -> dict[str, Rows]:
    """The rows by their value in one column, in the order of appearance."""
    found: dict[str, Rows] = {}
    for entry in rows:
        found.setdefault(entry[name], []).append(entry)
    return found


def copied(stem: Path, rows: Rows) -> None:
    """The CSV beside a figure: exactly the rows that were drawn."""
    write_csv(beside(stem, "csv"), list(rows[0]), [list(row.values()) for row in rows])
