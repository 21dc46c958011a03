"""Mass-preserving fields: the entries of (M - Mᵀ)1 add up to 0 [T14]."""

import torch
from torch import Tensor, nn

from dsnn.fields.base import VectorField, equivariance
from dsnn.fields.layers import Layer, SkewEntries
from dsnn.operators import Dense, LinearOperator
from dsnn.structure import MASS


class MassField(VectorField):
    """x' = (M - Mᵀ)1 with vec(M) = σ(Ux + u), U (n n, n) [T14]."""

    conserves = frozenset({MASS})

    def __init__(self, dim: int, act: str = "tanh"):
        super().__init__()
        self.dim = dim
        self.layer = Layer(Dense(dim, dim * dim), act)

    def forward(self, x: Tensor) -> Tensor:
        M = self.layer(x).reshape(len(x), self.dim, self.dim)
        return M.sum(2) - M.sum(1)


class TriangularMassField(VectorField):
    """x' = (M - Mᵀ)1 with the upper triangle of M from a network, C σ(Bx + c) + d [T14].

    (M - Mᵀ)1 is linear in the triangle: an incidence matrix of entries 1 and -1.
    """

    conserves = frozenset({MASS})
    incidence: Tensor

    def __init__(self, entries: SkewEntries):
        super().__init__()
        self.entries = entries
        rows, columns = torch.triu_indices(entries.dim, entries.dim, 1)
        incidence = torch.zeros(entries.dim, len(rows))
        incidence[rows, torch.arange(len(rows))] = 1
        incidence[columns, torch.arange(len(rows))] = -1
        self.register_buffer("incidence", incidence, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.entries(x), self.incidence)


class RingMassField(VectorField):
    """x' = φ - shift(φ), φ = C σ(Bx + c) + d: M has the entries (i, i + 1) alone, around a ring.

    Every vector of sum 0 is such a difference, so this gives as many fields as the full triangle,
    at the price of a free field of the same width [T14].
    """

    conserves = frozenset({MASS})

    def __init__(self, dim: int, hidden: int, act: str = "tanh"):
        super().__init__()
        self.layer, self.operator = Layer(Dense(dim, hidden), act), Dense(hidden, dim)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        flux = self.operator(self.layer(x), self.bias)
        return flux - flux.roll(-1, 1)


class FluxField(VectorField):
    """x' = φ - shift(φ) + ψ - shift(ψ): images that exchange mass with their neighbours [T14].

    φ = σ(Ax + b) flows into a pixel from the one above, ψ from the one to the left, around the
    torus: (M - Mᵀ)1 where M holds one entry a neighbour. A and B map C channels to C. With
    circular operators the field is shift-equivariant as well [T16].
    """

    def __init__(self, down: LinearOperator, right: LinearOperator, act: str = "tanh"):
        super().__init__()
        self.down, self.right = Layer(down, act), Layer(right, act)
        self.conserves = frozenset({MASS}) | equivariance(down, right)

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.down(x), self.right(x)
        return down - down.roll(-1, -2) + right - right.roll(-1, -1)


def mass_field(
    dim: int, hidden: int, act: str = "tanh", outer: str | None = None
) -> TriangularMassField:
    """Dense, with `hidden` rows below the triangle."""
    return TriangularMassField(SkewEntries(dim, hidden, act, outer))
