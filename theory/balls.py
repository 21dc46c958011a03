"""Rigorous values of SymPy expressions, by ball arithmetic (python-flint, loaded on use).

Inputs are exact doubles, SymPy rationals or intervals of them; results enclose the true value,
and what leaves as a double is rounded outwards. Understood: sums, products, powers, Max, Min,
Abs, exp, log, and exact numbers.
"""

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any, cast

from sympy import Abs, Add, Expr, Float, Max, Min, Mul, Pow, Rational, Symbol, exp, log

Number = float | int | Rational
PRECISION = 128  # bits


def _flint() -> Any:
    import flint

    return flint


def _exact(value: Number) -> Any:
    """A number as the smallest ball around it."""
    arb = _flint().arb
    if isinstance(value, Rational):
        return arb(int(value.p)) / arb(int(value.q))
    return arb(value) if isinstance(value, int) else arb(float(value))


def _interval(value: Number | tuple[Number, Number]) -> Any:
    if isinstance(value, tuple):
        low, high = value
        if not float(low) <= float(high):
            raise ValueError(f"the interval [{low}, {high}] is empty: give its lower end first")
        return _exact(low).union(_exact(high))
    return _exact(value)


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, Rational) and exponent.is_Integer:
        return base ** int(exponent)
    if exponent == Rational(1, 2):
        return base.sqrt()
    if exponent == Rational(-1, 2):
        return base.rsqrt()
    return None


def _evaluate(expression: Any, balls: Mapping[str, Any]) -> Any:
    arb = _flint().arb
    if isinstance(expression, Symbol):
        if expression.name not in balls:
            raise ValueError(f"no value for {expression.name}")
        return balls[expression.name]
    if isinstance(expression, Float):
        return _exact(cast(Rational, Rational(expression)))
    if isinstance(expression, Rational):
        return _exact(expression)
    if not expression.args:
        raise ValueError(f"{expression} has no ball enclosure here")
    parts = [_evaluate(part, balls) for part in expression.args]
    if isinstance(expression, Pow):
        simple = _power(parts[0], expression.exp)
        if simple is not None:
            return simple
        whole = parts[1].unique_fmpz() if parts[1].is_exact() else None
        return parts[0] ** (parts[1] if whole is None else whole)
    if isinstance(expression, exp):
        return parts[0].exp()
    if isinstance(expression, log):
        return parts[0].log()
    if isinstance(expression, Abs):
        return abs(parts[0])
    if isinstance(expression, Add):
        return sum(parts, arb(0))
    pairwise = {Mul: lambda x, y: x * y, Max: arb.max, Min: arb.min}.get(type(expression))
    if pairwise is None:
        raise ValueError(f"{type(expression).__name__} has no ball enclosure here: {expression}")
    return reduce(pairwise, parts)


def enclose(expression: Expr, values: Mapping[str, Number | tuple[Number, Number]]) -> Any:
    """A flint `arb` that contains the value of `expression` at every point of `values`.

    `values` maps names of symbols to exact numbers or to (low, high). Raises ValueError for a
    symbol without a value or a function that is not understood, ImportError without python-flint.
    """
    with _flint().ctx.workprec(PRECISION):
        return _evaluate(expression, {name: _interval(v) for name, v in values.items()})


def _round(ball: Any, direction: float) -> float:
    """The end of `ball` towards `direction` (inf or -inf), as a double rounded that way."""
    end = ball.upper() if direction > 0 else ball.lower()
    if not ball.is_finite():
        return direction
    value = float(end)
    exact = _flint().arb(value)
    short = exact < end if direction > 0 else exact > end
    return math.nextafter(value, direction) if short else value


def upper(expression: Expr, values: Mapping[str, Number | tuple[Number, Number]]) -> float:
    """The least double known to be at or above `expression` on `values`; inf when unknown."""
    with _flint().ctx.workprec(PRECISION):
        return _round(enclose(expression, values), math.inf)


def lower(expression: Expr, values: Mapping[str, Number | tuple[Number, Number]]) -> float:
    """The greatest double known to be at or below `expression` on `values`; -inf when unknown."""
    with _flint().ctx.workprec(PRECISION):
        return _round(enclose(expression, values), -math.inf)


def prove_at_most(
    expression: Expr,
    box: Mapping[str, tuple[Number, Number]],
    limit: Number,
    *,
    boxes: int = 10_000,
) -> int:
    """Number of sub-boxes on which `expression <= limit` was shown, which together fill `box`.

    Subdivides the widest side. 0 when a midpoint exceeds the limit, or after `boxes` of them.
    Raises as `enclose`.
    """
    bound = _exact(limit)
    pending: list[dict[str, tuple[Any, Any]]] = [
        {name: (Rational(lo), Rational(hi)) for name, (lo, hi) in box.items()}
    ]
    done = 0
    for _ in range(boxes):
        if not pending:
            return done
        part = pending.pop()
        if enclose(expression, part) <= bound:
            done += 1
            continue
        middle = {name: (lo + hi) / 2 for name, (lo, hi) in part.items()}
        if enclose(expression, middle) > bound:
            return 0
        widest = max(part, key=lambda name: part[name][1] - part[name][0])
        low, high = part[widest]
        pending.append({**part, widest: (low, middle[widest])})
        pending.append({**part, widest: (middle[widest], high)})
    return 0
