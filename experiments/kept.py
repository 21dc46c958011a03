"""What a run of an experiment keeps: its numbers with where they come from, and its curves.

`NAME.json` holds the configuration, the commit, the environment, the seconds and the results;
`NAME-TABLE.csv` beside it one table each, which the figures are drawn from.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy import stats

from dsnn.files import write_json, write_text
from experiments.csv_table import csv_table
from experiments.provenance import environment, short_commit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Bar:
    """A number that is to be at most `limit`."""

    what: str
    limit: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "measured": spelled(self.measured), "holds": self.holds}


@dataclass(frozen=True)
class Table:
    """Columns by name and rows of numbers or words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_csv(self) -> str:
        return csv_table(self.columns, self.rows)


@dataclass(frozen=True)
class Result:
    """What an experiment measured: `rows` are one table of numbers for people, `bars` what they are
    held against, `tables` the curves by name, `seconds` the times of its trainings by name."""

    configuration: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    bars: Sequence[Bar] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def keep(folder: Path, name: str, scale: str, seeds: Sequence[int], result: Result) -> Path:
    """Write `name`.json and its tables into `folder`; the path of the JSON. UserError as
    dsnn.files.atomic."""
    for table, content in result.tables.items():
        write_text(folder / f"{name}-{table}.csv", content.to_csv())
    path = folder / f"{name}.json"
    write_json(
        path,
        {
            "experiment": name,
            "scale": scale,
            "seeds": list(seeds),
            "configuration": dict(result.configuration),
            "commit": short_commit(),
            "environment": environment(),
            "seconds": {key: round(value, 1) for key, value in result.seconds.items()},
            "bars": [bar.to_json() for bar in result.bars],
            "rows": [dict(row) for row in result.rows],
        },
    )
    return path


def over_seeds(values: Iterable[float]) -> dict[str, Any]:
    """The values of all seeds, their mean and the ends of its t-interval at 95 %, which one seed
    does not have; where a value is not finite, neither mean nor interval."""
    found = [float(value) for value in values]
    summary: dict[str, Any] = {"values": [spelled(v) for v in found], "mean": None}
    if not all(map(math.isfinite, found)):
        return summary
    mean = math.fsum(found) / len(found)
    summary["mean"] = mean
    if len(found) > 1:
        half = stats.sem(found) * stats.t.ppf((1 + CONFIDENCE) / 2, len(found) - 1)
        summary |= {"low": mean - half, "high": mean + half}
    return summary


def spelled(value: float) -> float | str | None:
    """The value as JSON can hold it: "infinite" for infinities, None for what is not defined."""
    if math.isnan(value):
        return None
    return "infinite" if math.isinf(value) else float(value)
