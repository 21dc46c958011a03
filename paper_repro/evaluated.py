"""Evaluations of networks as figures and tables read them: the paper's attack as a curve, the
points of AutoAttack, and the certified curve."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsnn.errors import UserError
from experiments.curves import Curve as Steps
from paper_repro.models import Model, Source, models
from paper_repro.published import Curve

SOURCES = {
    Source.published: "published weights",
    Source.retrained: "retrained",
    Source.certified: "certified",
}
NUMBERS = "published numbers"
"""The fourth source: what the paper prints."""


@dataclass(frozen=True)
class Point:
    """How many of `images` a network classifies rightly under an attack of size `epsilon`, with the
    95 % interval of the share."""

    epsilon: float
    correct: int
    images: int
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass(frozen=True)
class Evaluated:
    """What was found of a network on `dataset`; points in rising order, 0 being clean accuracy."""

    model: Model
    dataset: str
    protocol: str
    images: int
    paper: tuple[Point, ...]
    autoattack: tuple[Point, ...]
    certified: Steps
    shares: Mapping[float, float]
    """Certified accuracy at the sizes where every evaluation counts it."""
    sha256: str
    """Of the weights."""

    @property
    def curve(self) -> Curve:
        """Of the paper's attack."""
        points = [(point.epsilon, point.accuracy) for point in self.paper]
        return Curve(
            self.dataset,
            self.model.regime,
            self.model.margin,
            *map(tuple, zip(*points, strict=True)),
        )

    def at(self, epsilon: float) -> Point | None:
        """The paper's attack at one size."""
        return next((p for p in self.paper if abs(p.epsilon - epsilon) < 1e-9), None)


def evaluated(inputs: Mapping[str, Path]) -> dict[str, Evaluated]:
    """The evaluations among an artefact's inputs by the network's id, in the order of the inputs.
    AutoAttack on other weights, as where a kept network was trained again, is left out.

    Raises UserError on a file that is no evaluation, or one that contradicts itself.
    """
    known = models()
    named = [(*name.split(":", 1), path) for name, path in inputs.items() if ":" in name]
    found = {name: _read(known[name], path) for kind, name, path in named if kind == "evaluation"}
    for kind, name, path in named:
        if kind == "autoattack" and name in found:
            fewer, whole = _read(known[name], path), found[name]
            if (fewer.sha256, fewer.protocol) == (whole.sha256, whole.protocol):
                found[name] = replace(whole, autoattack=fewer.autoattack)
    return found


def _read(model: Model, path: Path) -> Evaluated:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["violations"]:
            raise UserError(
                f"{path} certifies more than attacks leave ({found['violations'][0]}): evaluate "
                "again, and report it if it stays"
            )
        return Evaluated(
            model,
            found["dataset"],
            found["protocol"],
            found["images"],
            _points(found, "pgd-paper", clean=True),
            _points(found, "autoattack"),
            Steps(**{key: tuple(values) for key, values in found["certified_curve"].items()}),
            {row["epsilon"]: row["accuracy"] for row in found["certified_accuracy"]},
            found["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {path}: it is no result of `dsnn evaluate --json FILE`; evaluate "
            f"{model.id} again"
        ) from error


def _points(found: Mapping[str, Any], attack: str, *, clean: bool = False) -> tuple[Point, ...]:
    """Those of one attack of size > 0 and, with `clean`, the clean one before them. A row has a
    number of images of its own where its attack saw fewer."""
    points = [
        Point(row["epsilon"], row["correct"], row.get("images", found["images"]), row["interval"])
        for row in found["results"]
        if (row["attack"] == attack and row["epsilon"] > 0)
        or (clean and row["attack"] == "clean" and row["epsilon"] == 0)
    ]
    return tuple(sorted(points, key=lambda point: point.epsilon))
