from fractions import Fraction

from verification.graph import Node


def slope_range(node: Node) -> tuple[Fraction, Fraction] | None:
    f = node.attributes["function"]
    p = node.attributes.get("parameters", {})
    if f == "relu":
        return Fraction(0), Fraction(1)
    if f == "leaky_relu":
        a = Fraction(p["negative_slope"])
        return min(a, Fraction(1)), max(a, Fraction(1))
    if f in ("tanh",):
        return Fraction(0), Fraction(1)
    return None
