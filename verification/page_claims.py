"""What an audit says, in words and rows: pure functions of the JSON that `dsnn audit` writes."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from verification.claims import limit
from verification.page_budget import largest, ledger_of
from verification.wording import above, below

MARKS = {"proved": "✓", "refuted": "✗", "unknown": "?"}


def interval(bound: Sequence[float | None], beyond: float | Fraction = math.inf) -> str:
    """[lower, upper], rounded outwards; an end that is not known is a dash. A lower end above
    `beyond` is shown above it, an upper end that is not is not."""
    lower, upper = bound
    low = "–" if lower is None else above(lower, beyond)
    high = "–" if upper is None else below(upper, beyond)
    return f"[{low}, {high}]"


def words(entry: Mapping[str, Any]) -> str:
    """The evidence of a claim entry as one line: its text, its hint, and where an open or proved
    bound goes."""
    evidence, refuted = entry["evidence"], entry["verdict"] == "refuted"
    budget = "" if refuted else largest(ledger_of(evidence), entry["module"])
    parts = [evidence["text"], budget, evidence.get("hint")]
    return "; ".join(part for part in parts if part)


def claim_rows(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per claim entry of an audit, ready to be shown. Rows name their arithmetic where there
    are several."""
    several = len({entry["arithmetic"] for entry in audit["claims"]}) > 1
    return [
        {
            "claim": entry["claim"],
            "module": entry["module"] or "whole network",
            "verdict": entry["verdict"],
            "mark": MARKS[entry["verdict"]],
            "arithmetic": entry["arithmetic"] if several else "",
            "bound": interval(entry["bound"], limit(entry["claim"])),
            "evidence": words(entry),
            "pieces": entry["evidence"].get("parts", []),
            "file": entry["evidence"].get("file"),
        }
        for entry in audit["claims"]
    ]


def arithmetic(audit: Mapping[str, Any]) -> str:
    """The arithmetics that the verdicts of an audit are about."""
    return " and ".join(sorted({entry["arithmetic"] for entry in audit["claims"]}))


def counted(entries: Sequence[Mapping[str, Any]], what: str) -> str:
    """How many claims about `what` hold, fail and stay open: a sentence without its full stop."""
    counts = {verdict: sum(e["verdict"] == verdict for e in entries) for verdict in MARKS}
    claims = "1 claim" if len(entries) == 1 else f"{len(entries)} claims"
    return (
        f"Of {claims} about {what}, {_are(counts['proved'])} proved, "
        f"{_are(counts['refuted'])} refuted by a replayed witness and "
        f"{_are(counts['unknown'])} undecided"
    )


def operator_rows(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per linear map that the module executes: its singular values lie in these intervals."""
    return [
        {**operator, "norm": interval(operator["norm"]), "smallest": interval(operator["smallest"])}
        for operator in audit["operators"]
    ]


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"
