"""docs/structured-experiments.md from the kept results: `python -m paper_repro.structured_page`.

Every number on the page is one of `results/structured`; a test finds the page out of date.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsnn.files import write_text
from paper_repro.kept_results import FOLDER, numbers
from verification.markdown import table

PAGE = Path(__file__).parent.parent / "docs" / "structured-experiments.md"
ORDER = (
    "sir-map",
    "sir-rollout",
    "sir-data",
    "regression-1d",
    "regression-2d",
    "ode-cubic",
    "ode-pendulum",
    "hamiltonian-pendulum",
    "hamiltonian-henon-heiles",
    "approximation",
    "invariants",
)
Kept = Mapping[str, Any]


def results(folder: Path = FOLDER) -> dict[str, Kept]:
    """All kept results by experiment."""
    return {name: numbers(folder / f"{name}.json") for name in ORDER}


def cell(value: Any) -> str:
    """A number, a summary over seeds as "mean ± half of the interval", a word or a dash."""
    if isinstance(value, Mapping) and "values" in value:
        if value["mean"] is None:
            return ", ".join(map(cell, value["values"]))
        if "low" not in value:
            return cell(value["mean"])
        return f"{cell(value['mean'])} ± {(value['high'] - value['low']) / 2:.1g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {cell(v)}" for name, v in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:.2e}" if value and not 1e-2 <= abs(value) < 1e4 else f"{value:.4g}"
    return "-" if value in (None, "") else str(value)


def rows_table(kept: Kept, left_out: Sequence[str] = ()) -> str:
    """The table of numbers of one experiment."""
    header = [name for name in kept["rows"][0] if name not in left_out]
    return table(header, ([cell(row[name]) for name in header] for row in kept["rows"]))


def bars_table(kept: Mapping[str, Kept]) -> str:
    return table(
        ("experiment", "what", "measured", "at most", "holds"),
        (
            (
                name, bar["what"].replace("|", "\\|"), cell(bar["measured"]), f"{bar['limit']:g}",
                "yes" if bar["holds"] else "**no**",
            )
            for name, found in kept.items()
            for bar in found["bars"]
        ),
    )  # fmt: skip


def sources_table(kept: Mapping[str, Kept]) -> str:
    return table(
        (
            "experiment",
            "scale",
            "seeds",
            "commit",
            "CPU seconds, all trainings",
            "longest training",
        ),
        (
            (
                name,
                found["scale"],
                ", ".join(map(str, found["seeds"])),
                found["commit"],
                f"{sum(found['seconds'].values()):.0f}",
                f"{max(found['seconds'].values()):.0f}",
            )
            for name, found in kept.items()
        ),
    )


def points_table(kept: Kept) -> str:
    """Test error by number of points, a column a network."""
    names = list(dict.fromkeys(row["network"] for row in kept["rows"]))
    by_points: dict[int, dict[str, str]] = {}
    for row in kept["rows"]:
        by_points.setdefault(row["points"], {})[row["network"]] = cell(row["test MSE"])
    return table(
        ("training points", *names),
        ([str(points), *(found[name] for name in names)] for points, found in by_points.items()),
    )


def page(kept: Mapping[str, Kept]) -> str:
    """The whole page."""
    place = kept["sir-map"]["environment"]
    where = (
        f"{place['machine']}, {place['threads']} thread, Python {place['python']}, "
        f"torch {place['torch']}"
    )
    parts: dict[str, Callable[[], str]] = {
        "bars": lambda: bars_table(kept),
        "points": lambda: points_table(kept["sir-data"]),
        "sources": lambda: sources_table(kept),
        "where": lambda: where,
        "invariants": lambda: rows_table(kept["invariants"], ("evidence", "parameters")),
        "evidence": lambda: evidence(kept["invariants"]),
        **{name: lambda name=name: rows_table(kept[name], ("evidence",)) for name in ORDER[:-1]},
    }
    text = (Path(__file__).parent / "templates" / "structured-experiments.md").read_text("utf-8")
    for name, made in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", made())
    return text


def evidence(kept: Kept) -> str:
    """What the auditor says of each network, in its own words."""
    lines = (
        f"- *{row['property']}*, {row['form']}: {row['audit']}"
        + (f" [{row['theorem']}]" if row["theorem"] else "")
        + (f": {row['evidence']}." if row["evidence"] else ".")
        for row in kept["rows"]
    )
    return "\n".join(lines)


def main() -> None:
    write_text(PAGE, page(results()))


if __name__ == "__main__":
    main()
