"""Any field as half of a Hamiltonian one: H(x, p) = <p, f(x)> [T3]."""

import torch
from torch import Tensor

from dsnn.fields.base import EnergyField, VectorField
from dsnn.fields.hamiltonian import HAMILTONIAN, apply_j


class LiftedField(EnergyField):
    """(x, p)' = (f(x), -Df(x)ᵀ p) on states (B, 2n), for f on states (B, n) [T3].

    The x-part does not know p, so every flow is the projection of a Hamiltonian one.
    """

    conserves = HAMILTONIAN

    def __init__(self, field: VectorField):
        super().__init__()
        self.field = field

    def integral(self, x: Tensor) -> Tensor:
        position, momentum = x.chunk(2, 1)
        return (momentum * self.field(position)).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        position, momentum = x.chunk(2, 1)
        value, pullback, *_ = torch.func.vjp(self.field, position)
        return torch.cat([pullback(momentum)[0], value], 1)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return apply_j(g)
