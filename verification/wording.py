"""Numbers in sentences, rounded outwards to a few digits, and foreign text in them."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context


def at_most(value: float, digits: int = 4) -> str:
    """An upper bound with `digits` significant digits, rounded up."""
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 4) -> str:
    """A lower bound with `digits` significant digits, rounded down."""
    return _rounded(value, digits, ROUND_FLOOR)


def one_line(text: str, longest: int = 200) -> str:
    """Foreign text for a report or terminal: one line, without control characters, cut."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * longest]).split())
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _rounded(value: float, digits: int, rounding: str) -> str:
    if math.isinf(value):
        return "inf"
    return f"{Context(prec=digits, rounding=rounding).create_decimal(value):g}"
