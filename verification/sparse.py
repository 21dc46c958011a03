"""Sparse matrices whose entries are known exactly, or up to a radius.

An entry is hi + lo within rad. Moves, single products and single sums of float64 numbers fit hi +
lo and stay exact; sums of several products get a radius with the a-priori error of
`dsnn.operators.rounding`. So what cancels by structure cancels to an exact 0.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy

from dsnn.operators.rounding import UNIT, gamma, sqrt_up, up

MOST_ENTRIES = 12_000_000
"""Stored entries of a matrix beyond which an analysis gives up."""
_SPLIT = 2.0**27 + 1
_TINY = 2.0**-480
"""Added to every computed radius that is not an exact 0: covers underflow."""


@dataclass(frozen=True)
class Matrix:
    """hi + lo within rad, entry by entry, as CSR matrices of one shape."""

    hi: Any
    lo: Any
    rad: Any

    @property
    def shape(self) -> tuple[int, int]:
        return self.hi.shape

    @property
    def T(self) -> "Matrix":
        return Matrix(*(part.T.tocsr() for part in self.parts))

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        return self.hi, self.lo, self.rad

    @property
    def size(self) -> Any:
        """Upper bounds of the absolute values."""
        return _above(abs(self.hi) + abs(self.lo) + self.rad)

    @property
    def zero(self) -> bool:
        """Whether every entry is exactly 0."""
        return self.pattern.nnz == 0

    @property
    def pattern(self) -> Any:
        """1 where an entry may differ from 0."""
        found = (abs(self.hi) + abs(self.lo) + self.rad).tocsr()
        found.eliminate_zeros()
        found.data = np.ones_like(found.data)
        return found

    @property
    def plain(self) -> bool:
        """Whether every entry is exactly a float64 number."""
        return not self.lo.nnz and not self.rad.nnz

    @property
    def signs(self) -> bool:
        """Whether every entry is exactly 0, 1 or -1."""
        return self.plain and bool((abs(self.hi.data) == 1).all())

    def __getitem__(self, key: Any) -> "Matrix":
        if isinstance(key, np.ndarray):  # rows, each as often as it is asked for
            for part in self.parts:
                if np.diff(part.indptr)[key].sum(dtype=np.int64) > 2 * MOST_ENTRIES:
                    raise ArithmeticError("the matrices of this graph are too large")
        return Matrix(*(part[key].tocsr() for part in self.parts))

    def __neg__(self) -> "Matrix":
        return Matrix(-self.hi, -self.lo, self.rad)

    def __add__(self, other: "Matrix") -> "Matrix":
        hi, error = _two_sum(self.hi, other.hi)
        lo, second = _two_sum(self.lo, other.lo)
        low, third = _two_sum(lo, error)
        rad = _above(self.rad + other.rad + abs(second) + abs(third))
        return _tidy(hi, low, rad)

    def __sub__(self, other: "Matrix") -> "Matrix":
        return self + -other

    def __matmul__(self, other: "Matrix") -> "Matrix":
        if max(self.hi.nnz, other.hi.nnz) > MOST_ENTRIES:
            raise ArithmeticError("the matrices of this graph are too large")
        if _most(self.pattern, 1) <= 1:
            return _single(self, other)
        if _most(other.pattern, 0) <= 1:
            return _single(other.T, self.T).T
        if (self.signs or other.signs) and (self.pattern @ other.pattern).max() <= 1:
            products = (
                [self.hi @ b for b in other.parts]
                if self.signs
                else [a @ other.hi for a in self.parts]
            )
            return _tidy(products[0].tocsr(), products[1].tocsr(), abs(products[2]).tocsr())
        terms = _most(self.pattern, 1)
        error = gamma(terms + 8)
        hi, sizes = (self.hi @ other.hi).tocsr(), (self.size @ other.size).tocsr()
        if self.plain and other.plain and sizes.nnz:
            grid = _grid(self.hi.data) + _grid(other.hi.data)
            if grid > -900 and sizes.max() * (1 + error) < 2.0 ** min(53 + grid, 900):
                # All partial sums are multiples of 2^grid below 2^(53 + grid): none is rounded.
                return _tidy(hi, hi * 0, hi * 0)
        carried = self.size @ other.rad + self.rad @ other.size
        lows = abs(self.lo) @ other.size + self.size @ abs(other.lo)
        rad = _above((sizes * (2 * error) + carried + lows) * (1 + error))
        return _tidy(hi, hi * 0, rad)


def _above(matrix: Any) -> Any:
    """Radii rounded up; exact zeros stay."""
    matrix = matrix.tocsr()
    matrix.data = np.where(matrix.data != 0, matrix.data * (1 + 2.0**-40) + _TINY, 0.0)
    return matrix


def _grid(values: np.ndarray) -> int:
    """The largest k for which all values are multiples of 2^k."""
    mantissas, exponents = np.frexp(values[values != 0])
    whole = (np.abs(mantissas) * 2.0**53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((exponents - 53 + lowest).min(initial=1000))


def _most(pattern: Any, axis: int) -> int:
    counts = pattern.sum(axis=axis)
    return int(counts.max()) if counts.size else 0


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b = s + e exactly [Knuth]."""
    s = (a + b).tocsr()
    back = s - a
    return s, ((a - (s - back)) + (b - back)).tocsr()


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a b = p + e exactly [Dekker], and a bound on what underflow or overflow may have cost."""
    with np.errstate(over="ignore", invalid="ignore"):
        p = a * b
        ah, bh = _high(a), _high(b)
        al, bl = a - ah, b - bh
        e = ((ah * bh - p) + ah * bl + al * bh) + al * bl
    safe = (p == 0) & ((a == 0) | (b == 0)) | ((np.abs(p) > 2.0**-900) & (np.abs(p) < 2.0**900))
    safe &= (np.abs(a) < 2.0**900) & (np.abs(b) < 2.0**900)
    return p, np.where(safe, e, 0.0), np.where(safe, 0.0, np.abs(p) * 2 * UNIT + _TINY)


def _underflow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A bound on what products lose that are too small for their relative error to hold."""
    return np.where((a != 0) & (b != 0) & (np.abs(a * b) < 2.0**-900), _TINY, 0.0)


