"""SymPy expressions on tracked arrays: sums, products, powers and activations entry by entry.

Any other function that `theory.balls` knows is enclosed number by number, which is slower.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
from sympy import Add, Mul, Pow, Rational, Symbol

from theory import balls
from theory.activation import Activation
from verification.strategies.arithmetic import over, plus, root, times
from verification.strategies.rounding import COVER, UNDERFLOW, UNIT, Array, Tracked, exact

Slopes = Mapping[str, tuple[Array | float, Array | float]]
"""By name of an activation, its slopes below and above 0."""


def evaluated(expression: Any, values: Mapping[str, Tracked], slopes: Slopes) -> Tracked:
    """The expression at arrays of one shape by name of symbol, each activation the function with
    the given slopes and its kink at 0. Raises ValueError for what has no ball enclosure."""

    def of(part: Any) -> Tracked:
        if isinstance(part, Symbol):
            if part.name not in values:  # as the bound variable of an integral
                raise ValueError(f"no value for {part}")
            return values[part.name]
        if isinstance(part, Rational):
            return _number(part)
        if isinstance(part, Activation):
            name, _, _, argument = part.args
            return _kinked(of(argument), *slopes[str(name)])
        if isinstance(part, Add):
            return reduce(plus, map(of, part.args))
        if isinstance(part, Mul):
            return reduce(times, map(of, part.args))
        if isinstance(part, Pow) and part.exp.is_Integer:
            return _power(of(part.base), int(part.exp))
        if isinstance(part, Pow) and part.exp == Rational(1, 2):
            return root(of(part.base))
        return _enclosed(part, [of(argument) for argument in part.args])

    return of(expression)


def _number(value: Any) -> Tracked:
    near = float(value)
    gap = 0.0 if Rational(near) == value else abs(near) * UNIT * 2 + UNDERFLOW
    return Tracked(np.array(near), np.array(gap))


def _kinked(u: Tracked, below: Array | float, above: Array | float) -> Tracked:
    value = np.where(u.value > 0, above, below) * u.value
    steepest = np.maximum(np.abs(below), np.abs(above))
    error = (steepest * u.error + UNIT * np.abs(value)) * COVER + UNDERFLOW
    return Tracked(value, error)


def _power(base: Tracked, exponent: int) -> Tracked:
    whole = reduce(times, [base] * abs(exponent), exact(np.ones(1)))
    return whole if exponent >= 0 else over(exact(np.ones(1)), whole)


def _enclosed(part: Any, arguments: list[Tracked]) -> Tracked:
    """A function of enclosed numbers, by ball arithmetic."""
    import flint

    names = [f"argument_{k}" for k in range(len(arguments))]
    function = part.func(*(Symbol(name, real=True) for name in names))
    shape = np.broadcast_shapes(*(a.value.shape for a in arguments))
    spread = [
        np.broadcast_to(side, shape).ravel() for a in arguments for side in (a.value, a.error)
    ]
    value, error = np.empty(int(np.prod(shape))), np.empty(int(np.prod(shape)))
    rows = zip(*spread, strict=True) if spread else [()]  # pi is a function of nothing
    for k, numbers in enumerate(rows):
        if not np.isfinite(numbers).all():
            value[k], error[k] = 0.0, np.inf
            continue
        exactly: list[Any] = [Rational(float(number)) for number in numbers]
        pairs = zip(names, exactly[::2], exactly[1::2], strict=True)
        ball = balls.enclose(function, {n: (v - e, v + e) for n, v, e in pairs})
        value[k] = float(ball.mid()) if ball.is_finite() else 0.0
        reach = abs(ball - flint.arb(value[k])).upper()
        error[k] = float(reach) * COVER + UNDERFLOW if ball.is_finite() else np.inf
    return Tracked(value.reshape(shape), error.reshape(shape))
