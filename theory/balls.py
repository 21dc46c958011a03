"""Rigorous values of SymPy expressions, by ball arithmetic (python-flint, loaded on use).

Inputs are exact doubles, SymPy rationals or intervals of them; results enclose the true value,
and what leaves as a double is rounded outwards. Understood: sums, products, powers, Max, Min,
Abs, exp, log, sin, cos, tanh, exact numbers, and pi and e.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import Any, cast

from sympy import (
    Abs,
    Add,
    Catalan,
    E,
    EulerGamma,
    Expr,
    Float,
    Max,
    Min,
    Mul,
    Pow,
    Rational,
    Symbol,
    cos,
    exp,
    log,
    pi,
    sin,
    tanh,
)

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


def _power(exponent: Any) -> Callable[[Any], Any] | None:
    if isinstance(exponent, Rational) and exponent.is_Integer:
        whole = int(exponent)
        return lambda base: base**whole
    if exponent == Rational(1, 2):
        return lambda base: base.sqrt()
    if exponent == Rational(-1, 2):
        return lambda base: base.rsqrt()
    return None


def _any_power(base: Any, exponent: Any) -> Any:
    whole = exponent.unique_fmpz() if exponent.is_exact() else None
    return base ** (exponent if whole is None else whole)


def _named(number: Any) -> Any:
    """The ball around a number that has a name, at the working precision."""
    arb = _flint().arb
    known = {pi: arb.pi, E: arb.const_e, EulerGamma: arb.const_euler, Catalan: arb.const_catalan}
    if number not in known:
        raise ValueError(f"{number} has no ball enclosure here")
    return known[number]()


def _operation(expression: Any) -> Callable[..., Any]:
    """What `expression` does to the balls of its arguments."""
    arb = _flint().arb
    one = {exp: arb.exp, log: arb.log, Abs: abs, Pow: _any_power}
    one |= {sin: arb.sin, cos: arb.cos, tanh: arb.tanh}
    many = {
        Add: lambda x, y: x + y,
        Mul: lambda x, y: x * y,
        Max: arb.max,
        Min: arb.min,
    }
    kind = type(expression)
    if kind in one:
        return one[kind]
    if kind in many:
        pairwise = many[kind]
        return lambda *parts: reduce(pairwise, parts)
    raise ValueError(f"{kind.__name__} has no ball enclosure here: {expression}")


@lru_cache(maxsize=512)
def _evaluator(expression: Any) -> Callable[[Mapping[str, Any]], Any]:
    """`expression` as a function of balls by name. To be called at the working precision."""
    if isinstance(expression, Symbol):
        return _value_of(expression.name)
    if isinstance(expression, Float | Rational):
        constant = _exact(cast(Rational, Rational(expression)))
        return lambda balls: constant
    if not expression.args:
        named = _named(expression)
        return lambda balls: named
    simple = _power(expression.exp) if isinstance(expression, Pow) else None
    if simple is not None:
        base = _evaluator(expression.base)
        return lambda balls: simple(base(balls))
    operation, parts = _operation(expression), [_evaluator(part) for part in expression.args]
    return lambda balls: operation(*(part(balls) for part in parts))


def _value_of(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def value(balls: Mapping[str, Any]) -> Any:
        if name not in balls:
            raise ValueError(f"no value for {name}")
        return balls[name]

    return value


def enclose(expression: Expr, values: Mapping[str, Number | tuple[Number, Number]]) -> Any:
    """A flint `arb` that contains the value of `expression` at every point of `values`.

    `values` maps names of symbols to exact numbers or to (low, high). Raises ValueError for a
    symbol without a value or a function that is not understood, ImportError without python-flint.
    """
    with _flint().ctx.workprec(PRECISION):
        return _evaluator(expression)({name: _interval(v) for name, v in values.items()})


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
    if not all(math.isfinite(end) for ends in box.values() for end in ends):
        raise ValueError(f"the box {box} is not finite: give finite ends")
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
