"""Linear maps with their adjoints: the A of every field [D7]."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearOperator(nn.Module, ABC):
    """A linear map x -> Ax on single examples or batches; `adjoint` is y -> Aᵀy.

    A bias handed to the call is added to Ax: fused where the kernel allows it. A `scale` c gives
    cAx or cAᵀy and is multiplied into the weight, which is far smaller than a batch of states.
    """

    weight: nn.Parameter

    @abstractmethod
    def forward(
        self, x: Tensor, bias: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor: ...

    @abstractmethod
    def adjoint(self, y: Tensor, scale: Tensor | None = None) -> Tensor: ...

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Features or channels of x; `outputs` are those of Ax."""

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def shift_equivariant(self) -> bool:
        """Whether A commutes with circular shifts of images [T16]."""
        return False

    def scaled_weight(self, scale: Tensor | None) -> Tensor:
        return self.weight if scale is None else scale * self.weight


class Dense(LinearOperator):
    """x (..., n) -> Wx (..., m) with W of shape (m, n), initialised semi-orthogonal."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor, bias: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        return F.linear(x, self.scaled_weight(scale), bias)

    def adjoint(self, y: Tensor, scale: Tensor | None = None) -> Tensor:
        return F.linear(y, self.scaled_weight(scale).T)

    @property
    def inputs(self) -> int:
        return self.weight.shape[1]


class Convolution(LinearOperator):
    """A 2-D convolution of odd or even size with zero or circular padding.

    x (B, inputs, H, W) -> (B, outputs, H', W'). `padding` defaults to size // 2. The kernel starts
    delta-orthogonal: orthogonal at its centre tap, zero elsewhere. The adjoint returns the
    extent that the forward pass takes when H and W are multiples of the stride, as in every
    network here.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        circular: bool = False,
    ):
        super().__init__()
        self.stride, self.groups, self.circular = stride, groups, circular
        self.padding = size // 2 if padding is None else padding
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, size, size))
        with torch.no_grad():
            for block in self.weight.chunk(groups):
                nn.init.orthogonal_(block[:, :, size // 2, size // 2])

    def forward(self, x: Tensor, bias: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        weight, padding = self.scaled_weight(scale), self.padding
        if self.circular:
            x, padding = F.pad(x, (padding,) * 4, mode="circular"), 0
        return F.conv2d(x, weight, bias, self.stride, padding, 1, self.groups)

    def adjoint(self, y: Tensor, scale: Tensor | None = None) -> Tensor:
        weight = self.scaled_weight(scale)
        height, width = (self.stride * extent for extent in y.shape[-2:])
        p, size = self.padding, self.weight.shape[-1]
        outer = (2 * p if self.circular else 0) + height, (2 * p if self.circular else 0) + width
        inner = 0 if self.circular else p
        missing = [
            n - ((m - 1) * self.stride - 2 * inner + size)
            for n, m in zip(outer, y.shape[-2:], strict=True)
        ]
        x = F.conv_transpose2d(y, weight, None, self.stride, inner, missing, self.groups)
        return _fold(x, p, height, width) if self.circular else x

    @property
    def inputs(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def shift_equivariant(self) -> bool:
        """Circular padding that keeps the extent, stride 1: zero padding is not, at the border."""
        same = 2 * self.padding == self.weight.shape[-1] - 1
        return self.circular and self.stride == 1 and same


def _fold(x: Tensor, padding: int, height: int, width: int) -> Tensor:
    """The adjoint of circular padding: adds each border strip to the pixels it was copied from."""
    if padding == 0:
        return x
    for dim, extent in ((-2, height), (-1, width)):
        core = x.narrow(dim, padding, extent).clone()
        core.narrow(dim, extent - padding, padding).add_(x.narrow(dim, 0, padding))
        core.narrow(dim, 0, padding).add_(x.narrow(dim, extent + padding, padding))
        x = core
    return x
