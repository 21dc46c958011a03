"""The norm of a convolution from its symbol: first method, exact on the torus.

The circular operator on a torus is block diagonal in the Fourier basis. Its blocks are the symbol
K(w) = sum over taps of K_t exp(-i <w, t>), and with stride s the s-fold aliased frequencies side
by side, divided by s per dimension. Zero padding is a compression of the circular operator on a
large enough torus (`Geometry.torus`), so the torus bounds it from above, and only from above.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dsnn.operators.definite import largest_eigenvalue, smallest_eigenvalue
from dsnn.operators.geometry import Geometry, grouped
from dsnn.operators.rounding import down, gamma, sqrt_down, sqrt_up, up

CHUNK = 2**22
"""Complex entries of the symbol held at once, 64 MiB."""


def phases(frequencies: Tensor, side: int, dilation: int, size: int) -> Tensor:
    """exp(-2 pi i f d t / side) for integer f (F,) and taps t < size: (F, size), each entry
    within 12 unit roundoffs: the angle is reduced exactly, to half a turn, before it is rounded."""
    turns = (frequencies[:, None] * torch.arange(size) * dilation) % side
    turns = torch.where(2 * turns > side, turns - side, turns)
    angles = turns.to(torch.float64) * (-2 * math.pi / side)
    return torch.polar(torch.ones_like(angles), angles)


def evaluate(block: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The symbol (F, m, n) of a kernel block (m, n, k, l) at F pairs of row and column phases."""
    taps = (rows[:, :, None] * columns[:, None, :]).flatten(1)
    m, n = block.shape[:2]
    flat = block.permute(2, 3, 0, 1).reshape(taps.shape[1], m * n).to(torch.complex128)
    return (taps @ flat).reshape(-1, m, n)


def evaluation_error(block: Tensor) -> float:
    """Bound on |computed - exact symbol| in the Frobenius norm at any frequency: the inner product
    over the taps, and 28 roundoffs for the product of two phases."""
    taps = block.shape[2] * block.shape[3]
    total = float(block.abs().sum((2, 3)).norm())
    return up(gamma(4 * taps + 32) * total)


def _symbols(block: Tensor, geometry: Geometry) -> Iterator[Tensor]:
    """Chunks (F, m, n s r) of the torus operator's diagonal blocks, over half of its frequencies:
    the other half is the complex conjugate. Strides (s, r) that do not divide the torus are taken
    as 1, which only adds outputs. Each block is within `evaluation_error` of the exact one."""
    m, n, *size = block.shape
    sides = [geometry.torus(dim, size[dim]) for dim in (0, 1)]
    s, r = (1 if n % s else s for n, s in zip(sides, geometry.stride, strict=True))
    rows, columns = torch.meshgrid(
        torch.arange(sides[0] // s // 2 + 1), torch.arange(sides[1] // r), indexing="ij"
    )
    count = max(1, CHUNK // (m * n * s * r))
    for f, g in zip(rows.flatten().split(count), columns.flatten().split(count), strict=True):
        aliases = [
            evaluate(
                block,
                phases(f + a * (sides[0] // s), sides[0], geometry.dilation[0], size[0]),
                phases(g + b * (sides[1] // r), sides[1], geometry.dilation[1], size[1]),
            )
            for a in range(s)
            for b in range(r)
        ]
        yield torch.cat(aliases, -1) / math.sqrt(s * r)


def _gram_error(symbol: Tensor, inner: int) -> float:
    """Bound on the error of a computed Gram matrix with inner products of length `inner`."""
    squares = torch.view_as_real(symbol).square()
    return up(gamma(4 * (inner + 2)) * float(squares.sum((1, 2, 3)).max()))


def norm_upper(weight: Tensor, geometry: Geometry) -> float:
    """Upper bound on the largest singular value of the executed convolution of `weight`."""
    size = (weight.shape[2], weight.shape[3])
    worst = 0.0
    for block in grouped(weight, geometry.groups):
        for symbol in _symbols(block, geometry):
            wide = symbol.shape[1] < symbol.shape[2]
            gram = symbol @ symbol.mH if wide else symbol.mH @ symbol
            known = worst * worst * (1 - 1e-9)
            square = largest_eigenvalue(gram, known) + _gram_error(symbol, max(symbol.shape[1:]))
            worst = max(worst, sqrt_up(up(square)) + evaluation_error(block))
    copies = geometry.repeats(0, size[0]) * geometry.repeats(1, size[1])
    return up(worst) if copies == 1 else up(worst * math.sqrt(copies))


def smallest_lower(weight: Tensor, geometry: Geometry) -> float:
    """Lower bound on inf |Ax| / |x| over the inputs; 0 unless the map is exactly a torus's."""
    if not geometry.is_torus((weight.shape[2], weight.shape[3])):
        return 0.0
    best = math.inf
    for block in grouped(weight, geometry.groups):
        for symbol in _symbols(block, geometry):
            if symbol.shape[1] < symbol.shape[2]:
                return 0.0
            gram = symbol.mH @ symbol
            square = smallest_eigenvalue(gram) - _gram_error(symbol, symbol.shape[1])
            best = min(best, sqrt_down(square * (1 - 2**-44)) - evaluation_error(block))
    return down(best)
