"""The slopes of an activation node."""

from fractions import Fraction

from verification.activations import SLOPES
from verification.graph import Node


def slope_range(node: Node) -> tuple[Fraction, Fraction] | None:
    """The lowest and the highest difference quotient, over all entries; None where not known."""
    name = node.attributes["function"]
    if name == "prelu":
        slope, one = node.constants["slope"], Fraction(1)
        low, high = (slope.factor * Fraction(float(x)) for x in slope.value.aminmax())
        return min(one, low, high), max(one, low, high)
    if name not in SLOPES:
        return None
    low, high = SLOPES[name](**node.attributes["parameters"])
    return low, high
