"""The two parts of any field, grad U + Λ(x) x, as layers [T1, T2']."""

from torch import Tensor

from dsnn.fields.base import EnergyField, SumField
from dsnn.fields.potentials import LayerPotential, Potential
from dsnn.fields.sphere import sphere_field
from dsnn.operators import Dense
from dsnn.structure import GRADIENT


class PotentialField(EnergyField):
    """x' = grad U(x) = Aᵀ diag(alpha) σ(Ax + b) [T2'], without a sign: U grows along the flow.

    The published code multiplies D Aᵀσ(Ax + b), which is no gradient.
    """

    def __init__(self, potential: Potential):
        super().__init__()
        self.potential = potential
        self.claims = frozenset({GRADIENT}) | potential.claims
        self.conserves = potential.claims

    def integral(self, x: Tensor) -> Tensor:
        return self.potential(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.potential.gradient(x)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return g


def presnov_field(dim: int, width: int, hidden: int, act: str = "tanh") -> SumField:
    """grad U of `width` rows plus Λ(x) x of `hidden` rows below the triangle, dense."""
    potential = LayerPotential(Dense(dim, width), act, weighted=True)
    return SumField(PotentialField(potential), sphere_field(dim, hidden, act))
