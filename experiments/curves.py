"""Accuracy against epsilon: certified, from the radii of the images, beside what attacks left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS = 256
"""Points at most of a certified curve in a result."""


@dataclass(frozen=True)
class Curve:
    """The share of images counted at each epsilon, increasing, l2 in pixels.

    Both kinds fall from one epsilon to the next, and neither says where in between. So draw a
    certified curve, a lower bound, with `drawstyle="steps-pre"`, and an attack's, an upper bound on
    what is robust, with "steps-post"; lines from point to point claim more than was computed.
    """

    epsilon: tuple[float, ...]
    accuracy: tuple[float, ...]


def certified_curve(radii: Sequence[float] | np.ndarray, points: int = POINTS) -> Curve:
    """Share of `radii`, one an image and 0 where there is none, strictly above epsilon.

    Every step of the curve where there are at most `points`, else as many in equal parts; each
    point is exact, the first is epsilon 0 and the last the largest radius.
    """
    ordered = np.sort(np.asarray(radii, dtype=np.float64))
    steps = np.unique(np.append(ordered, 0.0))
    if len(steps) > points:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, points).round().astype(int))]
    above = len(ordered) - np.searchsorted(ordered, steps, side="right")
    return Curve(tuple(steps.tolist()), tuple((above / len(ordered)).tolist()))


def curves(result: Mapping[str, Any]) -> dict[str, Curve]:
    """The curves of an evaluation's JSON, by name: "certified", and each attack that was run.

    Attacks count as in `correct`: survivors of every smaller epsilon too, for AutoAttack of the
    paper's attack as well.
    """
    found = {"certified": Curve(**{k: tuple(v) for k, v in result["certified_curve"].items()})}
    for attack in dict.fromkeys(row["attack"] for row in result["results"]):
        rows = [row for row in result["results"] if row["attack"] == attack]
        rows.sort(key=lambda row: row["epsilon"])
        found[attack] = Curve(
            tuple(row["epsilon"] for row in rows), tuple(row["accuracy"] for row in rows)
        )
    return found
