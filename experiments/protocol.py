"""The paper's training protocol for its five regimes, as small frozen configurations.

Optimiser, schedule and penalty are those of the published code by regime and data set (notes on
the paper, 5.1), at three scales: `paper` in full, `cpu` with narrow networks and few epochs, and
`smoke`, seconds on the first images, which shows that everything runs and nothing else.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from dsnn.errors import UserError
from dsnn.models import ARCHITECTURES
from experiments.settings import NO_CHANGES, SCALES, Settings, changed

MARGINS = (0.07, 0.15, 0.3)
"""Of the paper; any positive margin trains."""
MARGIN = 0.15
"""Where none is asked for."""


@dataclass(frozen=True, kw_only=True)
class Configuration(Settings):
    """What a training run computes. The rate is multiplied by `factor` every `drop` epochs of 100,
    scaled to the run's length. `transfer` starts from CIFAR-10 weights."""

    REGIMES = ARCHITECTURES

    factor: float
    gamma: float
    channels: tuple[int, int, int] = (32, 64, 128)
    signed_steps: bool = True
    transfer: bool = False
    epochs: int = 100
    batch: int = 128
    drop: int = 30
    momentum: float = 0.9
    augment: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("factor", "a positive number", self.factor > 0)
        for name in ("factor", "momentum"):
            self.require(name, "at most 1", getattr(self, name) <= 1)
        for name in ("gamma", "momentum"):
            self.require(name, "0 or more", getattr(self, name) >= 0)
        self.require("drop", "at least 1", self.drop >= 1)
        self.require("channels", "three positive numbers", min(self.channels) >= 1)

    @property
    def every(self) -> Fraction:
        """The share of the run between two drops of the rate."""
        return Fraction(self.drop, 100)


@dataclass(frozen=True)
class _Optimiser:
    rate: float
    factor: float
    gamma: float


_CIFAR10 = {
    "unconstrained": _Optimiser(1e-2, 0.1, 0.0),
    "naive": _Optimiser(1e-2, 0.1, 0.01),
    "non-expansive": _Optimiser(1e-2, 0.1, 0.1),
    "switch-prescribed": _Optimiser(1e-2, 0.1, 0.1),
    "switch-flexible": _Optimiser(1e-2, 0.1, 0.01),
}
_CIFAR100 = {
    "unconstrained": _Optimiser(1e-2, 0.1, 0.0),
    "naive": _Optimiser(1e-3, 0.1, 0.01),
    "non-expansive": _Optimiser(1e-4, 0.5, 1.0),
    "switch-prescribed": _Optimiser(1e-3, 0.1, 1.0),
    "switch-flexible": _Optimiser(1e-4, 0.5, 1.0),
}
"""Used from CIFAR-10 weights only, as published; CIFAR-100 from nothing trains as CIFAR-10."""

_SCALE: dict[str, dict[str, Any]] = {
    "smoke": {
        "channels": (4, 6, 8),
        "epochs": 2,
        "batch": 32,
        "images": 256,
        "monitored": 128,
        "tested": 128,
    },
    "cpu": {"channels": (8, 16, 32), "epochs": 4, "drop": 70, "monitored": 2000, "bound_every": 4},
    "paper": {"bound_every": 10},
}
_LEARNED_STEPS = ("non-expansive", "switch-flexible")
_RATES: dict[str, dict[str, float]] = {"cpu": dict.fromkeys(_LEARNED_STEPS, 3e-2)}
"""Where they are not the paper's: 4 epochs at 0.01 leave regimes that learn clamped steps behind
all others."""
_TRANSFER: dict[str, dict[str, Any]] = {"cpu": {"epochs": 1}}
"""What differs for runs that go on from CIFAR-10 weights: at `cpu` they have to fit two hours."""


def configuration(
    regime: str,
    dataset: str,
    margin: float,
    scale: str,
    *,
    transfer: bool = False,
    changes: Mapping[str, Any] = NO_CHANGES,
) -> Configuration:
    """The protocol's settings, with `changes` of named fields.

    `transfer` takes those with which the paper goes on from CIFAR-10 weights to CIFAR-100. Raises
    UserError on an unknown regime, data set, scale or field, or a value outside its limits.
    """
    for name, value, known in (("regime", regime, ARCHITECTURES), ("scale", scale, SCALES)):
        if value not in known:
            raise UserError(f"unknown {name} {value!r}: one of {', '.join(known)}")
    if transfer and dataset != "cifar100":
        raise UserError(
            f"--from is for cifar100, which starts from CIFAR-10 weights, not {dataset}"
        )
    optimiser = (_CIFAR100 if transfer else _CIFAR10)[regime]
    if not transfer:
        rate = _RATES.get(scale, {}).get(regime, optimiser.rate)
        optimiser = replace(optimiser, rate=rate)
    sizes = _SCALE[scale] | (_TRANSFER.get(scale, {}) if transfer else {})
    found = Configuration(
        regime=regime,
        dataset=dataset,
        margin=margin,
        scale=scale,
        transfer=transfer,
        reduction=0.2 if regime == "switch-flexible" else 0.1,
        **asdict(optimiser),
        **sizes,
    )
    return changed(found, changes, FIXED)


FIXED = ("regime", "dataset", "margin", "scale", "transfer")
"""Fields that the command line names."""
