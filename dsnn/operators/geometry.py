"""What a convolution executes: its kernel and everything around it that changes its norm."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """A 2-D convolution of images of `extent` (height, width), as torch executes it.

    `padding` is (top, bottom, left, right) zeros, or copies from the other side when `circular`.
    """

    extent: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    circular: bool = False

    def apply(self, weight: Tensor, x: Tensor) -> Tensor:
        """The executed map on x (B, C, H, W), in the dtype of its arguments, without bias."""
        top, bottom, left, right = self.padding
        mode = "circular" if self.circular else "constant"
        if any(self.padding):
            x = F.pad(x, (left, right, top, bottom), mode=mode)
        return F.conv2d(x, weight, None, self.stride, 0, self.dilation, self.groups)

    def pads(self, dim: int) -> tuple[int, int]:
        """Padding before and after along dimension 0 (height) or 1 (width)."""
        return (self.padding[2 * dim], self.padding[2 * dim + 1])

    def outputs(self, dim: int, size: int) -> int:
        """Number of outputs along `dim` for a kernel of `size` taps."""
        padded = self.extent[dim] + sum(self.pads(dim))
        return (padded - self.dilation[dim] * (size - 1) - 1) // self.stride[dim] + 1

    def torus(self, dim: int, size: int) -> int:
        """Side of a torus whose circular operator dominates this one.

        Circular padding is the torus of the extent itself. Zero padding needs n + d (k - 1), or
        n + k // 2 for d = 1 and padding at most k // 2; then a multiple of the stride.
        """
        if self.circular:
            return self.extent[dim]
        near = self.dilation[dim] == 1 and max(self.pads(dim)) <= size // 2
        side = self.extent[dim] + (size // 2 if near else self.dilation[dim] * (size - 1))
        return -(-side // self.stride[dim]) * self.stride[dim]

    def repeats(self, dim: int, size: int) -> int:
        """How often the torus's outputs occur at most among the executed ones (1 unless padding
        is circular and wider than the kernel needs)."""
        if not self.circular:
            return 1
        distinct = self.extent[dim] // math.gcd(self.extent[dim], self.stride[dim])
        return -(-self.outputs(dim, size) // distinct)

    def is_torus(self, size: tuple[int, int]) -> bool:
        """Whether the executed map is exactly one circular operator, each output once; without
        padding a single tap is one."""
        pointwise = size == (1, 1) and not any(self.padding)
        return (self.circular or pointwise) and all(
            self.extent[dim] % self.stride[dim] == 0
            and self.outputs(dim, size[dim]) * self.stride[dim] == self.extent[dim]
            for dim in (0, 1)
        )


def grouped(weight: Tensor, groups: int) -> Tensor:
    """Kernel (m, n / g, k, l) -> float64 blocks (g, m / g, n / g, k, l): the map is their direct
    sum, so its largest singular value is the maximum over them."""
    weight = weight.detach().to("cpu", torch.float64)
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
