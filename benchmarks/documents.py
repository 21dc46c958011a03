"""The tables of benchmarks/results/ as Markdown: docs/benchmarks.md, and the findings in README.md.

`python -m benchmarks.documents` writes both; a test finds them out of date.
"""

import json
from pathlib import Path
from typing import Any

from verification import markdown

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def cell(value: object) -> str:
    """A value of a row, as tables show it."""
    if isinstance(value, dict):
        return f"{value['median']:g} ({value['low']:g} to {value['high']:g})"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as a Markdown table."""
    return markdown.table(list(rows[0]), ([cell(v) for v in row.values()] for row in rows))


def results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def page() -> str:
    """docs/benchmarks.md: every result that is kept, with where it was measured."""
    parts = [
        "# Benchmarks",
        "Made by `make bench`, or `python -m benchmarks [NAME ...]`, and kept in "
        "`benchmarks/results/`. Ratios compare what was measured in one run on one machine; values "
        "with a range are medians, with the lowest and the highest of the runs, others of one run.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        kept = results(path.stem)
        place = kept["environment"]
        where = (
            f"{place['processor']}, {place['threads']} threads, torch {place['torch']}, "
            f"Python {place['python']}"
        )
        parts += [f"## {path.stem}", kept["title"], table(kept["rows"]), f"Measured on: {where}."]
    return "\n\n".join(parts) + "\n"


def findings() -> str:
    """The default audits of the published networks, for the README."""
    left_out = ("depth", "whole process [s]", "peak memory [MB]")
    rows = [
        {key: value for key, value in row.items() if key not in left_out}
        for row in results("audits")["rows"]
        if row["depth"] == "default"
    ]
    return table(rows)


def readme(text: str) -> str:
    """README.md with the findings put between their marks."""
    return markdown.between(text, "findings", "benchmarks.documents", findings())


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "benchmarks.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
