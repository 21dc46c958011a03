"""Measures how the published code deviates from the theory, and keeps the numbers.

`python -m paper_repro.deviations [NUMBER ...] [--data DIR]` measures all deviations, or those named
by their number in section 8 of the notes on the paper, keeps them in `results/deviations.json`, and
writes docs/deviations.md from what is kept. `--page` only writes the page.
"""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.data.folder import data_folder
from dsnn.errors import UserError
from dsnn.files import write_json, write_text
from experiments.provenance import environment, short_commit
from paper_repro import deviations_code, deviations_operators, deviations_protocol, deviations_steps
from paper_repro.deviation import STATUSES, Deviation, sentence, shown
from paper_repro.material import Material
from paper_repro.script import answer
from verification.markdown import table

RESULTS = Path(__file__).parent / "results" / "deviations.json"
PAGE = Path(__file__).parent.parent / "docs" / "deviations.md"
Kept = Mapping[str, Any]


def catalogue() -> list[Deviation]:
    """All of them in the order of the notes."""
    parts = (deviations_steps, deviations_operators, deviations_protocol, deviations_code)
    found = [deviation for part in parts for deviation in part.DEVIATIONS]
    return sorted(found, key=lambda deviation: deviation.number)


def measured(deviation: Deviation, material: Material) -> dict[str, Any]:
    """The entry of one deviation in the kept results. Raises ValueError where a measured number is
    not finite."""
    start = time.perf_counter()
    numbers = [asdict(n) for n in deviation.measure(material)] if deviation.measure else []
    for number in numbers:
        if not math.isfinite(number["value"]):
            raise ValueError(f"deviation {deviation.number}: {number['what']} is not finite")
    return {
        "number": deviation.number,
        "status": deviation.status,
        "module": deviation.module,
        "sources": [asdict(source) for source in deviation.sources],
        "commit": short_commit() if deviation.measure else "",
        "seconds": round(time.perf_counter() - start, 1),
        "numbers": numbers,
    }


def keep(numbers: Sequence[int], material: Material, file: Path = RESULTS) -> None:
    """Measure the deviations of these numbers and keep them in `file`, whose others stay."""
    known = read(file)["deviations"] if file.is_file() else []
    entries = {entry["number"]: entry for entry in known}
    for deviation in catalogue():
        if deviation.number in numbers:
            entries[deviation.number] = measured(deviation, material)
    content = {
        "environment": environment(),
        "weights": {
            network.model.published_file: network.loaded.file_sha256
            for network in material.networks
        },
        "deviations": [entries[number] for number in sorted(entries)],
    }
    write_json(file, content)


def read(file: Path = RESULTS) -> dict[str, Any]:
    """The kept results."""
    return json.loads(file.read_text(encoding="utf-8"))


def records(kept: Kept) -> list[dict[str, Any]]:
    """Every deviation as it is shown: words of the catalogue, numbers of the kept results."""
    entries = {entry["number"]: entry for entry in kept["deviations"]}
    return [
        {
            "number": deviation.number,
            "title": deviation.title,
            "where": deviation.where,
            "code": deviation.code,
            "theory": deviation.theory,
            "consequence": sentence(deviation.consequence, entry["numbers"]),
            "status": deviation.status,
            "means": STATUSES[deviation.status],
            "rows": [(number["what"], shown(number)) for number in entry["numbers"]],
            "module": entry["module"],
            "sources": entry["sources"],
            "commit": entry["commit"],
            "seconds": entry["seconds"],
        }
        for deviation in catalogue()
        if (entry := entries.get(deviation.number)) is not None
    ]


def counted(shown: Sequence[Mapping[str, Any]]) -> str:
    """How many are of which status, in words."""
    counts = {status: sum(r["status"] == status for r in shown) for status in STATUSES}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def page(kept: Kept) -> str:
    """docs/deviations.md."""
    found, place = records(kept), kept["environment"]
    parts = [
        "# What the published code does differently",
        "<!-- written by python -m paper_repro.deviations from paper_repro/results -->",
        f"{len(found)} places where the code published with the paper departs from its theory: "
        f"{counted(found)}. Numbers are ours; ≤ and ≥ are rigorous bounds rounded outwards, ≈ is "
        "floating point. What the code does is read from notes on it: its text is not part of this "
        "project.",
        "\n".join(f"- *{status}*: {means}." for status, means in STATUSES.items()),
    ]
    for record in found:
        parts += [
            f"## {record['number']}. {record['title']}",
            f"`{record['where']}` · *{record['status']}*",
            f"**The code.** {record['code']}",
            f"**The theory.** {record['theory']}",
            f"**What follows.** {record['consequence']}",
        ]
        if record["rows"]:
            rows = [(what.replace("|", "\\|"), value) for what, value in record["rows"]]
            parts += [table(("measured", "value"), rows), _origin(record)]
    parts.append(
        f"Measured with torch {place['torch']}, NumPy {place['numpy']}, Python {place['python']} "
        f"on {place['machine']}, {place['threads']} thread."
    )
    return "\n\n".join(parts) + "\n"


def _origin(record: Mapping[str, Any]) -> str:
    line = f"Script: `{record['module']}`, commit {record['commit']}, {record['seconds']} s"
    others = (f"; `{s['command']}`, commit {s['commit']}" for s in record["sources"])
    return f"{line}{''.join(others)}."


def main(
    numbers: Annotated[list[int] | None, typer.Argument(help="Which, else all.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data folder; else DSNN_DATA or the cache.")
    ] = None,
    only_page: Annotated[bool, typer.Option("--page", help="Only write the page.")] = False,
) -> None:
    known = [deviation.number for deviation in catalogue()]
    if unknown := sorted(set(numbers or []) - set(known)):
        raise UserError(f"no deviation {unknown[0]}: they are numbered 1 to {max(known)}")
    if not only_page:
        keep(numbers or known, Material(data_folder(data)))
    write_text(PAGE, page(read()))


if __name__ == "__main__":
    sys.exit(answer(main))
