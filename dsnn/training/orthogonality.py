"""The penalty that keeps convolutions near orthogonal [D9].

A kernel K of an infinite-grid convolution A is orthogonal, AAᵀ = I, when its autocorrelation
C_d = Σ_t K_t K_{t+d}ᵀ, a matrix (outputs, outputs) for every offset d, is the identity at d = 0
and zero elsewhere. Since C_{-d} = C_dᵀ, half of the offsets hold all of it.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from dsnn.operators import Convolution


def orthogonality_defect(kernels: Tensor) -> Tensor:
    """|C - δI|_F of each kernel in (N, outputs, inputs, height, width): shape (N,).

    The same number as |conv2d(K, K, padding=size - 1) - δI|_F. Differentiable once.
    """
    return _Defect.apply(kernels.permute(0, 1, 3, 4, 2))  # pyright: ignore[reportReturnType]


def orthogonality_penalty(operators: Iterable[Convolution]) -> Tensor:
    """The sum of the defects, not squared, of one or more convolutions, in the weights' dtype.

    Raises ValueError on a grouped convolution, whose outputs do not all see the same inputs.
    """
    operators = sorted(operators, key=_shape)
    if any(operator.groups != 1 for operator in operators):
        raise ValueError("the orthogonality penalty is for convolutions with groups=1")
    batches = [
        torch.stack([operator.weight for operator in same])
        for _, same in groupby(operators, key=_shape)
    ]
    return torch.cat([orthogonality_defect(batch) for batch in batches]).sum()


def _shape(operator: Convolution) -> tuple[int, ...]:
    return tuple(operator.weight.shape)


def _offsets(
    height: int, width: int
) -> Iterator[tuple[bool, tuple[slice, ...], tuple[slice, ...]]]:
    """One of each pair ±d: whether it is d = 0, and the taps t and t + d that meet at it."""
    every = slice(None)
    for dy in range(height):
        for dx in range(1 - width if dy else 0, width):
            near = every, every, slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
            far = every, every, slice(dy, height), slice(max(0, dx), width + min(0, dx))
            yield (dy, dx) == (0, 0), near, far


class _Defect(torch.autograd.Function):
    """The defects |D|, D = C - δI, of kernels (N, outputs, height, width, inputs), and on the way
    their gradients 2 Σ_d D_d K / |D|, which need the same slices."""

    @staticmethod
    def forward(ctx: FunctionCtx, kernels: Tensor) -> Tensor:
        products = torch.zeros_like(kernels)
        squares = kernels.new_zeros(len(kernels))
        for central, near, far in _offsets(*kernels.shape[2:4]):
            first, second = kernels[near].flatten(2), kernels[far].flatten(2)
            defect = first @ second.mT
            if central:
                defect.diagonal(dim1=1, dim2=2).sub_(1)
            else:
                products[far] += (defect.mT @ first).view_as(products[far])
            products[near] += (defect @ second).view_as(products[near])
            squares += (1 if central else 2) * defect.square().sum((1, 2))
        defects = squares.sqrt()
        ctx.save_for_backward(products, defects)
        return defects

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        products, defects = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        scale = 2 * gradient / defects.clamp(min=torch.finfo(defects.dtype).tiny)
        return products * scale.view(-1, 1, 1, 1, 1)
