"""Shift-equivariant fields: circular convolutions and one bias a channel [T16]."""

from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields.base import VectorField
from dsnn.fields.layers import Layer
from dsnn.operators import LinearOperator
from dsnn.structure import SHIFT


class ShiftField(VectorField):
    """f(x) = B σ(Ax + b) with f(Px) = P f(x) for circular shifts P of the image.

    Raises UserError on an operator that does not commute with shifts.
    """

    claims = frozenset({SHIFT})
    conserves = frozenset({SHIFT})

    def __init__(self, inner: LinearOperator, outer: LinearOperator, act: str = "tanh"):
        super().__init__()
        for operator in (inner, outer):
            if not operator.shift_equivariant:
                raise UserError(
                    f"{type(operator).__name__} does not commute with shifts: a convolution of odd "
                    "size with circular=True, stride 1 and padding size // 2 does"
                )
        self.layer, self.outer = Layer(inner, act), outer

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.layer(x))
