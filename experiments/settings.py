"""What every training run has settings for, and how they are changed by name: from the command
line or a TOML file."""

import math
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from dsnn.data.cifar import check_dataset
from dsnn.errors import UserError

T = TypeVar("T")
SCALES = ("smoke", "cpu", "paper")
DTYPES = ("fastest", "float32", "bfloat16")
LARGEST, LARGEST_INTEGER = 1e30, 2**32
"""In a setting: products of larger numbers are none of float32, larger sizes none of torch."""
NO_CHANGES: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`images`, `monitored` and `tested` are numbers of images, the first of the training and of
    the test set, None for all; the accuracy of an epoch is on the `monitored` ones, after the last
    on the `tested`. The rate is multiplied by `reduction` after a loss that is not finite. A
    rigorous bound is computed every `bound_every` epochs and after the last, 0 for never.

    Raises UserError on a value outside its limits.
    """

    REGIMES: ClassVar[Sequence[str]]

    regime: str
    dataset: str
    margin: float
    scale: str
    rate: float
    epochs: int
    batch: int
    reduction: float = 0.1
    images: int | None = None
    monitored: int | None = None
    tested: int | None = None
    bound_every: int = 1
    dtype: str = "fastest"
    seed: int = 0

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        self.require_one_of("regime", self.REGIMES)
        self.require_one_of("scale", SCALES)
        self.require_one_of("dtype", DTYPES)
        for name in ("margin", "rate", "reduction"):
            self.require(name, "a positive number", getattr(self, name) > 0)
        self.require("reduction", "at most 1", self.reduction <= 1)
        for name in ("epochs", "batch", "images", "monitored", "tested"):
            value = getattr(self, name)
            self.require(name, "at least 1", value is None or value >= 1)
        self.require("bound_every", "0 or more", self.bound_every >= 0)
        self.require("seed", "0 or more, below 2^32", 0 <= self.seed < 2**32)

    def require(self, name: str, limit: str, holds: bool) -> None:
        """Raise UserError where the field does not keep its limit, is not finite, or is too
        large to compute with."""
        value = getattr(self, name)
        if not holds or (isinstance(value, float) and not math.isfinite(value)):
            raise UserError(f"{name} {value!r} is not allowed: {limit}")
        for number in value if isinstance(value, tuple) else (value,):
            largest = LARGEST_INTEGER if isinstance(number, int) else LARGEST
            if number is not None and abs(number) > largest:
                raise UserError(f"{name} {value!r} is not allowed: at most {largest}")

    def require_one_of(self, name: str, known: Sequence[str]) -> None:
        """Raise UserError where the field is none of the `known` names."""
        value = getattr(self, name)
        if value not in known:
            raise UserError(f"unknown {name} {value!r}: one of {', '.join(known)}")

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def read_changes(path: Path) -> dict[str, Any]:
    """The fields that a TOML file changes. Raises UserError on a file that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path}: not a TOML file that can be read ({error})") from error


def changed(found: T, changes: Mapping[str, Any], fixed: Sequence[str]) -> T:
    """The frozen configuration `found` with `changes` of its fields, except for the `fixed` ones,
    which the command line names. Raises UserError on an unknown field, or a value of another type
    than the field's; the configuration itself judges the value."""
    settings: Any = found
    allowed = [f.name for f in fields(settings) if f.name not in fixed]
    result = {}
    for name, value in changes.items():
        if name not in allowed:
            reason = "is named on the command line" if name in fixed else "is unknown"
            raise UserError(f"setting {name!r} {reason}: known are {', '.join(allowed)}")
        result[name] = _typed(name, value, getattr(settings, name))
    return replace(settings, **result)


def _typed(name: str, value: Any, like: Any) -> Any:
    """The value as the type of `like`; None stands for a number of images, an integer."""
    if like is None:
        expected, fits = "an integer", type(value) is int
    elif isinstance(like, tuple):
        expected = f"{len(like)} integers"
        fits = (
            isinstance(value, list | tuple)
            and len(value) == len(like)
            and all(type(v) is int for v in value)
        )
        value = tuple(value) if fits else value
    elif isinstance(like, float):
        expected = "a number"
        fits = type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)
        value = float(value) if fits else value
    else:
        expected, fits = f"of type {type(like).__name__}", type(value) is type(like)
    if not fits:
        raise UserError(f"setting {name} = {value!r}: expected {expected}")
    return value
