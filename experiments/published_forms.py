"""The layers of the authors' appendix as their code has them, for comparison: two are not what
they are called [notes on T2', D3].

The gradient part is D Aᵀ Σ(Ax + b), whose Jacobian is not symmetric, and the spherical part is an
explicit Euler step of Λ(x) x, which grows by h² |Λ(x) x|² in |x|².
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields import Layer, VectorField, sphere_field
from dsnn.integrators.base import Step
from dsnn.operators import Dense


class PublishedGradient(VectorField):
    """x -> D Aᵀ Σ(Ax + b), A square, D diagonal: no gradient field."""

    def __init__(self, dim: int, act: str):
        super().__init__()
        self.layer, self.alpha = Layer(Dense(dim, dim), act), nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * F.linear(self.layer(x), self.layer.operator.weight.T)


class PublishedStep(Step):
    """Explicit Euler of the "gradient" field, then of Λ(x) x, both with the time |u|."""

    def __init__(self, dim: int, hidden: int, act: str, time: float):
        super().__init__([time], signed=False)
        self.gradient, self.sphere = PublishedGradient(dim, act), sphere_field(dim, hidden, act)

    def forward(self, x: Tensor) -> Tensor:
        (h,) = self.times()
        x = self.gradient.euler(x, h)
        return self.sphere.euler(x, h)


def published_network(
    inputs: int, dim: int, outputs: int, blocks: int, layers: int, hidden: int, act: str
) -> nn.Sequential:
    """The regression network: per block a free linear map and `layers` steps, then a linear map."""
    parts: list[nn.Module] = []
    for block in range(blocks):
        parts.append(nn.Linear(dim if block else inputs, dim))
        parts += [PublishedStep(dim, hidden, act, 0.1) for _ in range(layers)]
    return nn.Sequential(*parts, nn.Linear(dim, outputs))
