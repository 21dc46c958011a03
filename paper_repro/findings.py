"""What the results say, in words and in rows: pure functions of the JSON that commands write."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from paper_repro import published

_DIGITS = 4
_MARKS = {"proved": "✓", "refuted": "✗", "unknown": "?"}


def below(value: float) -> str:
    """`value` to four significant digits, rounded down: what a lower bound may be shown as."""
    return _rounded(value, ROUND_FLOOR)


def above(value: float) -> str:
    """`value` to four significant digits, rounded up: what an upper bound may be shown as."""
    return _rounded(value, ROUND_CEILING)


def _rounded(value: float, rounding: str) -> str:
    return f"{Context(prec=_DIGITS, rounding=rounding).create_decimal(Decimal(value)):g}"


def interval(bound: Sequence[float | None]) -> str:
    """[lower, upper], rounded outwards; an end that is not known is a dash."""
    lower, upper = bound
    low = "–" if lower is None else below(lower)
    high = "–" if upper is None else above(upper)
    return f"[{low}, {high}]"


def words(evidence: Any) -> str:
    """Evidence as one line: its `text` where it has one, else its plain entries."""
    if isinstance(evidence, str):
        return evidence
    if "text" in evidence:
        return str(evidence["text"])
    plain = {k: v for k, v in evidence.items() if isinstance(v, str | int | float)}
    return "; ".join(f"{name} {_short(value)}" for name, value in plain.items())


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def claim_rows(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per claim entry of an audit, ready to be shown."""
    return [
        {
            "claim": entry["claim"],
            "module": entry["module"] or "whole network",
            "verdict": entry["verdict"],
            "mark": _MARKS[entry["verdict"]],
            "bound": interval(entry["bound"]),
            "arithmetic": entry["arithmetic"],
            "evidence": words(entry["evidence"]),
        }
        for entry in audit["claims"]
    ]


def accuracy_rows(
    evaluation: Mapping[str, Any], regime: str, margin: str | None
) -> list[dict[str, Any]]:
    """A row per attack and epsilon of an evaluation, with the published accuracy beside it.

    `margin` None, or a data set the paper does not have, leaves the published column empty.
    """
    known: dict[float, float] = {}
    if margin is not None and evaluation["dataset"] in published.DATASETS:
        curve = published.curves(evaluation["dataset"])[regime, margin]
        known = dict(zip(curve.epsilons, curve.accuracies, strict=True))
    rows = []
    for result in evaluation["results"]:
        attacked = result["attack"] != "clean" or result["epsilon"] == 0
        accuracy = known.get(result["epsilon"]) if attacked else None
        count = None if accuracy is None else round(accuracy * published.IMAGES)
        comparable = evaluation["images"] == published.IMAGES and count is not None
        rows.append(
            {
                "attack": result["attack"],
                "epsilon": f"{result['epsilon']:.4g}",
                "images": evaluation["images"],
                "correct": result["correct"],
                "accuracy": f"{100 * result['accuracy']:.2f}",
                "certified": result["certified"],
                "published": "" if accuracy is None else f"{100 * accuracy:.2f}",
                "equal": comparable and count == result["correct"],
            }
        )
    return rows


def headline(audits: Sequence[Mapping[str, Any]], what: str) -> str:
    """One plain sentence: how many claims hold, fail and stay open, and the strongest refutation.

    `what` names the audited networks, as in "three published CIFAR-10 networks".
    """
    entries = [(audit, entry) for audit in audits for entry in audit["claims"]]
    counts = {v: sum(e["verdict"] == v for _, e in entries) for v in _MARKS}
    sentence = (
        f"Of {len(entries)} claims about {what}, {counts['proved']} "
        f"{_are(counts['proved'])} proved, {counts['refuted']} {_are(counts['refuted'])} refuted "
        f"by a replayed witness and {counts['unknown']} {_are(counts['unknown'])} undecided"
    )
    flows = [
        (entry["bound"][0], audit["name"], entry["module"])
        for audit, entry in entries
        if entry["verdict"] == "refuted" and entry["module"] and entry["bound"][0] is not None
    ]
    if flows:
        factor, name, module = max(flows)
        sentence += (
            f": {module} of the {name} network, meant to bring no two inputs further apart, "
            f"stretches a distance by a factor of at least {below(factor)}"
        )
    return f"{sentence}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
