"""Numbers in sentences: bounds rounded outwards to a few digits."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context


def at_most(value: float, digits: int = 4) -> str:
    """An upper bound with `digits` significant digits, rounded up."""
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 4) -> str:
    """A lower bound with `digits` significant digits, rounded down."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if math.isinf(value):
        return "inf"
    return f"{Context(prec=digits, rounding=rounding).create_decimal(value):g}"
