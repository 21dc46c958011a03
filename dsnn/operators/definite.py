"""Verified extreme eigenvalues of Hermitian matrices: an estimate, then a Cholesky proof.

A Cholesky factorisation R*R = M + E that runs to completion proves lambda_min(M) >= -|E|, with
|E| <= gamma(4 (n + 2)) tr(M) / (1 - gamma) a priori [Higham, theorem 10.3; Rump 2006]. The
eigenvalue solver only proposes the shift; nothing rests on it.
"""

import torch
from torch import Tensor

from dsnn.operators.rounding import TINY, UNIT, gamma, up


def _factorises(shifted: Tensor) -> bool:
    factor, info = torch.linalg.cholesky_ex(shifted)
    return not info.any() and bool(torch.isfinite(factor).all())


def _slack(shifted: Tensor) -> float:
    """Bound on |E| above and on the rounding of the shift, the worst over the batch."""
    n = shifted.shape[-1]
    diagonal = shifted.diagonal(dim1=-2, dim2=-1).real.abs()
    trace, largest = float(diagonal.sum(-1).max()), float(diagonal.max())
    return up(gamma(4 * (n + 3)) * trace * 1.01 + 2 * UNIT * largest) + TINY


def largest_eigenvalue(gram: Tensor) -> float:
    """Upper bound on the largest eigenvalue over a batch (..., n, n) of positive semidefinite
    matrices: those whose lower triangles are stored. Real or complex double precision.

    Raises ArithmeticError when the entries are not finite or no shift could be verified.
    """
    n = gram.shape[-1]
    estimate = float(torch.linalg.eigvalsh(gram).max())
    step = 1e-12 + 4 * n * UNIT
    while step < 1:
        shift = abs(estimate) * (1 + step) + TINY
        shifted = -gram
        shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
        if _factorises(shifted):
            return up(shift + _slack(shifted) + UNIT * shift)
        step *= 8
    raise ArithmeticError(f"no shift near {estimate} makes the matrix definite")


def smallest_eigenvalue(gram: Tensor) -> float:
    """Lower bound, at least 0, on the smallest eigenvalue over a batch of positive semidefinite
    matrices as in `largest_eigenvalue`."""
    n = gram.shape[-1]
    eigenvalues = torch.linalg.eigvalsh(gram)
    estimate, largest = float(eigenvalues.min()), float(eigenvalues.max())
    step = 1e-12 * estimate + 4 * n * UNIT * largest
    while 0 < step < estimate:
        shift = estimate - step
        shifted = gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).sub_(shift)
        if _factorises(shifted):
            lower = shift - _slack(shifted) - UNIT * (largest + shift)
            return max(0.0, lower * (1 - 4 * UNIT))
        step *= 8
    return 0.0
