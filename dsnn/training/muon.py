"""Momentum made orthogonal: the update of a kernel has one singular value, not many.

M <- M + (1 - β)(G - M), D = G + β (M - G), kernels flattened to (outputs, the rest); the update is
the orthogonal factor of D, approximately, by five Newton-Schulz iterations whose coefficients bring
singular values in (0, 1] to about 1 (Jordan et al. 2024, "Muon"), times 0.2 sqrt(max(rows,
columns)) so that its entries are as large as Adam's, whose rates it takes (Liu et al. 2025).

For a step x - (2 / |A|^2) A'ReLU(Ax + b) that suits: what counts is the spectrum of A against its
largest singular value, and such updates keep it from spreading.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAM = (0.9, 0.999)
EPSILON = 1e-8


def orthogonal_factor(matrix: Tensor) -> Tensor:
    """About UVᵀ of the SVD USVᵀ of a matrix (m, n): singular values within 0.3 of 1, those far
    below the largest excepted. In the dtype of `matrix`; bfloat16 is enough."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.mT


class Muon(torch.optim.Optimizer):
    """`kernels` (two dimensions or more) by orthogonal momentum, `others` by Adam, at one rate, and
    without decay. `dtype` is that of the Newton-Schulz iterations."""

    def __init__(
        self,
        kernels: Iterable[Parameter],
        others: Iterable[Parameter],
        *,
        lr: float,
        beta: float = 0.9,
        dtype: torch.dtype = torch.bfloat16,
    ):
        groups = [{"params": [*kernels], "orthogonal": True}, {"params": [*others]}]
        defaults = {"lr": lr, "beta": beta, "orthogonal": False}
        super().__init__([group for group in groups if group["params"]], defaults)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            update = self._kernel if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, float(group["lr"]), group["beta"])

    def _kernel(self, parameter: Parameter, gradient: Tensor, rate: float, beta: float) -> None:
        state = self.state[parameter]
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - beta)
        direction = gradient.lerp(momentum, beta).flatten(1)
        update = orthogonal_factor(direction.to(self.dtype)).to(parameter.dtype)
        scale = 0.2 * max(direction.shape) ** 0.5
        parameter.sub_(update.view(parameter.shape), alpha=rate * scale)

    def _adam(self, parameter: Parameter, gradient: Tensor, rate: float, beta: float) -> None:
        state, (first, second) = self.state[parameter], ADAM
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        square = state.setdefault("square", torch.zeros_like(parameter))
        count = state.setdefault("count", torch.zeros((), dtype=torch.float32)).add_(1)
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        unbiased = (square / (1 - second ** float(count))).sqrt_().add_(EPSILON)
        parameter.addcdiv_(mean, unbiased, value=-rate / (1 - first ** float(count)))
