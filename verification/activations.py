"""Activations: what each computes, and the range of its difference quotients.

For every function f here, (f(x) - f(y)) / (x - y) lies in `SLOPES[name](**parameters)` for all
real x != y: exact fractions, or rounded outwards by less than 1e-6 where the extreme slope is no
rational number. Parameters are fractions.
"""

from collections.abc import Callable
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[Fraction, Fraction]

SELU_ALPHA = Fraction(1.6732632423543772848170429916717)
SELU_SCALE = Fraction(1.0507009873554804934193349852946)
"""The constants of selu as torch has them, in float64."""


def _constant(low: str, high: str) -> Callable[..., Range]:
    return lambda: (Fraction(low), Fraction(high))


def _hull(*slopes: Fraction) -> Range:
    return min(slopes), max(slopes)


def _clamp(low: Fraction | None = None, high: Fraction | None = None) -> Range:
    """One of the limits at least is given."""
    return Fraction(0), Fraction(low is None or high is None or low < high)


SLOPES: dict[str, Callable[..., Range]] = {
    "relu": _constant("0", "1"),
    "leaky_relu": lambda negative_slope: _hull(negative_slope, Fraction(1)),
    "clamp": _clamp,
    # alpha e^x below 0: slopes from 0 to alpha, then 1.
    "elu": lambda alpha: _hull(Fraction(0), alpha, Fraction(1)),
    "celu": lambda alpha: _hull(Fraction(0), Fraction(1)),
    "selu": lambda: _hull(Fraction(0), SELU_SCALE, SELU_SCALE * SELU_ALPHA),
    # Phi(x) + x phi(x), extreme at x = ± sqrt 2.
    "gelu": _constant("-0.128905", "1.128905"),
    "gelu_tanh": _constant("-0.128994", "1.128994"),
    "silu": _constant("-0.099840", "1.099840"),
    "mish": _constant("-0.112527", "1.088499"),
    "softplus": lambda beta: (Fraction(0), Fraction(1)),
    "softsign": _constant("0", "1"),
    "tanh": _constant("0", "1"),
    "sigmoid": _constant("0", "1/4"),
    "logsigmoid": _constant("0", "1"),
    "hardsigmoid": _constant("0", "1/6"),
    # x (x + 3) / 6 between -3 and 3: slopes (2 x + 3) / 6.
    "hardswish": _constant("-1/2", "3/2"),
    "softshrink": lambda lambd: (Fraction(0), Fraction(1)),
    "abs": _constant("-1", "1"),
    "sin": _constant("-1", "1"),
    "cos": _constant("-1", "1"),
    "atan": _constant("0", "1"),
    # 2 / sqrt(pi) at 0.
    "erf": _constant("0", "1.128380"),
}
"""By name: parameters -> (lowest, highest) difference quotient. `prelu` is not among them: its
slopes are the hull of 1 and the entries of its constant."""


def _clamped(x: Tensor, low: Fraction | None = None, high: Fraction | None = None) -> Tensor:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x, negative_slope: F.leaky_relu(x, float(negative_slope)),
    "clamp": _clamped,
    "elu": lambda x, alpha: F.elu(x, float(alpha)),
    "celu": lambda x, alpha: F.celu(x, float(alpha)),
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda x, beta: torch.logaddexp(x * float(beta), torch.zeros_like(x)) / float(beta),
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softshrink": lambda x, lambd: F.softshrink(x, float(lambd)),
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
}
"""By name: (x, **parameters) -> f(x) in torch."""
