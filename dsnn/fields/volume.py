"""Volume-preserving pairs: each part is moved by the other, so the divergence is 0 [T12]."""

from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields.base import SplitField, equivariance
from dsnn.fields.layers import Layer
from dsnn.operators import Dense, LinearOperator
from dsnn.structure import VOLUME


class VolumeField(SplitField):
    """x' = σ(Av + a), v' = σ(Bx + b) [T12]; the two parts may have different sizes.

    Raises UserError when A does not map the part of v to that of x, or B the other way.
    """

    def __init__(self, first: LinearOperator, second: LinearOperator, act: str = "tanh"):
        super().__init__()
        if (first.inputs, first.outputs) != (second.outputs, second.inputs):
            raise UserError(
                f"A maps {first.inputs} entries to {first.outputs} and B {second.inputs} to "
                f"{second.outputs}: B must map back, {first.outputs} to {first.inputs}"
            )
        self.split = first.outputs
        self.first, self.second = Layer(first, act), Layer(second, act)
        self.conserves = frozenset({VOLUME}) | equivariance(first, second)

    def drift(self, p: Tensor) -> Tensor:
        return self.first(p)

    def kick(self, q: Tensor) -> Tensor:
        return self.second(q)


def volume_field(dim: int, act: str = "tanh") -> VolumeField:
    """Dense: x has dim // 2 entries and v the others. Raises UserError for dim < 2."""
    if dim < 2:
        raise UserError(f"a pair needs two entries, not {dim}: one volume-preserving map is x + c")
    n = dim // 2
    return VolumeField(Dense(dim - n, n), Dense(n, dim - n), act)
