"""Activations, entry by entry: the piecewise linear ones of any kind of number, others of balls."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from verification.checker.kinds import Array, Numbers, flint, larger, larger_one, smaller


def _prelu(x: Array, c: Numbers, negative_slope: Any = None) -> Array:
    slope = c["slope"] if negative_slope is None else negative_slope
    return larger(x, 0 * x) - slope * larger(-x, 0 * x)


def _clamp(x: Array, c: Numbers, low: Any = None, high: Any = None) -> Array:
    x = x if low is None else larger(x, 0 * x + low)
    return x if high is None else smaller(x, 0 * x + high)


PIECEWISE: dict[str, Callable[..., Array]] = {
    "relu": lambda x, c: larger(x, 0 * x),
    "leaky_relu": _prelu,
    "prelu": _prelu,
    "clamp": _clamp,
    "abs": lambda x, c: larger(x, -x),
}
"""Each entry within 4 roundings, in float64."""


def _exact(text: str) -> Any:
    return flint.arb(flint.fmpq(*Fraction(text).as_integer_ratio()))


def _tanh(b: Any) -> Any:
    return 1 - 2 / ((2 * b).exp() + 1)


SMOOTH: dict[str, Callable[..., Any]] = {
    "tanh": lambda b: _tanh(b),
    "sigmoid": lambda b: 1 / (1 + (-b).exp()),
    "silu": lambda b: b / (1 + (-b).exp()),
    "gelu": lambda b: b * (1 + (b / flint.arb(2).sqrt()).erf()) / 2,
    "gelu_tanh": lambda b: b * (1 + _tanh((b + b * b * b * _exact("0.044715"))
                                          * (2 / flint.arb.pi()).sqrt())) / 2,
    "softplus": lambda b, beta=1: ((beta * b).exp() + 1).log() / beta,
    "logsigmoid": lambda b: -((-b).exp() + 1).log(),
    "softsign": lambda b: b / (1 + larger_one(b, -b)),
    "elu": lambda b, alpha: larger_one(b, 0 * b) + alpha * ((-larger_one(-b, 0 * b)).exp() - 1),
    "celu": lambda b, alpha: (larger_one(b, 0 * b)
                              + alpha * ((-larger_one(-b, 0 * b) / alpha).exp() - 1)),
    "mish": lambda b: b - 2 * b / (((b.exp() + 1) ** 2) + 1),
    "sin": lambda b: b.sin(),
    "cos": lambda b: b.cos(),
    "atan": lambda b: b.atan(),
    "erf": lambda b: b.erf(),
}  # fmt: skip
"""One ball, with or without its derivative."""
