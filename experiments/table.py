"""The per-image table of an evaluation: merged from shards, counted, and checked as a chain."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiments.shards import Shard

COUNTED_WITH = {"autoattack": ("autoattack", "pgd-paper")}
"""Attacks that an image has to survive for it to count for another, itself alone otherwise: so
AutoAttack, which is the stronger one, never counts more survivors than the paper's attack."""


@dataclass(frozen=True)
class Table:
    """One row an image, ordered by index; `broken[(attack, epsilon)]` says where one was found."""

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    margin: np.ndarray
    radius: np.ndarray
    by_constant: np.ndarray
    broken: dict[tuple[str, float], np.ndarray]

    @property
    def clean(self) -> np.ndarray:
        """Classified rightly, with finite logits."""
        return (self.prediction == self.label) & np.isfinite(self.margin)

    def certified(self, epsilon: float) -> np.ndarray:
        """Certified radius strictly greater than `epsilon`."""
        return self.radius > epsilon

    def survived_alone(self, attack: str, epsilon: float) -> np.ndarray:
        """Classified rightly, and no adversarial example found by the attack at this epsilon."""
        broken = self.broken.get((attack, epsilon))
        return self.clean if broken is None else self.clean & ~broken

    def survived(self, attack: str, epsilon: float) -> np.ndarray:
        """As `survived_alone`, at this and at every smaller epsilon of the table, and by all
        attacks that it is counted with."""
        survivors = self.clean.copy()
        for name, smaller in self.broken:
            if name in COUNTED_WITH.get(attack, (attack,)) and smaller <= epsilon:
                survivors &= self.survived_alone(name, smaller)
        return survivors

    def violations(self) -> list[str]:
        """Where certified <= AutoAttack <= PGD <= clean fails, a line an image; empty unless we
        err, in a bound, in an attack or in counting."""
        lines = []
        for i in np.flatnonzero((self.radius > 0) & ~self.clean):
            lines.append(
                f"image {self.index[i]} is certified (radius {self.radius[i]:.6g}) "
                f"but predicted {self.prediction[i]}, label {self.label[i]}"
            )
        for (attack, epsilon), broken in sorted(self.broken.items()):
            for i in np.flatnonzero(broken & self.certified(epsilon)):
                lines.append(
                    f"image {self.index[i]} is certified to radius {self.radius[i]:.6g} but "
                    f"{attack} found an adversarial example within {epsilon:.6g}"
                )
        return lines + self._out_of_order()

    def _out_of_order(self) -> list[str]:
        """Where what is counted is no chain: an image in one count and not in the next larger."""
        lines = []
        for epsilon in sorted({epsilon for _, epsilon in self.broken}):
            attacks = [
                name for name in ("autoattack", "pgd-paper") if (name, epsilon) in self.broken
            ]
            chain = [(name, self.survived(name, epsilon)) for name in attacks]
            chain.append(("clean", self.clean))
            for (name, fewer), (beside, more) in pairwise(chain):
                for i in np.flatnonzero(fewer & ~more):
                    lines.append(
                        f"image {self.index[i]} counts as right under {name} at {epsilon:.6g} "
                        f"but not under {beside}"
                    )
        return lines

    def to_csv(self) -> str:
        """The table as CSV; truth values as 0 and 1, an unknown margin as an empty field."""
        attacks = sorted(self.broken)
        header = ["index", "label", "prediction", "margin", "radius", "clean"]
        columns = [self.clean]
        for attack, epsilon in attacks:
            header += [f"{attack}@{epsilon!r}", f"{attack}@{epsilon!r} alone"]
            columns += [self.survived(attack, epsilon), self.survived_alone(attack, epsilon)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for i, index in enumerate(self.index):
            margin = repr(float(self.margin[i])) if np.isfinite(self.margin[i]) else ""
            row = [index, self.label[i], self.prediction[i], margin, repr(float(self.radius[i]))]
            writer.writerow([*row, *(int(column[i]) for column in columns)])
        return text.getvalue()


def merge(shards: Iterable[Shard]) -> Table:
    """The table of a set of clean and attack shards: the same whatever their order.

    Every attack must cover the images of the clean shards.
    """
    ordered = sorted(shards, key=lambda shard: shard.key["start"])
    clean = [shard for shard in ordered if shard.key["kind"] == "clean"]

    def column(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(s.content[name], dtype=dtype) for s in clean])

    index = np.concatenate([np.arange(s.key["start"], s.key["stop"]) for s in clean])
    pieces: dict[tuple[str, float], list[np.ndarray]] = {}
    for shard in ordered:
        if shard.key["kind"] != "clean":
            name = (shard.key["kind"], shard.key["epsilon"])
            pieces.setdefault(name, []).append(np.asarray(shard.content["broken"], dtype=bool))
    broken = {name: np.concatenate(parts) for name, parts in sorted(pieces.items())}
    if any(len(found) != len(index) for found in broken.values()):
        raise ValueError("attack shards do not cover the images of the clean shards")
    return Table(
        index=index,
        label=column("label", np.int64),
        prediction=column("prediction", np.int64),
        margin=column("margin", np.float64),
        radius=column("radius", np.float64),
        by_constant=column("radius_by_constant", np.float64),
        broken=broken,
    )
