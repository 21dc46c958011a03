"""Fields with a first integral: x' = S(x) grad I(x), S skew [T15]."""

from torch import Tensor

from dsnn.fields.base import EnergyField
from dsnn.fields.layers import ConstantSkew, SkewEntries, SkewMatrix, apply_matrix
from dsnn.fields.potentials import LayerPotential, Potential
from dsnn.operators import Dense
from dsnn.structure import ENERGY


class FirstIntegralField(EnergyField):
    """x' = S(x) grad I(x): I is known or learned, S a learned or a constant skew matrix.

    Every field that conserves I is of this form where the gradient does not vanish.
    """

    conserves = frozenset({ENERGY})

    def __init__(self, energy: Potential, skew: SkewMatrix | ConstantSkew):
        super().__init__()
        self.energy, self.skew = energy, skew

    def integral(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.energy.gradient(x)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return apply_matrix(self.skew(x), g)


def first_integral_field(dim: int, width: int, hidden: int, act: str = "tanh"):
    """Dense, both learned: I = alphaᵀΓ(Ax + b) of `width` rows, S of `hidden` rows below."""
    energy = LayerPotential(Dense(dim, width), act, weighted=True)
    return FirstIntegralField(energy, SkewMatrix(SkewEntries(dim, hidden, act)))
