"""The published robust accuracies and the areas under their curves, as the paper prints them."""

import csv
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from experiments.epsilons import PAPER_LIMIT

DATA = Path(__file__).parent / "data"
ROBUSTNESS = DATA / "published_robustness.csv"
AUC = DATA / "published_auc.csv"
VERSION_ONE = DATA / "published_v1.csv"
"""The baseline of the paper's first version, in the form of `ROBUSTNESS`."""

DATASETS = ("cifar10", "cifar100")
MARGINS = ("0.07", "0.15", "0.3")
IMAGES = PAPER_LIMIT
AUC_TOLERANCE = 5e-5
"""Half a unit of the last printed digit."""


@dataclass(frozen=True)
class Curve:
    """Robust accuracy (a fraction) of one network against the l2 perturbation of its pixels."""

    dataset: str
    regime: str
    margin: str
    epsilons: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def auc(self) -> float:
        """Area under the curve by the trapezoid rule, not divided by the range of epsilon."""
        points = list(zip(self.epsilons, self.accuracies, strict=True))
        return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(points))

    def at(self, epsilon: float) -> float:
        """The accuracy at one of the sizes."""
        return self.accuracies[self.epsilons.index(epsilon)]


def curves(dataset: str, path: Path = ROBUSTNESS) -> dict[tuple[str, str], Curve]:
    """Curves of `dataset` by (regime, margin), regimes in the order of the file."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["dataset"] == dataset:
                point = float(Fraction(row["epsilon"])), int(row["correct_of_1024"]) / IMAGES
                points.setdefault((row["regime"], row["margin"]), []).append(point)
    return {
        key: Curve(dataset, *key, *map(tuple, zip(*sorted(values), strict=True)))
        for key, values in points.items()
    }


def printed_auc(dataset: str, path: Path = AUC) -> dict[tuple[str, str], float]:
    """The published areas of `dataset` by (regime, margin)."""
    with path.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["dataset"] == dataset]
    return {(row["regime"], row["margin"]): float(row["auc"]) for row in rows}
