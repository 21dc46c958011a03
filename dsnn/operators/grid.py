"""The norm of a convolution from a coarse grid: second method, independent of the first.

For fixed unit vectors, <u, K(w) v> is a trigonometric polynomial in w of degree D = d (k - 1) / 2
after centring, which does not change its modulus. Its maximum is at most 1 / cos(pi D / M) times
that over M > 2 D equispaced points, in each dimension [Ehlich and Zeller 1964]. The spectral norms
on the grid are bounded by Gram iteration [Delattre et al. 2023]: |G| = |G^(2^i)|^(1 / 2^i), the
power by repeated squaring, bounded by its Frobenius norm, with the rounding of each squaring
carried back. No factorisation is involved, and the extent of the images does not enter: the bound
is for the infinite grid, which dominates zero and circular padding alike.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from dsnn.operators.geometry import Geometry, grouped
from dsnn.operators.rounding import TINY, gamma, sqrt_up, up
from dsnn.operators.symbol import CHUNK, evaluate, evaluation_error, phases

_SQUARINGS = 10


def gram_iteration(gram: Tensor) -> float:
    """Upper bound on the largest eigenvalue over a batch (..., n, n) of computed positive
    semidefinite matrices.

    With G Hermitian and S the Hermitian part of the computed G G, |S - G G| <= e = gamma |G|_F^2,
    so that |G|^2 <= |S| + e; applied backwards from |S| <= |S|_F of the last power. Raises
    ArithmeticError when the entries are not finite.
    """
    if not torch.isfinite(gram).all():
        raise ArithmeticError("the numbers of this matrix overflow")
    rounding = gamma(4 * (gram.shape[-1] + 4))
    scales = []
    power = gram
    for _ in range(_SQUARINGS):
        scales.append(_frobenius(power))
        power = power / scales[-1]
        power = (power + power.mH) / 2
        power = power @ power
    bound = _frobenius(power) * (1 + rounding)
    for scale in reversed(scales):
        bound = scale * (bound + 2 * rounding).sqrt() * (1 + rounding)
    return up(float(bound.max()))


def _frobenius(matrices: Tensor) -> Tensor:
    return matrices.abs().square().sum((-2, -1), keepdim=True).sqrt() + TINY


def phases_of(weight: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """A convolution of stride s as one of stride 1 that reads the s-fold phases of the padded
    image as channels of their own: K_r[q] = K[s q + r]. Where dilation, or circular padding of an
    extent that s does not divide, stand against it, the convolution as it is."""
    strides = geometry.stride
    whole = all(n % s == 0 for n, s in zip(geometry.extent, strides, strict=True))
    if max(strides) == 1 or max(geometry.dilation) > 1 or (geometry.circular and not whole):
        return weight, geometry
    s, r = strides
    _, _, k, l = weight.shape
    padded = torch.nn.functional.pad(weight.detach(), (0, -l % r, 0, -k % s))
    split = padded.unflatten(3, (-1, r)).unflatten(2, (-1, s)).permute(0, 1, 3, 5, 2, 4)
    return split.flatten(1, 3), replace(geometry, stride=(1, 1))


def norm_upper(weight: Tensor, geometry: Geometry, points: int = 24) -> float:
    """Upper bound on the largest singular value of the executed convolution of `weight`, from a
    grid of about `points` per dimension and unit of degree, whatever the extent."""
    copies = math.prod(geometry.repeats(dim, weight.shape[2 + dim]) for dim in (0, 1))
    weight, geometry = phases_of(weight, geometry)
    size = weight.shape[2:]
    degrees = [math.ceil(d * (k - 1) / 2) for d, k in zip(geometry.dilation, size, strict=True)]
    sides = [max(1, points * degree) for degree in degrees]
    rows, columns = torch.meshgrid(
        torch.arange(sides[0] // 2 + 1), torch.arange(sides[1]), indexing="ij"
    )
    factor = math.prod(
        1 / math.cos(math.pi * degree / side) for degree, side in zip(degrees, sides, strict=True)
    )
    worst = 0.0
    for block in grouped(weight, geometry.groups):
        count = max(1, CHUNK // block[:, :, 0, 0].numel())
        for f, g in zip(rows.flatten().split(count), columns.flatten().split(count), strict=True):
            symbol = evaluate(
                block,
                phases(f, sides[0], geometry.dilation[0], size[0]),
                phases(g, sides[1], geometry.dilation[1], size[1]),
            )
            wide = symbol.shape[1] < symbol.shape[2]
            gram = symbol @ symbol.mH if wide else symbol.mH @ symbol
            entries = float(symbol.abs().square().sum((1, 2)).max())
            square = gram_iteration(gram) + up(gamma(4 * (max(symbol.shape[1:]) + 2)) * entries)
            worst = max(worst, sqrt_up(up(square)) + evaluation_error(block))
    return up(up(worst) * factor * (1 + 2.0**-48) * math.sqrt(copies))
