"""The norm of a linear map from the sums of its absolute entries, exact on permutations.

|A|^2 <= max row sum of |A| times max column sum of |A| [Schur test]. A convolution without
repeated outputs has no larger sums than its kernel's, over the taps and the inputs of an output,
or the outputs of an input. Where each sum has one term nothing is rounded: the identity, signed
permutations and delta kernels keep the norm 1 that other methods round up.
"""

import math

import torch
from torch import Tensor

from dsnn.operators.geometry import Geometry, grouped
from dsnn.operators.rounding import gamma, sqrt_up, up


def norm_upper(weight: Tensor, geometry: Geometry | None = None) -> float:
    """Upper bound on the norm of a matrix (m, n), or of the convolution of a kernel
    (m, n / groups, k, l); infinity where outputs are repeated."""
    if geometry is None:
        geometry, weight = Geometry((1, 1)), weight[:, :, None, None]
    if geometry.repeats(0, weight.shape[2]) * geometry.repeats(1, weight.shape[3]) != 1:
        return math.inf
    blocks = grouped(weight, geometry.groups).abs()
    rows, columns = (_largest_sum(blocks, dims) for dims in ((2, 3, 4), (1, 3, 4)))
    return rows if rows == columns else up(sqrt_up(up(rows * columns)))


def _largest_sum(values: Tensor, dims: tuple[int, ...]) -> float:
    total = float(values.sum(dims).max())
    terms = int(torch.count_nonzero(values, dims).max())
    return total if terms <= 1 else up(total * (1 + gamma(math.prod(values.shape))))
