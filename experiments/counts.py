"""What a result counts: survivors, certified images, their intervals, and reasons for doubt."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.stats import binomtest

from experiments.autoattack import STANDARD
from experiments.shards import Shard
from experiments.table import Table


def row(table: Table, shards: list[Shard], attack: str, epsilon: float) -> dict[str, Any]:
    """What a result says of one attack at one epsilon; `shards` are those merged into `table`."""
    survived = table.survived(attack, epsilon)
    counts = {
        "attack": attack,
        "epsilon": epsilon,
        "correct": int(survived.sum()),
        "accuracy": float(survived.mean()),
        "interval": interval(int(survived.sum()), len(survived)),
        "certified": int(table.certified(epsilon).sum()),
    }
    if attack != "clean":
        counts["correct_alone"] = int(table.survived_alone(attack, epsilon).sum())
    if attack == "autoattack" and epsilon > 0:
        counts |= _autoattack(table, shards, epsilon)
    return counts


def certified(radii: np.ndarray, epsilon: float) -> dict[str, Any]:
    """What a result says of the images whose radius is above one epsilon."""
    count, images = int((radii > epsilon).sum()), len(radii)
    share = {"accuracy": count / images, "interval": interval(count, images)}
    return {"epsilon": epsilon, "certified": count, **share}


def interval(count: int, images: int) -> list[float]:
    """The exact (Clopper-Pearson) 95 % interval of a share, the images being a random sample."""
    found = binomtest(count, images).proportion_ci(0.95, method="exact")
    return [float(found.low), float(found.high)]


def _autoattack(table: Table, shards: list[Shard], epsilon: float) -> dict[str, Any]:
    """How many images were attacked, which attack broke how many, and what AutoAttack missed."""
    name = ("autoattack", epsilon)
    found = [s for s in shards if (s.key["kind"], s.key.get("epsilon")) == name]
    by = Counter(attack for shard in found for attack in shard.content["by"])
    paper = table.broken.get(("pgd-paper", epsilon), np.zeros_like(table.clean))
    return {
        "attacked": sum(len(shard.key["index"]) for shard in found),
        "broken_by": {attack: by[attack] for attack in STANDARD},
        "broken_by_pgd_paper_only": int((paper & table.survived_alone(*name)).sum()),
        "zero_gradient": sum(sum(shard.content["zero_gradient"]) for shard in found),
    }


def warnings(rows: list[dict[str, Any]]) -> list[str]:
    """What makes an attack's outcome doubtful, a line each."""
    lines = []
    for row in rows:
        if row.get("zero_gradient"):
            lines.append(
                f"{row['zero_gradient']} of {row['attacked']} images attacked have an all-zero "
                "gradient (masking): attacks that follow gradients are blind there"
            )
        if row.get("broken_by", {}).get("square"):
            lines.append(
                f"at {row['epsilon']:.4g} Square, which needs no gradient, broke "
                f"{row['broken_by']['square']} images that the other attacks did not: gradients "
                "may be masked"
            )
    return list(dict.fromkeys(lines))
