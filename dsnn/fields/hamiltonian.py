"""Hamiltonian fields x' = J grad H(x), x = (q, p): their flows are symplectic [T13]."""

import torch
from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields.base import EnergyField, SplitField
from dsnn.fields.potentials import LayerPotential, Potential
from dsnn.operators import Dense
from dsnn.structure import ENERGY, SYMPLECTIC, closed

HAMILTONIAN = closed({SYMPLECTIC, ENERGY})


def half(dim: int) -> int:
    """dim / 2. Raises UserError when there is no such half."""
    if dim < 2 or dim % 2:
        raise UserError(
            f"a symplectic state has an even dimension, (q, p), not {dim}: add or drop one entry"
        )
    return dim // 2


def apply_j(g: Tensor) -> Tensor:
    """J g = (g_p, -g_q), the halves along dimension 1."""
    q, p = g.chunk(2, 1)
    return torch.cat([p, -q], 1)


class HamiltonianField(EnergyField):
    """x' = J grad H(x); with H = 1ᵀΓ(Ax + b) that is J Aᵀσ(Ax + b) [T13].

    `dim` is the number of features or channels, q and p together. Raises UserError when it is odd.
    """

    def __init__(self, energy: Potential, dim: int):
        super().__init__()
        self.energy, self.dim = energy, 2 * half(dim)
        self.conserves = HAMILTONIAN | energy.claims

    def integral(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.energy.gradient(x)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return apply_j(g)


class SeparableHamiltonian(SplitField):
    """H(q, p) = K(p) + U(q): q' = grad K(p), p' = -grad U(q).

    With layers that is q' = Bᵀσ(Bp + b), p' = -Cᵀσ(Cq + c) [T13]. Raises UserError when `dim`, the
    number of features or channels of (q, p), is odd.
    """

    def __init__(self, kinetic: Potential, potential: Potential, dim: int):
        super().__init__()
        self.kinetic, self.potential, self.split = kinetic, potential, half(dim)
        self.conserves = HAMILTONIAN | (kinetic.claims & potential.claims)

    def drift(self, p: Tensor) -> Tensor:
        return self.kinetic.gradient(p)

    def kick(self, q: Tensor) -> Tensor:
        return -self.potential.gradient(q)

    def integral(self, x: Tensor) -> Tensor:
        q, p = self.parts(x)
        return self.kinetic(p) + self.potential(q)

    def gradient(self, x: Tensor) -> Tensor:
        q, p = self.parts(x)
        return torch.cat([self.potential.gradient(q), self.kinetic.gradient(p)], 1)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return apply_j(g)


def hamiltonian(dim: int, width: int, act: str = "tanh") -> HamiltonianField:
    """Dense, H = alphaᵀΓ(Ax + b) with A (width, dim)."""
    return HamiltonianField(LayerPotential(Dense(dim, width), act, weighted=True), dim)


def separable_hamiltonian(dim: int, width: int, act: str = "tanh") -> SeparableHamiltonian:
    """Dense, K and U of `width` rows each, with weights alpha."""
    n = half(dim)
    kinetic, potential = (LayerPotential(Dense(n, width), act, weighted=True) for _ in range(2))
    return SeparableHamiltonian(kinetic, potential, dim)
