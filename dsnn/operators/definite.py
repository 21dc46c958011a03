"""Verified extreme eigenvalues of Hermitian matrices: an estimate, then a Cholesky proof.

A Cholesky factorisation R*R = M + E that runs to completion proves lambda_min(M) >= -|E|, with
|E| <= gamma(4 (n + 2)) tr(M) / (1 - gamma) a priori [Higham, theorem 10.3; Rump 2006]. The
eigenvalue solver only proposes the shift; nothing rests on it.
"""

import torch
from torch import Tensor

from dsnn.operators.rounding import TINY, UNIT, gamma, up


def _factorised(shifted: Tensor) -> Tensor:
    """Which matrices of a batch (b, n, n) have a finite Cholesky factor."""
    factor, info = torch.linalg.cholesky_ex(shifted)
    parts = torch.view_as_real(factor) if factor.is_complex() else factor
    return (info == 0) & torch.isfinite(parts.flatten(1).sum(1))  # not finite unless all terms are


def _slack(shifted: Tensor) -> float:
    """Bound on |E| above and on the rounding of the shift, the worst over the batch."""
    n = shifted.shape[-1]
    diagonal = shifted.diagonal(dim1=-2, dim2=-1).real.abs()
    trace, largest = float(diagonal.sum(-1).max()), float(diagonal.max())
    return up(gamma(4 * (n + 3)) * trace * 1.01 + 2 * UNIT * largest) + TINY


def largest_eigenvalue(gram: Tensor, known: float = 0.0) -> float:
    """Upper bound on the largest eigenvalue over a batch (..., n, n) of positive semidefinite
    matrices: those whose lower triangles are stored. Real or complex double precision. A bound
    below `known` is not sought.

    The eigenvalues of a few matrices propose a shift, and a factorisation of every matrix decides;
    those without one propose the next. Raises ArithmeticError when the entries are not finite or
    no shift could be verified.
    """
    n = gram.shape[-1]
    pending = gram.reshape(-1, n, n)
    if not torch.isfinite(pending).all():
        raise ArithmeticError("the numbers of this matrix overflow")
    estimate, bound, step = max(known, _proposed(pending)), 0.0, 1e-12 + 4 * n * UNIT
    while step < 1:
        shift = estimate * (1 + step) + TINY
        shifted = -pending
        shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
        done = _factorised(shifted)
        bound = max(bound, up(shift + _slack(shifted) + UNIT * shift))
        if done.all():
            return bound
        pending = pending[~done]
        higher = _proposed(pending)
        step = step * 8 if higher <= estimate else step
        estimate = max(estimate, higher)
    raise ArithmeticError(f"no shift near {estimate} makes the matrix definite")


def _proposed(gram: Tensor) -> float:
    """The largest eigenvalue, as computed, of those matrices that a short power iteration finds
    large."""
    if len(gram) > 2:
        v = torch.ones(gram.shape[-1], 1, dtype=gram.dtype)
        v[1::2] = -0.5  # from no vector that structure prefers
        v = v.expand(len(gram), -1, -1)
        for _ in range(8):
            v = gram @ v
            v = v / (v.norm(dim=1, keepdim=True) + TINY)
        gram = gram[(gram @ v).norm(dim=1).flatten().topk(2).indices]
    return abs(float(torch.linalg.eigvalsh(gram).max()))


def smallest_eigenvalue(gram: Tensor) -> float:
    """Lower bound, at least 0, on the smallest eigenvalue over a batch of positive semidefinite
    matrices as in `largest_eigenvalue`."""
    n = gram.shape[-1]
    if not torch.isfinite(gram).all():
        return 0.0
    eigenvalues = torch.linalg.eigvalsh(gram)
    estimate, largest = float(eigenvalues.min()), float(eigenvalues.max())
    step = 1e-12 * estimate + 4 * n * UNIT * largest
    while 0 < step < estimate:
        shift = estimate - step
        shifted = gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).sub_(shift)
        if _factorised(shifted.reshape(-1, n, n)).all():
            lower = shift - _slack(shifted) - UNIT * (largest + shift)
            return max(0.0, lower * (1 - 4 * UNIT))
        step *= 8
    return 0.0
