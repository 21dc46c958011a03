"""Unconstrained networks of the size of a structured one, and where trainings start."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import Layer, LayerPotential, VectorField
from dsnn.integrators import ExplicitEuler, NumericalStep
from dsnn.operators import Dense

N = TypeVar("N", bound=nn.Module)


class FreeField(VectorField):
    """f(x) = B σ(Ax + b) + d with `hidden` rows of A: any field, no property."""

    def __init__(self, dim: int, hidden: int, act: str = "tanh"):
        super().__init__()
        self.layer, self.outer = Layer(Dense(dim, hidden), act), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.layer(x))


def size(net: nn.Module) -> int:
    """The number of learned numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def free_steps(dim: int, layers: int, hidden: int, act: str, *, time: float) -> nn.Sequential:
    """`layers` explicit Euler steps of free fields: near the identity for a small time."""
    fields = [FreeField(dim, hidden, act) for _ in range(layers)]
    return nn.Sequential(*(NumericalStep(field, ExplicitEuler(), time) for field in fields))


def residual_network(
    inputs: int, dim: int, outputs: int, layers: int, hidden: int, act: str, *, time: float = 0.1
) -> nn.Sequential:
    """Linear, `layers` explicit Euler steps of free fields, linear: a ResNet."""
    steps = free_steps(dim, layers, hidden, act, time=time)
    return nn.Sequential(nn.Linear(inputs, dim), *steps, nn.Linear(dim, outputs))


def hidden_rows(parameters: int, inputs: int, dim: int, outputs: int, layers: int) -> int:
    """The `hidden` with which `residual_network` comes closest to so many parameters.

    Raises UserError where the two linear maps alone have more.
    """
    least = dim * (inputs + 1) + outputs * (dim + 1) + layers * (dim + 1)
    rows = round((parameters - least) / (layers * (2 * dim + 1)))
    if rows < 1:
        raise UserError(
            f"{parameters} parameters are too few for {layers} layers of {dim} entries: at least "
            f"{least + layers * (2 * dim + 1)}"
        )
    return rows


def spread(net: N) -> N:
    """The network from another start: rows of every layer σ(Ax + b) of about norm 1, biases uniform
    in [-1, 1], weights alpha of potentials normal with the variance 1 / rows.

    The fields start with A semi-orthogonal and b = 0, where many rows are short: then tanh is odd
    and nearly linear, and trainings of different seeds end in the same poor place.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Layer):
                rows, columns = module.operator.weight.shape
                module.operator.weight.mul_(max(1.0, rows / columns) ** 0.5)
                module.bias.uniform_(-1, 1)
            if isinstance(module, LayerPotential) and module.alpha is not None:
                module.alpha.normal_(0, len(module.alpha) ** -0.5)
    return net
