"""The model of float64 arithmetic behind every bound, and rounding outwards.

Assumed of the machine and its BLAS: IEEE double precision, round to nearest, and products of
matrices as sums of products in any order, with or without fused multiply-add (no Strassen-like
algorithm). Then an inner product of length n has a relative error of at most gamma(n) times the
inner product of the absolute values [Higham, Accuracy and Stability, chapter 3].
"""

import math

UNIT = 2.0**-53
"""Unit roundoff of float64."""
TINY = 2.0**-900
"""Added to bounds that could otherwise be lost to underflow; far below any norm here."""
_SLACK = 2.0**-44
"""Covers the few scalar operations that combine one bound: relative, at most 256 of them."""


def gamma(n: int) -> float:
    """n u / (1 - n u), an upper bound. Complex inner products of length n take gamma(4 n)."""
    if n * UNIT > 0.01:
        raise ValueError(f"an inner product of length {n} is too long for this error bound")
    return n * UNIT / (1 - n * UNIT) * (1 + _SLACK)


def up(x: float) -> float:
    """An upper bound on a nonnegative scalar computed by a handful of float64 operations."""
    return x * (1 + _SLACK) + TINY


def down(x: float) -> float:
    """A lower bound, at least 0, on a nonnegative scalar computed by a handful of operations."""
    return max(0.0, x * (1 - _SLACK) - TINY)


def sqrt_up(x: float) -> float:
    """Upper bound on the square root of x >= 0 as stored."""
    return math.nextafter(math.sqrt(x), math.inf)


def sqrt_down(x: float) -> float:
    """Lower bound on the square root of x, 0 for negative x."""
    return math.nextafter(math.sqrt(x), 0.0) if x > 0 else 0.0