def _high(a: np.ndarray) -> np.ndarray:
    c = _SPLIT * a
    return c - (c - a)


def _single(left: Matrix, right: Matrix) -> Matrix:
    """left @ right where left has at most one entry a row: every entry is a single product."""
    pattern = left.pattern
    rows, cols = pattern.nonzero()
    chosen = right[cols]

    def entries(part: Any) -> np.ndarray:
        return np.asarray(part[rows, cols]).ravel() if len(rows) else np.zeros(0)

    def spread(values: np.ndarray, part: Any) -> np.ndarray:
        return np.repeat(values, np.diff(part.indptr))

    a, a_low, a_rad = (entries(part) for part in left.parts)
    p, e, lost = two_product(spread(a, chosen.hi), chosen.hi.data)
    hi, lo, rad = (_like(chosen.hi, data) for data in (p, e, lost))
    if a_low.any() or chosen.lo.nnz:
        # (a + a') (b + b') = a b + a b' + a' b + a' b', the middle ones exact for powers of two.
        first = _like(chosen.lo, spread(a, chosen.lo) * chosen.lo.data)
        second = _like(chosen.hi, spread(a_low, chosen.hi) * chosen.hi.data)
        lost_first = np.where(_power_of_two(spread(a, chosen.lo)), 0.0, 2 * UNIT)
        lost_second = np.where(_power_of_two(chosen.hi.data), 0.0, 2 * UNIT)
        third = _like(chosen.lo, np.abs(spread(a_low, chosen.lo) * chosen.lo.data))
        for part, factor, lost in ((chosen.lo, a, lost_first), (chosen.hi, a_low, lost_second)):
            size = np.abs(spread(factor, part) * part.data)
            rad = rad + _like(part, lost * size + _underflow(spread(factor, part), part.data))
        third.data += _underflow(spread(a_low, chosen.lo), chosen.lo.data)
        rad = rad + third
        lo, gap = _two_sum(lo, first)
        lo, last = _two_sum(lo, second)
        rad = rad + abs(gap) + abs(last)
    if chosen.rad.nnz or a_rad.any():
        for part, factor in ((chosen.rad, np.abs(a) + np.abs(a_low) + a_rad), (chosen.size, a_rad)):
            factor = spread(factor, part)
            rad = rad + _like(part, factor * part.data + _underflow(factor, part.data))
    place = scipy.sparse.csr_matrix(
        (np.ones(len(rows)), (rows, np.arange(len(rows)))), (left.shape[0], len(rows))
    )
    return _tidy((place @ hi).tocsr(), (place @ lo).tocsr(), _above((place @ rad).tocsr()))


