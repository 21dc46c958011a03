"""What one shard holds: its key, and how its content is computed."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dsnn.data.statistics import Channels
from experiments import attacks, autoattack
from experiments.epsilons import CERTIFIED
from experiments.executed import Executed
from experiments.shards import Content, Key, seed_of
from experiments.sources import content_hash, sources
from experiments.table import Table
from verification.radius import radii
from verification.second_order import Smooth

SHARD = 128
"""Images a shard."""
AUTOATTACK_SHARD = {"cpu": 8, "cuda": 128}
"""The same for AutoAttack, which takes minutes for an image on a CPU, by kind of device."""
SAMPLE = 16
"""Certified images attacked at their radius."""
DECIDING = ("dsnn.models", "verification.radius", "verification.second_order")
"""What a radius comes from, with all that these modules import."""


@cache
def radius_code() -> str:
    """The SHA-256 of the sources of `DECIDING`: radii of other code are computed again."""
    files = {path for module in DECIDING for path in sources(module).values()}
    return hashlib.sha256("".join(sorted(map(content_hash, files))).encode()).hexdigest()


@dataclass(frozen=True)
class Piece:
    """Some images (B, 3, 32, 32), their labels (B,), and the part of a key that names them."""

    images: Tensor
    labels: Tensor
    key: Key


@dataclass(frozen=True)
class Subject:
    """The executed network with its statistics and its Lipschitz bound in pixels, the images and
    labels it is evaluated on, and what every key says of them. `body` is the bound of all before
    the head, where radii come from the head's rows, and `around` what margins lose around an image
    where the steps are smooth."""

    model: Executed
    mean: Channels
    std: Channels
    lipschitz: float
    images: Tensor
    labels: Tensor
    key: Key
    body: float | None = None
    around: Smooth | None = None

    def pieces(self, size: int = SHARD) -> Iterator[Piece]:
        """All images, `size` at a time."""
        for start in range(0, len(self.images), size):
            images, labels = self.images[start : start + size], self.labels[start : start + size]
            place = {"start": start, "stop": start + len(images), "sha256": _sha256(images, labels)}
            yield Piece(images, labels, {**self.key, **place})


def _sha256(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(t.cpu().numpy().tobytes() for t in tensors)).hexdigest()


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity and no NaN: None stands for them."""
    return value if math.isfinite(value) else None


def clean_key(subject: Subject, piece: Piece) -> Key:
    key = {
        **piece.key,
        "kind": "clean",
        "radii": radius_code(),
        "lipschitz_pixel": finite_or_none(subject.lipschitz),
    }
    return key if subject.body is None else {**key, "body_pixel": finite_or_none(subject.body)}


def clean(subject: Subject, piece: Piece) -> Content:
    """Prediction, logit margin (None unless all logits are finite) and certified radius (l2 in
    pixels, rounded down, 0 when misclassified) of each image."""
    with torch.no_grad():
        logits = subject.model(piece.images)
    chosen = piece.labels[:, None]
    own = logits.double().gather(1, chosen)[:, 0]
    others = logits.double().scatter(1, chosen, -torch.inf).amax(1)
    margins = torch.where(logits.isfinite().all(1), own - others, torch.nan).tolist()
    found = radii(
        subject.model.net,
        piece.images,
        piece.labels,
        subject.mean,
        subject.std,
        subject.lipschitz if subject.body is None else subject.body,
        None if subject.body is None else subject.model.net.get_parameter("head.weight"),
        subject.around,
        CERTIFIED,
    )
    return {
        "label": piece.labels.tolist(),
        "prediction": logits.argmax(1).tolist(),
        "margin": [finite_or_none(margin) for margin in margins],
        "radius": found.largest.tolist(),
        "radius_by_constant": found.by_constant.tolist(),
    }


