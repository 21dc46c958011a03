"""An upper bound on the norm of a lift, cheap enough for every training step."""

import math

import torch
from torch import Tensor

from dsnn.operators import Convolution
from dsnn.operators.bounds import geometry_of

SQUARINGS = 5
"""Of the Gram matrices; the bound exceeds the torus norm by inputs^(1/128) at most."""


@torch.no_grad()
def lift_norm_bound(operator: Convolution, side: int) -> Tensor:
    """An upper bound, up to rounding, on the norm of a convolution of images (side, side) with
    stride 1 and no groups: a scalar tensor in the weight's dtype and on its device.

    The circular operator on a large enough torus dominates the executed one and is block diagonal
    with blocks K(w). With G = K(w)* K(w) and p = 2^5, |K(w)|² <= |G^p|_F^(1/p), which is itself a
    norm of the kernel, so that a kernel divided by it has bound 1. A verdict does not use this
    number but `dsnn.operators.bounds`, which also accounts for the rounding. Raises ValueError on
    a stride or groups.
    """
    if operator.stride != 1 or operator.groups != 1:
        raise ValueError("the lift's bound is for convolutions with stride=1 and groups=1")
    kernel = operator.weight
    size = kernel.shape[-2:]
    geometry = geometry_of(operator, (side, side))
    sides = [geometry.torus(dim, size[dim]) for dim in (0, 1)]
    real, imaginary = _symbol(kernel, sides[0], sides[1])
    stacked = torch.cat([real, imaginary], 1)
    gram, logarithm = _stack(stacked, real, imaginary), kernel.new_zeros(())
    for squaring in range(SQUARINGS + 1):
        norm = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True)
        norm.clamp_(min=torch.finfo(norm.dtype).tiny)
        logarithm = logarithm + norm.log() / 2**squaring
        if squaring < SQUARINGS:
            gram.div_(norm)
            gram = _stack(gram, *gram.chunk(2, 1))
    return (logarithm.max() / 2).exp()


def _stack(stacked: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """The real part of Z*Z above its imaginary part, for Z = real + i imaginary given stacked; for
    a Hermitian Z that is its square."""
    mixed = real.mT @ imaginary
    return torch.cat([stacked.mT @ stacked, mixed - mixed.mT], 1)


def _symbol(kernel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts (F, outputs, inputs) of K(w) at half of the frequencies of the
    torus (height, width); the other half is the complex conjugate."""
    outputs, inputs, *size = kernel.shape
    angles = [
        torch.arange(count, device=kernel.device, dtype=kernel.dtype)[:, None]
        * torch.arange(taps, device=kernel.device)
        * (2 * math.pi / side)
        for count, taps, side in zip((height, width // 2 + 1), size, (height, width), strict=True)
    ]
    angle = (angles[0][:, None, :, None] + angles[1][None, :, None, :]).flatten(0, 1).flatten(1)
    waves = torch.cat([angle.cos(), -angle.sin()])
    symbol = waves @ kernel.permute(2, 3, 0, 1).flatten(0, 1).flatten(1)
    real, imaginary = symbol.view(2, -1, outputs, inputs)
    return real, imaginary
