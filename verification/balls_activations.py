"""Activations and their derivatives in ball arithmetic.

Each is a list of branches between break points; a ball that reaches over several branches gets the
union of theirs, so that a derivative at a kink is enclosed but never decided.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from dsnn.operators.rounding import UNIT
from verification.activations import SELU_ALPHA, SELU_SCALE
from verification.balls import Ball, computed, entrywise

Branch = Callable[[Any], tuple[Any, Any]]
"""x -> f(x), f'(x) as `arb`."""
Pieces = tuple[list[Fraction], list[Branch]]


def _arb(value: Fraction | int) -> Any:
    import flint

    value = Fraction(value)
    return flint.arb(value.numerator) / flint.arb(value.denominator)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def _linear(slope: Fraction | int, shift: Fraction | int = 0) -> Branch:
    return lambda x: (_arb(slope) * x + _arb(shift), _arb(slope))


def _smooth(branch: Branch) -> Callable[..., Pieces]:
    return lambda: ([], [branch])


def _tanh(x: Any) -> tuple[Any, Any]:
    t = x.tanh()
    return t, 1 - t * t


def _silu(x: Any) -> tuple[Any, Any]:
    s = _sigmoid(x)
    return x * s, s + x * s * (1 - s)


def _gelu(x: Any) -> tuple[Any, Any]:
    two = _arb(2)
    normal = (1 + (x / two.sqrt()).erf()) / 2
    density = (-x * x / 2).exp() / (two * type(two).pi()).sqrt()
    return x * normal, normal + x * density


def _gelu_tanh(x: Any) -> tuple[Any, Any]:
    cubic, root = _arb(Fraction("0.044715")), (2 / type(_arb(1)).pi()).sqrt()
    t = (root * (x + cubic * x**3)).tanh()
    return x * (1 + t) / 2, (1 + t) / 2 + x * (1 - t * t) * root * (1 + 3 * cubic * x * x) / 2


def _mish(x: Any) -> tuple[Any, Any]:
    t = x.exp().log1p().tanh()
    return x * t, t + x * (1 - t * t) * _sigmoid(x)


def _softsign(sign: int) -> Branch:
    return lambda x: (x / (1 + sign * x), 1 / (1 + sign * x) ** 2)


def _exponential(alpha: Fraction, rate: Fraction = Fraction(1)) -> Branch:
    """alpha (e^(rate x) - 1)."""

    def branch(x: Any) -> tuple[Any, Any]:
        e = (_arb(rate) * x).exp()
        return _arb(alpha) * (e - 1), _arb(alpha * rate) * e

    return branch


def _softplus(beta: Fraction) -> Pieces:
    b = _arb(beta)
    return [], [lambda x: ((b * x).exp().log1p() / b, _sigmoid(b * x))]


def _clamp(low: Fraction | None = None, high: Fraction | None = None) -> Pieces:
    breaks, branches = [], [_linear(1)]
    if low is not None:
        breaks, branches = [low], [_linear(0, low), *branches]
    if high is not None:
        if low is not None and low >= high:
            return [], [_linear(0, high)]
        breaks, branches = [*breaks, high], [*branches, _linear(0, high)]
    return breaks, branches


_ONE, _SIXTH, _THREE = Fraction(1), Fraction(1, 6), Fraction(3)

PIECES: dict[str, Callable[..., Pieces]] = {
    "clamp": _clamp,
    "elu": lambda alpha: ([Fraction(0)], [_exponential(alpha), _linear(1)]),
    "celu": lambda alpha: ([Fraction(0)], [_exponential(alpha, 1 / alpha), _linear(1)]),
    "selu": lambda: (
        [Fraction(0)],
        [_exponential(SELU_SCALE * SELU_ALPHA), _linear(SELU_SCALE)],
    ),
    "gelu": _smooth(_gelu),
    "gelu_tanh": _smooth(_gelu_tanh),
    "silu": _smooth(_silu),
    "mish": _smooth(_mish),
    "softplus": _softplus,
    "softsign": lambda: ([Fraction(0)], [_softsign(-1), _softsign(1)]),
    "tanh": _smooth(_tanh),
    "sigmoid": _smooth(lambda x: (_sigmoid(x), _sigmoid(x) * _sigmoid(-x))),
    "logsigmoid": _smooth(lambda x: (-(-x).exp().log1p(), _sigmoid(-x))),
    "hardsigmoid": lambda: (
        [-_THREE, _THREE],
        [_linear(0), _linear(_SIXTH, Fraction(1, 2)), _linear(0, 1)],
    ),
    "hardswish": lambda: (
        [-_THREE, _THREE],
        [_linear(0), lambda x: (x * (x + 3) / 6, (2 * x + 3) / 6), _linear(1)],
    ),
    "softshrink": lambda lambd: (
        [-lambd, lambd],
        [_linear(1, lambd), _linear(0), _linear(1, -lambd)],
    ),
    "sin": _smooth(lambda x: (x.sin(), x.cos())),
    "cos": _smooth(lambda x: (x.cos(), -x.sin())),
    "atan": _smooth(lambda x: (x.atan(), 1 / (1 + x * x))),
    "erf": _smooth(lambda x: (x.erf(), 2 * (-x * x).exp() / type(_arb(1)).pi().sqrt())),
}
"""By name, as in `activations.SLOPES`: parameters -> break points and the branches between."""


def _selected(breaks: list[Fraction], branches: list[Branch]) -> Branch:
    """The union over all branches that a ball may lie on."""
    ends = [_arb(b) for b in breaks]

    def function(x: Any) -> tuple[Any, Any]:
        found: list[Any] = []
        for k, branch in enumerate(branches):
            if (k > 0 and x < ends[k - 1]) or (k < len(ends) and x > ends[k]):
                continue
            pair = branch(x)
            found = [a.union(b) for a, b in zip(found, pair, strict=True)] if found else list(pair)
        return found[0], found[1]

    return function


def _two_slopes(below: Tensor, above: float, x: Ball) -> tuple[Ball, Ball]:
    """below * x for x <= 0, above * x for x >= 0, with slopes rounded at most twice."""
    steepest = below.abs().clamp_min(abs(above)) * (1 + 4 * UNIT)
    mid = torch.where(x.mid > 0, above * x.mid, below * x.mid)
    value = computed(mid, steepest * x.rad + 6 * UNIT * mid.abs())
    centre, reach = (below + above) / 2, (below - above).abs() / 2
    sure = (x.low > 0) | (x.high < 0)
    slope = torch.where(sure, torch.where(x.mid > 0, above, below), centre)
    error = torch.where(sure, 4 * UNIT * slope.abs(), reach + 8 * UNIT * steepest)
    return value, computed(slope, error)


def activation(
    name: str, parameters: Mapping[str, Fraction], x: Ball, slope: Tensor | None = None
) -> tuple[Ball, Ball]:
    """f(x) and f'(x) entry by entry; `slope` is that of prelu. Raises KeyError on another name."""
    below = {"relu": 0.0, "abs": -1.0}.get(name)
    if name == "leaky_relu":
        below = float(parameters["negative_slope"])
    if slope is None and below is not None:
        slope = torch.tensor(below, dtype=torch.float64)
    if slope is not None:
        return _two_slopes(slope.expand(x.mid.shape), 1.0, x)
    return entrywise(_selected(*PIECES[name](**parameters)), x)
