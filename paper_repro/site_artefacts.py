"""An artefact as the site shows it: its files, its numbers beside the published, where it is from.

Everything is read from the entry of the Reproduce JSON and from the records beside the files.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsnn.errors import UserError
from paper_repro import freshness, models
from verification.wording import one_line

MARKS = {"agrees": "✓", "differs": "✗", "not run": "–"}
LINKED = ("csv", "pdf", "md")
"""Files of an artefact that the site links, besides its picture."""
PREVIEW = 12
"""Rows of a table without Markdown that are shown."""

Entry = Mapping[str, Any]


def number(value: float | None) -> str:
    """A compared number, a dash where there is none."""
    return "–" if value is None else f"{value:.5g}"


def comparisons(entry: Entry) -> list[dict[str, str]]:
    """The rows of the comparison table of an artefact."""
    return [
        {
            "what": row["what"],
            "published": number(row["published"]),
            "ours": number(row["ours"]),
            "tolerance": "one-sided" if row["tolerance"] is None else number(row["tolerance"]),
            "verdict": row["verdict"],
            "mark": MARKS.get(row["verdict"], "?"),
            "reason": row.get("reason", ""),
        }
        for row in entry["compared"]
    ]


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many compared numbers have each verdict."""
    return {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in MARKS}


def files(entry: Entry) -> dict[str, Path]:
    """The files of an artefact by suffix, those that are there."""
    found = {Path(file).suffix.removeprefix("."): Path(file) for file in entry["files"]}
    return {suffix: path for suffix, path in found.items() if path.is_file()}


def tables(path: Path) -> list[dict[str, Any]]:
    """The tables of a Markdown file: `title`, `header` and `rows` of (text, bold)."""
    found: list[dict[str, Any]] = []
    title = ""
    for line in _text(path).splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
        elif line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                continue
            if not found or found[-1]["title"] != title:
                found.append({"title": title, "header": cells, "rows": []})
            else:
                found[-1]["rows"].append([_emphasis(cell) for cell in cells])
    return found


def _emphasis(cell: str) -> tuple[str, bool]:
    bold = len(cell) > 4 and cell.startswith("**") and cell.endswith("**")
    return (cell[2:-2] if bold else cell).replace("\\|", "|"), bold


def preview(path: Path) -> list[dict[str, Any]]:
    """The first rows of a CSV, as `tables`."""
    header, *rows = list(csv.reader(_text(path).splitlines())) or [[]]
    title = f"The first {PREVIEW} of {len(rows)} rows" if len(rows) > PREVIEW else ""
    shown = [[(cell, False) for cell in row] for row in rows[:PREVIEW]]
    return [{"title": title, "header": header, "rows": shown}]


def origin(entry: Entry, folder: Path) -> dict[str, Any]:
    """Where an artefact is from: libraries and inputs of its record, and `networks`, the runs and
    evaluations that it draws. `folder` is the output folder of the scale."""
    record = next(
        (
            found
            for path in files(entry).values()
            if (found := freshness.read_record(path.parent / f"{entry['id']}.made.json"))
        ),
        None,
    )
    came_from = record["from"] if record else {"libraries": {}, "data": {}}
    inputs = came_from["data"]
    return {
        "libraries": ", ".join(f"{k} {v}" for k, v in came_from["libraries"].items()),
        "inputs": [(n, sha[:16]) for n, sha in inputs.items() if ":" not in n],
        "networks": list(_networks(inputs, entry, folder)),
    }


def _networks(inputs: Mapping[str, str], entry: Entry, folder: Path) -> Iterator[dict[str, str]]:
    known = models.models()
    finders = {"evaluation": models.evaluation, "autoattack": models.autoattack, "run": models.run}
    for name in inputs:
        kind, _, model = name.partition(":")
        if kind in finders and model in known:
            path = finders[kind](known[model], folder, entry["scale"])
            if path.is_file():
                yield provenance(kind, model, _json(path))


def provenance(kind: str, model: str, result: Mapping[str, Any]) -> dict[str, str]:
    """Commit, seed, device, duration and versions of a run or an evaluation, a dash for what its
    file does not say."""
    place, code = result.get("environment", {}), result.get("code") or {}
    seconds = result.get("wall_seconds", result.get("seconds"))
    seed = result.get("configuration", {}).get("seed", result.get("seed"))
    changed = "+" if code.get("changed") else ""
    versions = [f"{name} {place[name]}" for name in ("torch", "python") if name in place]
    return {
        "kind": {"run": "training"}.get(kind, kind),
        "model": model,
        "commit": str(code.get("commit", ""))[:12] + changed or "–",
        "seed": "–" if seed is None else str(seed),
        "device": place.get("device_name") or place.get("device") or "–",
        "seconds": "–" if seconds is None else f"{seconds:.0f}",
        "versions": ", ".join(versions) or "–",
        "sha256": str(result.get("sha256", ""))[:16] or "–",
    }


def duration(seconds: float) -> str:
    """An estimated time in words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def obstacle(entry: Entry) -> str:
    """Why an artefact is not there, with the estimated time where one is known."""
    reasons = {
        "not run": "it cannot be made with the data that is here",
        "missing": "nobody asked for it yet",
        "stale": "what it came from has changed since",
    }
    why = reasons.get(entry["status"], "")
    if waits := entry.get("waits_for"):
        why = f"it waits for {waits}"
    seconds = entry.get("seconds_estimated")
    return f"{why}; about {duration(seconds)} on this machine" if seconds else why


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {one_line(str(error))}; make it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"cannot read {path}: {one_line(str(error))}; make it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no result of a network: make it again")
    return found
