"""Evaluate a network on a test set: clean, attacked, certified, image by image.

`Request` says what to do, `evaluate` computes the shards that are missing and merges them. Every
result is a function of the weights, the images and the request alone, so an interrupted run goes
on where it stopped and a finished one does nothing twice.
"""

import hashlib
import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsnn.data.cifar import CLASSES, check_dataset, images_and_labels
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import published_evaluation
from dsnn.errors import UserError
from dsnn.weights import Loaded
from experiments import attacks, epsilons
from experiments.executed import Channels, Executed, device_named, exact_float32
from experiments.shards import Content, Key, Shard, Store, seed_of
from experiments.table import Table, merge
from verification.bound import network_bound
from verification.radius import ARITHMETIC, certified_radii

ATTACKS = ("clean", "pgd-paper")
PROTOCOLS = ("consistent", "published")
SHARD = 128
"""Images a shard."""
PAPER_LIMIT = 1024
"""Images the paper attacks: the first of the test set, in published order."""
SAMPLE = 16
"""Certified images attacked at their radius."""
CODE = 1
"""Raised whenever the meaning of a shard's content changes, so that old ones are not reused."""

Progress = Callable[[int, int, str], None]
"""Called with the shards done, their number, and what was just done."""


@dataclass(frozen=True)
class Request:
    """What to evaluate. `epsilons` and `limit` None stand for the defaults of the attacks."""

    loaded: Loaded
    dataset: str
    folder: DataFolder
    attacks: tuple[str, ...] = ("clean",)
    epsilons: tuple[float, ...] | None = None
    protocol: str = "consistent"
    limit: int | None = None
    device: str = "cpu"
    seed: int = 0
    out: Path = Path("out/evaluate")

    @property
    def statistics(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation the inputs are normalised with, by protocol."""
        card = self.loaded.card
        if self.protocol == "published":
            return published_evaluation(card.arch, self.dataset)
        return card.mean, card.std

    def rows(self) -> list[tuple[str, float]]:
        """The (attack, epsilon) of every row of the result."""
        chosen = self.epsilons
        attacked = epsilons.PAPER if chosen is None else chosen
        clean = sorted({0.0, *(chosen or ())}) if "pgd-paper" not in self.attacks else [0.0]
        by_attack = {"clean": clean, "pgd-paper": attacked}
        return [
            (attack, e) for attack in ATTACKS if attack in self.attacks for e in by_attack[attack]
        ]

    def check(self) -> None:
        """Raise UserError on what cannot be evaluated, before any long work."""
        card, classes = self.loaded.card, self.loaded.net.classes
        check_dataset(self.dataset)
        if classes != CLASSES[self.dataset]:
            raise UserError(
                f"{self.loaded.path} has a head for {classes} classes, {self.dataset} has "
                f"{CLASSES[self.dataset]}: choose --dataset {card.dataset}"
            )
        if card.dataset != self.dataset:
            raise UserError(
                f"{self.loaded.path} was trained on {card.dataset}: choose --dataset {card.dataset}"
            )


@dataclass(frozen=True)
class Evaluation:
    """The result: the JSON of the design, the table beside it, and how many shards were new."""

    result: dict[str, Any]
    table: Table
    violations: tuple[str, ...]
    computed: int


@dataclass(frozen=True)
class _Subject:
    """The executed network, the images, and what every shard's key says of them."""

    model: Executed
    images: Tensor
    labels: Tensor
    key: Key

    def part(self, start: int, stop: int) -> tuple[Tensor, Tensor, Key]:
        """Images and labels of one shard, with the key's part that names them."""
        images, labels = self.images[start:stop], self.labels[start:stop]
        digest = hashlib.sha256(images.cpu().numpy().tobytes() + labels.cpu().numpy().tobytes())
        return (
            images,
            labels,
            {**self.key, "start": start, "stop": stop, "sha256": digest.hexdigest()},
        )


def evaluate(request: Request, progress: Progress = lambda done, total, what: None) -> Evaluation:
    """Run `request`. Raises UserError on bad input; the caller reports `violations`."""
    request.check()
    device = device_named(request.device)
    images, labels = images_and_labels(request.dataset, "test", request.folder)
    limit = request.limit
    if limit is None:
        limit = PAPER_LIMIT if "pgd-paper" in request.attacks else len(images)
    mean, std = request.statistics
    lipschitz = network_bound(request.loaded.net, std).lipschitz_pixel
    card = request.loaded.card
    key = {
        "code": CODE,
        "weights": request.loaded.sha256,
        "arch": card.arch,
        "signed_steps": card.signed_steps,
        "mean": list(mean),
        "std": list(std),
        "dataset": request.dataset,
        "device": device.type,
    }
    subject = _Subject(
        model=Executed(request.loaded.net, mean, std, device),
        images=images[:limit].to(device),
        labels=labels[:limit].to(device),
        key=key,
    )
    with exact_float32():
        shards, sample, computed = _compute(request, subject, lipschitz, progress)
    table = merge(shards)
    violations = (*table.violations(), *_sample_violations(sample))
    result = {
        "target": str(request.loaded.path),
        "arch": card.arch,
        "sha256": request.loaded.sha256,
        "file_sha256": request.loaded.file_sha256,
        "dataset": request.dataset,
        "protocol": request.protocol,
        "mean": list(mean),
        "std": list(std),
        "lipschitz_pixel": _finite(lipschitz),
        "certified_arithmetic": ARITHMETIC,
        "images": len(table.index),
        "seed": request.seed,
        "environment": {
            "device": device.type,
            "arithmetic": "float32",
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "results": [_row(table, attack, epsilon) for attack, epsilon in request.rows()],
        "certified_sample": {**sample.content, "attacked": len(sample.content["index"])},
        "violations": list(violations),
    }
    return Evaluation(result, table, violations, computed)


def _finite(value: float) -> float | None:
    """JSON has no infinity and no NaN: None stands for them."""
    return value if math.isfinite(value) else None


def _row(table: Table, attack: str, epsilon: float) -> dict[str, Any]:
    survived = table.survived(attack, epsilon)
    row = {
        "attack": attack,
        "epsilon": epsilon,
        "correct": int(survived.sum()),
        "accuracy": float(survived.mean()),
        "certified": int(table.certified(epsilon).sum()),
    }
    if attack != "clean":
        row["correct_alone"] = int(table.survived_alone(attack, epsilon).sum())
    return row


def _compute(
    request: Request, subject: _Subject, lipschitz: float, progress: Progress
) -> tuple[list[Shard], Shard, int]:
    """All shards of the request, the certified sample, and how many had to be computed."""
    store, shards, computed, done = Store(request.out / "shards"), [], 0, 0
    attacked = [e for attack, e in request.rows() if attack == "pgd-paper" and e > 0]
    count = len(subject.images)
    total = -(-count // SHARD) * (1 + len(attacked)) + 1

    def settle(what: str, key: Key, compute: Callable[[], Content]) -> Shard:
        nonlocal computed, done
        shard, new = store.get(key, compute)
        computed, done = computed + new, done + 1
        progress(done, total, what)
        return shard

    for images, labels, key in _parts(subject):
        clean_key = {**key, "kind": "clean", "lipschitz_pixel": _finite(lipschitz)}
        clean = settle(
            "clean", clean_key, lambda i=images, y=labels: _clean(request, subject, i, y, lipschitz)
        )
        shards.append(clean)
        for epsilon in attacked:
            attack_key = {
                **key,
                "kind": "pgd-paper",
                "epsilon": epsilon,
                "steps": attacks.PAPER.steps,
                "rel_stepsize": attacks.PAPER.rel_stepsize,
                "seed": request.seed,
            }
            shards.append(
                settle(
                    f"pgd-paper at {epsilon:.4g}",
                    attack_key,
                    lambda i=images, y=labels, k=attack_key: _attack(subject.model, i, y, k),
                )
            )
    table = merge(shards)
    key = _sample_key(request, subject, table)
    sample = settle("certified sample", key, lambda: _attack_at_radius(subject, key))
    return shards, sample, computed


def _parts(subject: _Subject) -> Iterator[tuple[Tensor, Tensor, Key]]:
    for start in range(0, len(subject.images), SHARD):
        yield subject.part(start, min(start + SHARD, len(subject.images)))


def _clean(
    request: Request, subject: _Subject, images: Tensor, labels: Tensor, lipschitz: float
) -> Content:
    """Prediction, logit margin (None unless finite) and certified radius of each image."""
    with torch.no_grad():
        logits = subject.model(images)
    own = logits.double().gather(1, labels[:, None])[:, 0]
    others = logits.double().scatter(1, labels[:, None], -torch.inf).amax(1)
    margins = torch.where(logits.isfinite().all(1), own - others, torch.nan).tolist()
    mean, std = request.statistics
    radii = certified_radii(subject.model.net, images, labels, mean, std, lipschitz)
    return {
        "label": labels.tolist(),
        "prediction": logits.argmax(1).tolist(),
        "margin": [_finite(margin) for margin in margins],
        "radius": [float(radius) for radius in radii],
    }


def _attack(model: Executed, images: Tensor, labels: Tensor, key: Key) -> Content:
    """Which images of a shard the paper's attack breaks; those misclassified are not attacked."""
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    broken = torch.zeros(len(images), dtype=torch.bool)
    if right.any():
        outcome = attacks.l2_pgd(
            model, images[right], labels[right], key["epsilon"], seed_of(key), attacks.PAPER
        )
        broken[right.cpu()] = outcome.broken.cpu()
    return {"broken": broken.tolist()}


def _sample_key(request: Request, subject: _Subject, table: Table) -> Key:
    """The key of the sample of certified images, chosen by the seed, that is attacked."""
    certified = np.flatnonzero(table.certified(0.0))
    chosen = np.random.default_rng(request.seed).permutation(certified)[:SAMPLE]
    rows = sorted(chosen.tolist())
    digest = hashlib.sha256(subject.images[rows].cpu().numpy().tobytes())
    return {
        **subject.key,
        "kind": "certified-sample",
        "sha256": digest.hexdigest(),
        "index": [int(table.index[i]) for i in rows],
        "label": [int(table.label[i]) for i in rows],
        "radius": [float(table.radius[i]) for i in rows],
        "steps": attacks.AT_RADIUS.steps,
        "rel_stepsize": attacks.AT_RADIUS.rel_stepsize,
        "seed": request.seed,
    }


def _attack_at_radius(subject: _Subject, key: Key) -> Content:
    """Attack each image of the sample at the largest double below its own radius."""
    broken = []
    for index, label, radius in zip(key["index"], key["label"], key["radius"], strict=True):
        image = subject.images[index][None]
        labels = torch.tensor([label], device=image.device)
        epsilon = float(np.nextafter(radius, 0))
        seed = seed_of({**key, "image": index})
        outcome = attacks.l2_pgd(subject.model, image, labels, epsilon, seed, attacks.AT_RADIUS)
        broken.append(bool(outcome.broken[0]))
    return {
        "attack": f"L2PGD, {key['steps']} steps of {key['rel_stepsize']} radius, random start",
        "index": key["index"],
        "radius": key["radius"],
        "broken": sum(broken),
        "broken_index": [i for i, found in zip(key["index"], broken, strict=True) if found],
    }


def _sample_violations(sample: Shard) -> list[str]:
    return [
        f"image {index} is certified but was broken by {sample.content['attack']} at its radius"
        for index in sample.content["broken_index"]
    ]
