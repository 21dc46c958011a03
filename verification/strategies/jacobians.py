"""Jacobians of layers at every point, (fields, points, n, n), put together from blocks."""

import numpy as np

from verification.strategies.arithmetic import product, scaled, times
from verification.strategies.rounding import Array, Tracked, exact


def corner(A: Array, outer: Array | None, slopes: Array, step: Array) -> Tracked:
    """step * outer D A at every point, (fields, points, n, m): A (fields, k, m), D = diag(slopes),
    slopes (fields, k, points), outer (fields, n, k) or None for the identity, step (fields,)."""
    weighted = times(exact(slopes.mT[..., None]), exact(A[:, None]))
    field = weighted if outer is None else product(exact(outer[:, None]), weighted)
    return scaled(step[:, None, None, None], field)


def assembled(blocks: list[list[Tracked]]) -> Tracked:
    """A block matrix."""
    return Tracked(
        np.block([[block.value for block in row] for row in blocks]),
        np.block([[block.error for block in row] for row in blocks]),
    )


def identity(like: Tracked, size: int) -> Tracked:
    shape = (*like.value.shape[:-2], size, size)
    return exact(np.broadcast_to(np.eye(size), shape).copy())


def nothing(like: Tracked, rows: int, columns: int) -> Tracked:
    return exact(np.zeros((*like.value.shape[:-2], rows, columns)))


def pattern(pre: Array, slopes: tuple[float, float]) -> Array:
    """The slope of the activation at each pre-activation; at a kink either serves."""
    return np.where(pre > 0, slopes[1], slopes[0])
