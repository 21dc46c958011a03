"""Sphere-preserving fields Λ(x) x with Λ skew: <x, Λ(x) x> = 0 [D3, T1]."""

from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields.base import VectorField, equivariance
from dsnn.fields.layers import Layer, SkewEntries, SkewMatrix, apply_matrix
from dsnn.operators import LinearOperator
from dsnn.structure import NORM


class SphereField(VectorField):
    """x' = Λ(x) x, the upper triangle of Λ from a network, C σ(Bx + c) + d [T2'].

    Every field that is tangent to spheres is of this form up to any error on a compact set.
    """

    conserves = frozenset({NORM})

    def __init__(self, skew: SkewMatrix):
        super().__init__()
        self.skew = skew

    def forward(self, x: Tensor) -> Tensor:
        return apply_matrix(self.skew(x), x)


class OperatorSphereField(VectorField):
    """x' = Aᵀ D(x) B x - Bᵀ D(x) A x with D = diag σ(Cx + c): skew for any operators.

    The form for images, where a full matrix would not fit; with circular convolutions it is
    shift-equivariant as well. Raises UserError when A, B and C differ in their shapes.
    """

    def __init__(self, A: LinearOperator, B: LinearOperator, C: LinearOperator, act: str = "tanh"):
        super().__init__()
        sizes = {(op.inputs, op.outputs) for op in (A, B, C)}
        if len(sizes) != 1:
            raise UserError(f"A, B and C map {sorted(sizes)} (inputs, outputs): make them equal")
        self.A, self.B, self.weights = A, B, Layer(C, act)
        self.conserves = frozenset({NORM}) | equivariance(A, B, C)

    def forward(self, x: Tensor) -> Tensor:
        d = self.weights(x)
        return self.A.adjoint(d * self.B(x)) - self.B.adjoint(d * self.A(x))


def sphere_field(dim: int, hidden: int, act: str = "tanh") -> SphereField:
    """Dense, with `hidden` rows below the triangle."""
    return SphereField(SkewMatrix(SkewEntries(dim, hidden, act)))
