"""Evaluate a network on a test set: clean, attacked, certified, image by image.

Every result is a function of the weights, the images and the request alone, so an interrupted run
goes on where it stopped and a finished one does nothing twice.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dsnn.data.cifar import images_and_labels
from experiments import autoattack, counts, pieces
from experiments.curves import certified_curve
from experiments.epsilons import CERTIFIED, PAPER_LIMIT
from experiments.executed import Executed, device_named, exact_float32, memory_errors
from experiments.pieces import AUTOATTACK_SHARD, Subject, finite_or_none
from experiments.request import Request
from experiments.shards import Content, Key, Shard, Store
from experiments.table import Table, merge
from verification.bound import network_bound
from verification.radius import ARITHMETIC
from verification.second_order import smooth

CODE = 4
"""Raised whenever the meaning of a shard's content changes, so that old ones are not reused; the
key of a radius names the code that it comes from."""

Progress = Callable[[int, int, str], None]
"""Called with the shards done, their number, and what was just done."""


@dataclass(frozen=True)
class Evaluation:
    """The JSON of the evaluation, the table beside it, and where the chain certified <= AutoAttack
    <= PGD <= clean fails: a line an image, none unless something is wrong with us."""

    result: dict[str, Any]
    table: Table
    violations: tuple[str, ...]


def evaluate(request: Request, progress: Progress = lambda done, total, what: None) -> Evaluation:
    """Compute the shards of `request` that are missing, and merge them.

    Raises UserError on bad input; the caller reports `violations`.
    """
    request.check()
    with exact_float32(), memory_errors(request.device, request.out):
        subject = _subject(request)
        if "autoattack" in request.attacks:
            autoattack.check(subject.model, subject.images[:8])
        shards, sample = _shards(request, subject, progress)
    table = merge(shards)
    violations = tuple(table.violations()) + tuple(
        f"image {index} is certified but was broken by {sample.content['attack']} at its radius"
        for index in sample.content["broken_index"]
    )
    rows = [counts.row(table, shards, attack, epsilon) for attack, epsilon in request.rows()]
    result = {
        "target": request.target or str(request.loaded.path),
        "arch": request.loaded.card.arch,
        "sha256": request.loaded.sha256,
        "file_sha256": request.loaded.file_sha256,
        "dataset": request.dataset,
        "protocol": request.protocol,
        "mean": list(subject.mean),
        "std": list(subject.std),
        "lipschitz_pixel": finite_or_none(subject.lipschitz),
        **({} if subject.body is None else {"body_pixel": finite_or_none(subject.body)}),
        "certified_arithmetic": ARITHMETIC,
        "images": len(table.index),
        "seed": request.seed,
        "environment": {
            "device": subject.images.device.type,
            "arithmetic": "float32",
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "results": rows,
        "certified_accuracy": [counts.certified(table.radius, epsilon) for epsilon in CERTIFIED],
        "certified_by_constant": [
            counts.certified(table.by_constant, epsilon) for epsilon in CERTIFIED
        ],
        "certified_curve": vars(certified_curve(table.radius)),
        "certified_sample": {**sample.content, "attacked": len(sample.content["index"])},
        "warnings": counts.warnings(rows),
        "violations": list(violations),
    }
    return Evaluation(result, table, violations)


def _subject(request: Request) -> Subject:
    device = device_named(request.device)
    images, labels = images_and_labels(request.dataset, "test", request.folder)
    limit = request.limit
    if limit is None:
        limit = PAPER_LIMIT if request.attacked else len(images)
    loaded, (mean, std) = request.loaded, request.statistics
    bound = network_bound(loaded.net, std)
    around = smooth(loaded.net) if std == (1.0, 1.0, 1.0) else None
    return Subject(
        model=Executed(loaded.net, mean, std, device),
        mean=mean,
        std=std,
        lipschitz=bound.lipschitz_pixel,
        body=bound.body_pixel,
        around=around,
        images=images[:limit].to(device),
        labels=labels[:limit].to(device),
        key={
            "code": CODE,
            "weights": loaded.sha256,
            "arch": loaded.card.arch,
            "signed_steps": loaded.card.signed_steps,
            "mean": list(mean),
            "std": list(std),
            "dataset": request.dataset,
            "device": device.type,
        },
    )


def _shards(request: Request, subject: Subject, progress: Progress) -> tuple[list[Shard], Shard]:
    """The shards of all images, and that of the certified sample."""
    store = Store(request.out / "shards")
    pgd = [e for attack, e in request.rows() if attack == "pgd-paper" and e > 0]
    auto = [e for attack, e in request.rows() if attack == "autoattack" and e > 0]
    parts = list(subject.pieces())
    small = list(subject.pieces(AUTOATTACK_SHARD[subject.images.device.type]))
    total = len(parts) * (1 + len(pgd)) + len(small) * len(auto) + 1
    shards: list[Shard] = []

    def settle(what: str, key: Key, compute: Callable[[], Content]) -> None:
        shards.append(store.read(key) or store.write(Shard(key, compute())))
        progress(len(shards), total, what)

    for piece in parts:
        key = pieces.clean_key(subject, piece)
        settle("clean", key, lambda p=piece: pieces.clean(subject, p))
        for epsilon in pgd:
            key = pieces.pgd_key(piece, epsilon, request.seed)
            what = f"pgd-paper at {epsilon:.4g}"
            settle(what, key, lambda p=piece, k=key: pieces.pgd(subject, p, k))
    table = merge(shards)
    for piece in small:
        for epsilon in auto:
            key = pieces.autoattack_key(piece, table, epsilon, request.seed)
            what = f"autoattack at {epsilon:.4g}"
            settle(what, key, lambda p=piece, k=key: pieces.run_autoattack(subject, p, k))
    key = pieces.sample_key(subject, table, request.seed)
    settle("certified sample", key, lambda: pieces.sample(subject, key))
    return shards[:-1], shards[-1]
