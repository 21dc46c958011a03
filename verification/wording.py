"""Numbers in sentences, rounded outwards to a few digits, and foreign text in them."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction


def at_most(value: float | Fraction, digits: int = 4) -> str:
    """An upper bound with `digits` significant digits, rounded up."""
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float | Fraction, digits: int = 4) -> str:
    """A lower bound with `digits` significant digits, rounded down."""
    return _rounded(value, digits, ROUND_FLOOR)


def above(value: float, limit: float | Fraction) -> str:
    """A lower bound rounded down, with as many digits as it takes to stay above `limit`."""
    digits = 4
    while value > limit and Fraction(at_least(value, digits)) <= limit and digits < 17:
        digits += 1
    return at_least(value, digits)


def below(value: float, limit: float | Fraction) -> str:
    """An upper bound rounded up, with as many digits as it takes to stay at most `limit`."""
    digits = 4
    while value <= limit < math.inf and limit < Fraction(at_most(value, digits)) and digits < 17:
        digits += 1
    return at_most(value, digits)


def about(value: float | Fraction) -> str:
    """A given number, no bound, rounded to the nearest: `= 0.5`, or `≈ 0.333333`."""
    digits = 6
    sign = "=" if at_least(value, digits) == at_most(value, digits) else "≈"
    return f"{sign} {_rounded(value, digits, ROUND_HALF_EVEN)}"


def one_line(text: str, longest: int = 200) -> str:
    """Foreign text for a report or terminal: one line, without control characters, cut."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * longest]).split())
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _rounded(value: float | Fraction, digits: int, rounding: str) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    exact = Fraction(value)
    context = Context(prec=digits, rounding=rounding)
    return f"{context.divide(Decimal(exact.numerator), Decimal(exact.denominator)).normalize():g}"
