"""Gradient fields: the negative gradient of a convex potential contracts [D7, T7, T8]."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields.base import VectorField, equivariance
from dsnn.operators import LinearOperator
from dsnn.structure import GRADIENT


def convex_gradient(
    x: Tensor,
    operator: LinearOperator,
    bias: Tensor | None,
    slope: float,
    scale: Tensor | None = None,
) -> Tensor:
    """scale Aᵀσ(Ax + b): the gradient of 1ᵀΓ(Ax + b), Γ' = σ = max(x, slope x), times `scale`."""
    z = operator(x, bias)
    return operator.adjoint(F.relu(z) if slope == 0 else F.leaky_relu(z, slope), scale)


class GradientField(VectorField):
    """f(x) = -Aᵀσ(Ax + b): slopes of σ in [slope, 1], so slope = 0 is ReLU.

    `channels` is the number of rows of b, one per output channel or feature.
    """

    def __init__(self, operator: LinearOperator, channels: int, slope: float = 0.0):
        super().__init__()
        self.operator, self.slope = operator, slope
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conserves = equivariance(operator)
        self.claims = frozenset({GRADIENT}) | self.conserves

    def forward(self, x: Tensor) -> Tensor:
        return -convex_gradient(x, self.operator, self.bias, self.slope)

    def euler(self, x: Tensor, time: Tensor) -> Tensor:
        """x + time f(x), with the time in the kernel: no pass over the batch to scale it."""
        return x + convex_gradient(x, self.operator, self.bias, self.slope, -time)
