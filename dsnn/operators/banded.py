"""Tight singular values of zero-padded convolutions: a verified block-banded Cholesky proof.

Row by row of the image, AᵀA is block banded: rows i and i' are coupled only when
|i - i'| <= d (k - 1). A banded factor L with M - LLᵀ = R proves lambda_min(M) >= -|R|, for
M = tI - AᵀA (so |A|^2 <= t + |R|) or M = AᵀA - sI. The residual R is computed, so nothing is
assumed of the factorisation or of the triangular solves; only the products of matrices are trusted
to the model of `rounding`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnn.operators.geometry import Geometry, grouped
from dsnn.operators.rounding import UNIT, gamma, sqrt_down, sqrt_up, up

LARGEST_BLOCK = 2048
"""Unknowns in one row of the image, n times its width: above, a factorisation takes too long."""


@dataclass(frozen=True)
class BandedGram:
    """AᵀA of one group of a zero-padded convolution as blocks, with a bound on their rounding.

    `products[r][q]` is T_rᵀ T_q (b, b), b = n W, where T_r maps a row of inputs to a row of
    outputs through kernel row r; `uses[i]` lists the (output row, kernel row) that read row i.
    """

    products: list[list[Tensor]]
    uses: list[dict[int, int]]
    reach: int
    error: float

    def block(self, i: int, j: int) -> Tensor | None:
        """Block (i, j), None when it is zero."""
        terms = [
            self.products[r][self.uses[j][o]] for o, r in self.uses[i].items() if o in self.uses[j]
        ]
        return torch.stack(terms).sum(0) if terms else None


def feasible(weight: Tensor, geometry: Geometry) -> bool:
    """Whether the factorisation applies (zero padding) and fits."""
    return not geometry.circular and weight.shape[1] * geometry.extent[1] <= LARGEST_BLOCK


def banded_gram(block: Tensor, geometry: Geometry) -> BandedGram:
    """The Gram matrix of one group's kernel (m, n, k, l), float64."""
    m, n, k, size = block.shape
    height, width = geometry.extent
    columns = geometry.outputs(1, size)
    maps = torch.zeros(k, m, columns, n, width, dtype=torch.float64)
    for tap in range(size):
        for out in range(columns):
            read = geometry.stride[1] * out - geometry.pads(1)[0] + geometry.dilation[1] * tap
            if 0 <= read < width:
                maps[:, :, out, :, read] = block[:, :, :, tap].permute(2, 0, 1)
    rows = maps.reshape(k, m * columns, n * width)
    products: list[list[Tensor]] = [[rows[r].T @ rows[q] for q in range(k)] for r in range(k)]
    uses: list[dict[int, int]] = [{} for _ in range(height)]
    for out in range(geometry.outputs(0, k)):
        for r in range(k):
            read = geometry.stride[0] * out - geometry.pads(0)[0] + geometry.dilation[0] * r
            if 0 <= read < height:
                uses[read][out] = r
    absolute = block.abs()  # |A| has row sums and column sums below those of the kernel
    sums = float(absolute.sum((1, 2, 3)).max()) * float(absolute.sum((0, 2, 3)).max())
    error = up(gamma(m * columns + k + 4) * up(sums))
    return BandedGram(products, uses, geometry.dilation[0] * (k - 1), error)


def _certify(gram: BandedGram, shift: float, sign: int) -> float | None:
    """Bound on |M - LLᵀ| for M = sign (AᵀA - shift I), or None when no factor exists.

    Includes the rounding of the assembled blocks.
    """
    height, size = len(gram.uses), gram.products[0][0].shape[0]
    identity = torch.eye(size, dtype=torch.float64)
    factor: dict[tuple[int, int], Tensor] = {}
    residual = torch.zeros(height, height, dtype=torch.float64)
    largest = 0.0
    for j in range(height):
        for i in range(j, min(height, j + gram.reach + 1)):
            block = gram.block(i, j)
            target = torch.zeros_like(identity) if block is None else sign * block
            if i == j:
                target -= sign * shift * identity
            for k in range(max(0, i - gram.reach), j):
                target = target.addmm_(factor[i, k], factor[j, k].T, alpha=-1)
            if i == j:
                largest = max(largest, float(target.diagonal().abs().max()))
                lower, info = torch.linalg.cholesky_ex(target)
                if info.any() or not torch.isfinite(lower).all():
                    return None
            else:
                corner = factor[j, j]
                lower = torch.linalg.solve_triangular(corner.T, target, upper=True, left=False)
            factor[i, j] = lower
            target = target.addmm_(lower, factor[j, j].T, alpha=-1)
            residual[i, j] = residual[j, i] = float(target.norm())
        row = torch.cat([factor[j, k] for k in range(max(0, j - gram.reach), j + 1)], 1)
        largest = max(largest, float(row.square().sum(1).max()))
        for k in [key for key in factor if key[1] <= j - gram.reach]:
            del factor[k]
    # Entry (a, b) of M and of |L||L|ᵀ is at most the largest diagonal one, up to rounding.
    nonzeros = (2 * gram.reach + 1) * size
    rounding = gamma((gram.reach + 2) * size + 8) * 3 * nonzeros * (largest + abs(shift)) * 1.01
    return up(float(residual.sum(1).max()) * (1 + 1e-9) + rounding + gram.error + UNIT * shift)


def norm_upper(weight: Tensor, geometry: Geometry, estimate: float, fallback: float) -> float:
    """Upper bound on the largest singular value, near `estimate` where that is close to the truth,
    else `fallback`, which must be a bound itself. Needs `feasible`."""
    worst = 0.0
    for block in grouped(weight, geometry.groups):
        worst = max(worst, _group_upper(banded_gram(block, geometry), estimate, fallback))
    return min(worst, fallback)


def _group_upper(gram: BandedGram, estimate: float, fallback: float) -> float:
    for shift in _between(estimate**2, fallback**2):
        error = _certify(gram, shift, -1)
        if error is not None:
            return sqrt_up(up(shift + error))
    return fallback


def _between(low: float, high: float) -> Iterator[float]:
    step = 2e-4
    while low * (1 + step) < high and step < 0.1:
        yield low * (1 + step)
        step *= 5


def smallest_lower(weight: Tensor, geometry: Geometry, estimate: float) -> float:
    """Lower bound on inf |Ax| / |x| over the inputs, near `estimate` where that is close to the
    truth; 0 where none was proved. Needs `feasible`."""
    best = float("inf")
    for block in grouped(weight, geometry.groups):
        best = min(best, _group_lower(banded_gram(block, geometry), estimate))
    return best


def _group_lower(gram: BandedGram, estimate: float) -> float:
    for factor in (0.998, 0.98, 0.9, 0.6):
        shift = estimate**2 * factor
        error = _certify(gram, shift, 1) if shift > 0 else None
        if error is not None:
            return sqrt_down((shift - error) * (1 - 4 * UNIT))
    return 0.0
