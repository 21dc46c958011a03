"""Polynomial formulas in float64 with a bound on their rounding error, for defects of identities.

`Counted` carries a value, the same formula with absolute values put in (`moduli`), and a number k
of roundings: |value - exact| <= k u / (1 - k u) moduli, with u = 2^-53 (Higham, Accuracy and
Stability, 3.1). The moduli are themselves computed in float64; the factor COVER allows for that.
"""

from dataclasses import dataclass

import numpy as np

from verification.strategies.rounding import COVER, UNDERFLOW, UNIT, Array


@dataclass(frozen=True)
class Counted:
    value: Array
    moduli: Array
    roundings: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.value + other.value,
            self.moduli + other.moduli,
            max(self.roundings, other.roundings) + 1,
        )

    def __sub__(self, other: "Counted") -> "Counted":
        return self + Counted(-other.value, other.moduli, other.roundings)

    def __mul__(self, other: "Counted") -> "Counted":
        return Counted(
            self.value * other.value,
            self.moduli * other.moduli,
            self.roundings + other.roundings + 1,
        )

    def __truediv__(self, other: "Counted") -> "Counted":
        """By a sum of numbers that are not negative, so that its moduli are its value."""
        return Counted(
            self.value / other.value,
            self.moduli / other.value,
            self.roundings + other.roundings + 2,
        )

    def power(self, exponent: int) -> "Counted":
        result = stored(np.ones_like(self.value))
        for _ in range(exponent):
            result = result * self
        return result

    def defect(self) -> Array:
        """A lower bound of |exact|."""
        relative = self.roundings * UNIT / (1 - self.roundings * UNIT)
        error = relative * COVER * self.moduli + UNDERFLOW
        return np.maximum(np.abs(self.value) - error, 0) * (1 - UNIT)


def stored(value: Array | float) -> Counted:
    """Doubles as they are."""
    array = np.asarray(value, dtype=np.float64)
    return Counted(array, np.abs(array))


def contract(indices: str, left: Counted, right: Counted) -> Counted:
    """einsum over two operands: products and the sum over the indices that the result lacks."""
    inputs, output = indices.split("->")
    operands = inputs.split(",")
    sizes = {
        name: size
        for names, operand in zip(operands, (left, right), strict=True)
        for name, size in zip(names, operand.value.shape, strict=True)
    }
    terms = int(np.prod([size for name, size in sizes.items() if name not in output]))
    return Counted(
        np.einsum(indices, left.value, right.value),
        np.einsum(indices, left.moduli, right.moduli),
        left.roundings + right.roundings + terms,
    )


def total(terms: list[Counted]) -> Counted:
    """The sum of some of them."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
