"""What the report's first page says in words: pure functions of what it shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper_repro.site_artefacts import counts

Shown = Sequence[Mapping[str, Any]]


def summary(artefacts: Shown) -> str:
    """One sentence: how much is here, and how the compared numbers come out."""
    made = sum(artefact["status"] == "fresh" for artefact in artefacts)
    found = counts([row for artefact in artefacts for row in artefact["rows"]])
    total = sum(found.values())
    sentence = f"{made} of {len(artefacts)} figures, tables and results are here"
    if not total:
        return f"{sentence}; no number was compared yet."
    return (
        f"{sentence}. Of {total} comparisons with published numbers, {found['agrees']} agree "
        f"within their tolerance, {found['differs']} differ for a reason that is given, and "
        f"{found['not run']} have nothing of ours beside them."
    )


def reasons(rows: Shown) -> list[dict[str, Any]]:
    """Verdict and reason of the numbers that do not agree, with how many there are, most first."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["verdict"] != "agrees":
            grouped.setdefault((row["verdict"], row["reason"]), []).append(row["what"])
    found = [
        {"verdict": verdict, "reason": reason or "no reason is given", "count": len(what),
         "first": what[0]}
        for (verdict, reason), what in grouped.items()
    ]  # fmt: skip
    return sorted(found, key=lambda group: -group["count"])
