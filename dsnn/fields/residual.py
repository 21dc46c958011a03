"""Fields without a sign: they may expand [D7, T8'], and the two unconstrained baselines."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields.base import VectorField
from dsnn.fields.gradient import leaky
from dsnn.operators import LinearOperator


class ResidualField(VectorField):
    """f(x) = σ(Wx + v) with slopes of σ in [slope, 1]; Lipschitz with constant |W| [T8'].

    With a `sharpness` β, σ is smooth (`leaky`), with second derivatives of at most
    (1 - slope) β / 4.
    """

    def __init__(
        self,
        operator: LinearOperator,
        channels: int,
        slope: float = 0.5,
        sharpness: float | None = None,
    ):
        super().__init__()
        self.operator, self.slope, self.sharpness = operator, slope, sharpness
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky(self.operator(x, self.bias), self.slope, self.sharpness)


class TwoLayerField(VectorField):
    """f(x) = B ReLU(Ax + b) - damping x: a residual block (damping 0), or, with damping 1 and a
    step of 1/2, the averaged block (x + B ReLU(Ax + b)) / 2 of the naive regime [D8]."""

    def __init__(
        self, inner: LinearOperator, outer: LinearOperator, channels: int, damping: float = 0.0
    ):
        super().__init__()
        self.inner, self.outer, self.damping = inner, outer, damping
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.outer(F.relu(self.inner(x, self.bias)))
        return y - self.damping * x if self.damping else y
