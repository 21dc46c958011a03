"""The paper's training protocol for its five regimes, as small frozen configurations.

Optimiser, schedule and penalty are those of the published code by regime and data set (notes on
the paper, 5.1), at three scales: `paper` in full, `cpu` with narrow networks and few epochs, and
`smoke`, seconds on the first images, which shows that everything runs and nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from dsnn.data.cifar import check_dataset
from dsnn.errors import UserError
from dsnn.models import ARCHITECTURES
from experiments.settings import changed

MARGINS = (0.07, 0.15, 0.3)
"""Of the paper; any positive margin trains."""
MARGIN = 0.15
"""Where none is asked for."""
SCALES = ("smoke", "cpu", "paper")
DTYPES = ("fastest", "float32", "bfloat16")


@dataclass(frozen=True)
class Configuration:
    """What a training run computes. `images`, `monitored` and `tested` are numbers of images, the
    first of the training and of the test set, None for all; the accuracy of an epoch is on the
    `monitored` ones, after the last on the `tested`. The rate is multiplied by `factor` every
    `drop` epochs of 100, scaled to the run's length, and by `reduction` after a loss that is not
    finite. A rigorous bound is computed every `bound_every` epochs and after the last, 0 for
    never. `transfer` starts from CIFAR-10 weights.
    """

    regime: str
    dataset: str
    margin: float
    scale: str
    rate: float
    factor: float
    gamma: float
    reduction: float
    channels: tuple[int, int, int] = (32, 64, 128)
    signed_steps: bool = True
    transfer: bool = False
    epochs: int = 100
    batch: int = 128
    drop: int = 30
    momentum: float = 0.9
    augment: bool = True
    images: int | None = None
    monitored: int | None = None
    tested: int | None = None
    bound_every: int = 1
    dtype: str = "fastest"
    seed: int = 0

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        for name, value, known in (
            ("regime", self.regime, ARCHITECTURES),
            ("scale", self.scale, SCALES),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in known:
                raise UserError(f"unknown {name} {value!r}: one of {', '.join(known)}")
        for name in ("margin", "rate", "factor", "reduction"):
            self._require(name, "a positive number", getattr(self, name) > 0)
        for name in ("factor", "reduction", "momentum"):
            self._require(name, "at most 1", getattr(self, name) <= 1)
        for name in ("gamma", "momentum", "seed", "bound_every"):
            self._require(name, "0 or more", getattr(self, name) >= 0)
        self._require("seed", "below 2^32", self.seed < 2**32)
        for name in ("epochs", "batch", "drop", "images", "monitored", "tested"):
            value = getattr(self, name)
            self._require(name, "at least 1", value is None or value >= 1)
        self._require("channels", "three positive numbers", min(self.channels) >= 1)

    def _require(self, name: str, limit: str, holds: bool) -> None:
        value = getattr(self, name)
        if not holds or (isinstance(value, float) and not math.isfinite(value)):
            raise UserError(f"{name} {value!r} is not allowed: {limit}")

    @property
    def every(self) -> Fraction:
        """The share of the run between two drops of the rate."""
        return Fraction(self.drop, 100)

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "channels": list(self.channels)}


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


NO_CHANGES: Mapping[str, Any] = {}


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
    found = Configuration(
        regime=regime,
        dataset=dataset,
        margin=margin,
        scale=scale,
        transfer=transfer,
        reduction=0.2 if regime == "switch-flexible" else 0.1,
        **asdict(optimiser),
        **_SCALE[scale],
    )
    return changed(found, changes, FIXED)


FIXED = ("regime", "dataset", "margin", "scale", "transfer")
"""Fields that the command line names."""
