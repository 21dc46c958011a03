"""Gradient fields: the negative gradient of a convex potential contracts [D7, T7, T8]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields.base import VectorField, equivariance
from dsnn.operators import LinearOperator
from dsnn.structure import GRADIENT


def leaky(z: Tensor, slope: float, sharpness: float | None = None) -> Tensor:
    """max(z, slope z) for a slope in [0, 1], or, smooth, slope z + (1 - slope) s(z) with
    s(z) = log(1 + exp(sharpness z)) / sharpness."""
    if sharpness is None:
        return F.relu(z) if slope == 0 else F.leaky_relu(z, slope)
    smooth = F.softplus(z, sharpness)
    return smooth if slope == 0 else slope * z + (1 - slope) * smooth


def convex_gradient(
    x: Tensor,
    operator: LinearOperator,
    bias: Tensor | None,
    slope: float,
    scale: Tensor | None = None,
    sharpness: float | None = None,
) -> Tensor:
    """scale Aᵀσ(Ax + b): the gradient of 1ᵀΓ(Ax + b), Γ' = σ, times `scale`, σ as `leaky`."""
    return operator.adjoint(leaky(operator(x, bias), slope, sharpness), scale)


class GradientField(VectorField):
    """f(x) = -Aᵀσ(Ax + b): slopes of σ in [slope, 1], so slope = 0 is ReLU.

    `channels` is the number of rows of b, one per output channel or feature. With a `sharpness` β,
    σ is smooth (`leaky`), with second derivatives of at most (1 - slope) β / 4.
    """

    def __init__(
        self,
        operator: LinearOperator,
        channels: int,
        slope: float = 0.0,
        sharpness: float | None = None,
    ):
        super().__init__()
        self.operator, self.slope, self.sharpness = operator, slope, sharpness
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conserves = equivariance(operator)
        self.claims = frozenset({GRADIENT}) | self.conserves

    def forward(self, x: Tensor) -> Tensor:
        return -convex_gradient(x, self.operator, self.bias, self.slope, None, self.sharpness)

    def euler(self, x: Tensor, time: Tensor) -> Tensor:
        """x + time f(x), with the time in the kernel: no pass over the batch to scale it."""
        return x + convex_gradient(x, self.operator, self.bias, self.slope, -time, self.sharpness)
