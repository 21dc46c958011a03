"""Training of the certified networks: settings by scale, and the task that the loop carries out."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import torch
from torch import nn

from dsnn.data.cifar import CLASSES, pixels_and_labels
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import SIDE, Channels, training
from dsnn.errors import UserError
from dsnn.models import CERTIFIED, CertifiedNet, Sizes, build_certified
from dsnn.training.certified import CertifiedStep, finalise
from dsnn.training.constructed import CONSTRUCTIONS, construct
from dsnn.training.engine import Plan
from dsnn.training.images import ResidentImages
from dsnn.training.precision import fastest_dtype
from dsnn.training.schedule import WarmupLinear
from dsnn.weights import Card, save
from experiments.result import EpochMetrics, Task, finite
from experiments.settings import NO_CHANGES, SCALES, Settings, changed
from verification.bound import network_bound
from verification.radius import separations

UNIT: Channels = (1.0, 1.0, 1.0)
"""The input is less its mean and not divided by anything, so that pixels are what radii count."""
MARGIN = 0.53
"""Taken off the score of the right class in training, where the rows of the head have norm 1."""
RADIUS = 36 / 255
DEEPEST = 400
"""Steps of a flow: the names of more are none that a weights file is read by."""


@dataclass(frozen=True, kw_only=True)
class Certified(Settings):
    """What a run computes. `channels` and `depth` are those of the two flows; the rate rises for
    the share `warmup` of the run and falls to 0; crops come from images padded by `pad`, and are
    moved by `perturbation` (l2, in pixels) along the gradient of their loss. `construction` is how
    norms are kept at their limits (`dsnn.training.constructed`)."""

    REGIMES = CERTIFIED

    channels: tuple[int, int] = Sizes().channels
    depth: tuple[int, int] = Sizes().depth
    epochs: int = 11
    batch: int = 64
    rate: float = 6e-3
    warmup: float = 0.15
    temperature: float = 0.25
    pad: int = 2
    perturbation: float = 0.0
    construction: str = "measured"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_of("construction", CONSTRUCTIONS)
        self.require("temperature", "a positive number", self.temperature > 0)
        self.require("warmup", "0 or more, less than 1", 0 <= self.warmup < 1)
        for name in ("perturbation", "pad"):
            self.require(name, "0 or more", getattr(self, name) >= 0)
        self.require("pad", f"at most {SIDE}", self.pad <= SIDE)
        for name in ("channels", "depth"):
            self.require(name, "two positive numbers", min(getattr(self, name)) >= 1)
        self.require("depth", f"at most {DEEPEST}", max(self.depth) <= DEEPEST)

    @property
    def transfer(self) -> bool:
        """Certified networks start from nothing."""
        return False


_SCALE: dict[str, dict[str, Any]] = {
    "smoke": {
        "channels": (12, 48),
        "depth": (1, 1),
        "epochs": 2,
        "batch": 32,
        "images": 256,
        "monitored": 64,
        "tested": 128,
    },
    "cpu": {"monitored": 2000},
    "paper": {"channels": (64, 256), "depth": (4, 5), "epochs": 100},
}
# Radii by gradients are long where small moves along the gradient change little
# (`verification.second_order`): so margins are small, and images are moved.
_BY_GRADIENT = {"margin": 0.15, "temperature": 0.15, "perturbation": 0.17}
_SHORT = {**_BY_GRADIENT, "depth": (2, 2), "epochs": 11, "pad": 1}
_OF_REGIME: dict[str, dict[str, dict[str, Any]]] = {
    "certified-smooth": {
        "smoke": _BY_GRADIENT,
        "cpu": {**_SHORT, "channels": (40, 160)},
        "paper": _BY_GRADIENT,
    },
    # A step of the switch is three: with these settings it takes about the same time.
    "certified-switch": {
        "smoke": _BY_GRADIENT,
        "cpu": {**_SHORT, "channels": (32, 128)},
        "paper": _BY_GRADIENT,
    },
}
FIXED = ("regime", "dataset", "margin", "scale")
"""Fields that the command line names."""


def configuration(
    regime: str,
    dataset: str,
    margin: float | None,
    scale: str,
    changes: Mapping[str, Any] = NO_CHANGES,
) -> Certified:
    """The settings of a scale, with `changes` of named fields. Raises UserError on unknown names
    and values outside their limits."""
    if scale not in SCALES:
        raise UserError(f"unknown scale {scale!r}: one of {', '.join(SCALES)}")
    own = _OF_REGIME.get(regime, {}).get(scale, {})
    settings = {"margin": MARGIN, **_SCALE[scale], **own}
    if margin is not None:
        settings["margin"] = margin
    found = Certified(regime=regime, dataset=dataset, scale=scale, **settings)
    return changed(found, changes, FIXED)


def task(asked: Certified, folder: DataFolder, device: torch.device, *, compiled: bool) -> Task:
    """What to train and how it is judged: as a finalised copy, whose constants are proved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        net = build_certified(
            asked.regime, CLASSES[asked.dataset], Sizes(asked.channels, asked.depth)
        )
    if asked.construction == "parametrized":
        construct(net)
    mean, _ = training(asked.dataset)

    def resident(split: str, limit: int | None, augment: bool) -> ResidentImages:
        pixels, labels = pixels_and_labels(asked.dataset, split, folder, limit)
        return ResidentImages(
            pixels, labels, mean=mean, std=UNIT, device=device, augment=augment, pad=asked.pad
        )

    dtype = fastest_dtype(device) if asked.dtype == "fastest" else getattr(torch, asked.dtype)
    step = CertifiedStep(
        net,
        offset=asked.margin,
        temperature=asked.temperature,
        rate=asked.rate,
        perturbation=asked.perturbation,
        device=str(device),
        dtype=dtype,
    )
    if compiled and device.type == "cuda":
        net.body.compile(dynamic=False)
    monitored = resident("test", asked.monitored, False)
    card = Card(asked.regime, asked.dataset, asked.margin, mean, UNIT)
    return Task(
        step=step,
        plan=Plan(
            epochs=asked.epochs,
            batch=asked.batch,
            schedule=WarmupLinear(Fraction(asked.warmup).limit_denominator(10**6)),
            seed=asked.seed,
            reduction=asked.reduction,
        ),
        configuration={**asked.values(), "dtype": str(dtype).removeprefix("torch.")},
        images=resident("train", asked.images, True),
        monitored=monitored,
        tested=resident("test", asked.tested, False),
        save=lambda net, path: save(path, cast(CertifiedNet, net), card),
        bound=lambda net: constants(cast(CertifiedNet, net), monitored),
        bound_every=asked.bound_every,
        final=final,
    )


def final(net: nn.Module) -> CertifiedNet:
    """A copy of a network in training as it is judged, saved and proved."""
    return finalise(cast(CertifiedNet, copy.deepcopy(net)))


@torch.no_grad()
def constants(net: CertifiedNet, images: ResidentImages) -> EpochMetrics:
    """Proved constants of a finalised network, None where none is finite, and the share of `images`
    whose margin in float32 is more than the proved constant allows to be lost within 36/255:
    certified, but for the rounding of the logits, which `dsnn evaluate` accounts for."""
    found = network_bound(copy.deepcopy(net).cpu(), UNIT)
    assert found.body_pixel is not None
    lost = (RADIUS * found.body_pixel * separations(net.head.weight)).to(images.device)
    certified = 0
    for start in range(0, len(images), 500):
        batch, labels = images.plain(start, min(start + 500, len(images)))
        scores = net.to(images.device)(batch).double()
        ahead = scores.gather(1, labels[:, None]) - scores - lost[labels]
        certified += int((ahead.scatter(1, labels[:, None], 1.0) > 0).all(1).sum())
    return {
        **finite({"lipschitz": found.lipschitz, "lipschitz_pixel": found.lipschitz_pixel}),
        "certified_36_255_unrounded": certified / len(images),
    }
