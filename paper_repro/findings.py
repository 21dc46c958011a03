"""What the results say, in words and in rows: pure functions of the JSON that commands write."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper_repro import published
from verification.wording import at_least, at_most

_MARKS = {"proved": "✓", "refuted": "✗", "unknown": "?"}


def interval(bound: Sequence[float | None]) -> str:
    """[lower, upper], rounded outwards; an end that is not known is a dash."""
    lower, upper = bound
    low = "–" if lower is None else at_least(lower)
    high = "–" if upper is None else at_most(upper)
    return f"[{low}, {high}]"


def words(evidence: Mapping[str, Any]) -> str:
    """Evidence as one line: its text, its hint, and the product a whole network's bound is."""
    parts = [evidence["text"], _product(evidence.get("ledger")), evidence.get("hint")]
    return "; ".join(part for part in parts if part)


def _product(ledger: Mapping[str, Any] | None) -> str:
    """The factors of a network's constant by kind [T11], or nothing for another constant."""
    values = ledger["values"] if ledger else {}
    if "head_max" not in values:
        return ""
    stages = [name.removeprefix("scale_") for name in values if name.startswith("scale_")]
    lifts = [abs(values[f"scale_{stage}"]) * values[f"lift_max_{stage}"] for stage in stages]
    flows = [values[f"flow_max_{stage}"] for stage in stages]
    factors = {"lifts": lifts, "flows": flows, "head": [values["head_max"]]}
    if "std_min" in values:
        factors["input normalisation"] = [1 / values["std_min"]]
    shown = [f"{name} {' · '.join(map(at_most, numbers))}" for name, numbers in factors.items()]
    return f"product of {', '.join(shown)}"


def claim_rows(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per claim entry of an audit, ready to be shown."""
    return [
        {
            "claim": entry["claim"],
            "module": entry["module"] or "whole network",
            "verdict": entry["verdict"],
            "mark": _MARKS[entry["verdict"]],
            "bound": interval(entry["bound"]),
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
            f"stretches a distance by a factor of at least {at_least(factor)}"
        )
    return f"{sentence}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