def _power_of_two(values: np.ndarray) -> np.ndarray:
    return np.abs(np.frexp(values)[0]) == 0.5


def _like(matrix: Any, data: np.ndarray) -> Any:
    # Copies: scipy sorts and compresses index arrays in place, and two matrices may share them.
    return scipy.sparse.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape, copy=True)


def _tidy(hi: Any, lo: Any, rad: Any) -> Matrix:
    for part in (hi, lo, rad):
        part.eliminate_zeros()
    for part in (hi, lo, rad):
        if not np.isfinite(part.data).all():
            raise ArithmeticError("the numbers of this graph overflow")
    return Matrix(hi, lo, rad)


def exactly(hi: Any) -> Matrix:
    """A matrix of float64 numbers taken as they are."""
    hi = scipy.sparse.csr_matrix(hi, dtype=np.float64, copy=True)
    nothing = scipy.sparse.csr_matrix(hi.shape, dtype=np.float64)
    return _tidy(hi, nothing, nothing.copy())


def identity(n: int) -> Matrix:
    return exactly(scipy.sparse.identity(n, format="csr"))


def nothing(rows: int, columns: int) -> Matrix:
    return exactly(scipy.sparse.csr_matrix((rows, columns)))


def diagonal(values: np.ndarray) -> Matrix:
    return exactly(
        scipy.sparse.diags(values).tocsr() if len(values) else scipy.sparse.csr_matrix((0, 0))
    )


def times(matrix: Matrix, factor: Fraction) -> Matrix:
    """The matrix times a fraction, exact when that is a float64 number."""
    if factor == 1:
        return matrix
    near = float(factor)
    gap = abs(Fraction(near) - factor)
    scaled = matrix @ diagonal(np.full(matrix.shape[1], near))
    if not gap:
        return scaled
    error = matrix.size * up(float(gap)) + matrix.pattern * _TINY
    return Matrix(scaled.hi, scaled.lo, _above(scaled.rad + error))


def blurred(matrix: Matrix, relative: float) -> Matrix:
    """The matrix, each entry known up to this part of its size."""
    return Matrix(matrix.hi, matrix.lo, _above(matrix.rad + matrix.size * relative))


def stacked(parts: list[Matrix]) -> Matrix:
    """One below the other."""
    return Matrix(
        *(scipy.sparse.vstack([p.parts[k] for p in parts], format="csr") for k in range(3))
    )


def norm_upper(matrix: Matrix) -> float:
    """Upper bound on the largest singular value: Frobenius, or the geometric mean of the largest
    row and column sums; an exact 0 for the zero matrix."""
    size = matrix.size
    if not size.nnz:
        return 0.0
    rows, columns = float(size.sum(axis=1).max()), float(size.sum(axis=0).max())
    schur = sqrt_up(
        up(rows * (1 + gamma(size.shape[1] + 2))) * up(columns * (1 + gamma(size.shape[0] + 2)))
    )
    with np.errstate(over="ignore"):  # infinity is a bound
        squares = float(np.square(size.data).sum())
    frobenius = math.sqrt(squares) * (1 + gamma(size.nnz + 4))
    return up(min(schur, frobenius))