def pgd_key(piece: Piece, epsilon: float, seed: int) -> Key:
    settings = {
        "steps": attacks.PAPER.steps,
        "rel_stepsize": attacks.PAPER.rel_stepsize,
        "library": attacks.LIBRARY,
    }
    return {**piece.key, "kind": "pgd-paper", "epsilon": epsilon, **settings, "seed": seed}


def pgd(subject: Subject, piece: Piece, key: Key) -> Content:
    """Which images the paper's attack breaks; those misclassified are not attacked."""
    with torch.no_grad():
        right = subject.model(piece.images).argmax(1) == piece.labels
    broken = torch.zeros(len(piece.images), dtype=torch.bool)
    if right.any():
        images, labels = piece.images[right], piece.labels[right]
        outcome = attacks.l2_pgd(
            subject.model, images, labels, key["epsilon"], seed_of(key), attacks.PAPER
        )
        broken[right.cpu()] = outcome.broken.cpu()
    return {"broken": broken.tolist()}


def autoattack_key(piece: Piece, table: Table, epsilon: float, seed: int) -> Key:
    """With the images that are attacked: those of `table`, the clean one, that are classified
    rightly and not certified at `epsilon`. Whether another attack broke one is not asked, so that
    either attack's count is its own."""
    passed = table.clean & ~table.certified(epsilon)
    passed &= (table.index >= piece.key["start"]) & (table.index < piece.key["stop"])
    return {
        **piece.key,
        "kind": "autoattack",
        "epsilon": epsilon,
        "version": f"standard L2, {autoattack.PACKAGE} {autoattack.version()}",
        "index": table.index[passed].tolist(),
        "seed": seed,
    }


def run_autoattack(subject: Subject, piece: Piece, key: Key) -> Content:
    """Which images AutoAttack breaks and which of its attacks did, which of those it was given
    have no gradient."""
    rows = [index - key["start"] for index in key["index"]]
    by: list[str | None] = [None] * len(piece.images)
    blind = [False] * len(piece.images)
    if rows:
        images, labels = piece.images[rows], piece.labels[rows]
        found = autoattack.autoattack(subject.model, images, labels, key["epsilon"], seed_of(key))
        for row, name, zero in zip(rows, found.by, found.zero_gradient, strict=True):
            by[row], blind[row] = name, zero
    return {"broken": [name is not None for name in by], "by": by, "zero_gradient": blind}


def sample_key(subject: Subject, table: Table, seed: int) -> Key:
    """The key of the sample of certified images, drawn by `seed`, that is attacked."""
    certified = np.flatnonzero(table.certified(0.0))
    rows = sorted(np.random.default_rng(seed).permutation(certified)[:SAMPLE].tolist())
    return {
        **subject.key,
        "kind": "certified-sample",
        "sha256": _sha256(subject.images[rows]),
        "index": [int(table.index[i]) for i in rows],
        "label": [int(table.label[i]) for i in rows],
        "radius": [float(table.radius[i]) for i in rows],
        "steps": attacks.AT_RADIUS.steps,
        "rel_stepsize": attacks.AT_RADIUS.rel_stepsize,
        "margin": attacks.AT_RADIUS.margin,
        "library": attacks.LIBRARY,
        "seed": seed,
    }


def sample(subject: Subject, key: Key) -> Content:
    """Attack each image of the sample at the largest double below its own radius."""
    broken = []
    for index, label, radius in zip(key["index"], key["label"], key["radius"], strict=True):
        outcome = attacks.l2_pgd(
            subject.model,
            subject.images[index : index + 1],
            torch.tensor([label], device=subject.images.device),
            min(float(np.nextafter(radius, 0)), attacks.FARTHEST),
            seed_of({**key, "image": index}),
            attacks.AT_RADIUS,
        )
        broken.append(bool(outcome.broken[0]))
    return {
        "attack": f"L2PGD, {key['steps']} steps of {key['rel_stepsize']} radius on the logit "
        "margin, random start",
        "index": key["index"],
        "radius": key["radius"],
        "broken": sum(broken),
        "broken_index": [i for i, found in zip(key["index"], broken, strict=True) if found],
    }
