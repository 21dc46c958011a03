"""Potentials with their gradients: what Hamiltonian, gradient and conserving fields derive from."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dsnn.fields.base import equivariance
from dsnn.fields.layers import Layer
from dsnn.operators import LinearOperator


class Potential(nn.Module, ABC):
    """States (B, ...) -> values (B,), with the gradient (B, ...). `claims` are those of the
    gradient beside being one."""

    claims: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor: ...


class LayerPotential(Potential):
    """V(x) = alphaᵀ Γ(Ax + b), Γ' = σ; its gradient is Aᵀ diag(alpha) σ(Ax + b) [T2', T13].

    alpha is learned, one number a row of A, or 1 with `weighted=False`.
    """

    def __init__(self, operator: LinearOperator, act: str = "tanh", *, weighted: bool = False):
        super().__init__()
        self.layer = Layer(operator, act)
        self.alpha = nn.Parameter(torch.ones(operator.outputs)) if weighted else None
        self.claims = equivariance(operator)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        values = layer.activation.primitive(layer.operator(x, layer.bias))
        if self.alpha is not None:
            values = values * self.alpha.reshape(-1, *[1] * (values.ndim - 2))
        return values.flatten(1).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        operator = self.layer.operator
        # diag(alpha) goes into the weight, as a scale of its rows.
        rows = [-1, *[1] * (operator.weight.ndim - 1)]
        return operator.adjoint(
            self.layer(x), None if self.alpha is None else self.alpha.reshape(rows)
        )


class FunctionPotential(Potential):
    """A known V, given as a function (B, ...) -> (B,); the gradient is automatic."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def gradient(self, x: Tensor) -> Tensor:
        return torch.func.grad(lambda state: self.function(state).sum())(x)
