"""What the results say, in words and in rows: pure functions of the JSON that commands write."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper_repro import published
from verification import page_claims
from verification.wording import at_least


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
    sentence = page_claims.counted([entry for _, entry in entries], what)
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
