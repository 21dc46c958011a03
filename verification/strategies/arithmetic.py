"""Arithmetic on `Tracked` values of any shape: each result bounds its distance from the exact one.

Every operation rounds its result by at most one unit (a sum of k terms by k, a product of matrices
by the inner size plus two) and passes on the errors of its operands; COVER and UNDERFLOW cover the
rounding of the bounds themselves, as in `rounding`. Where nothing is known the error is inf or NaN,
and `at_least` says 0.
"""

import numpy as np

from verification.strategies.rounding import COVER, UNDERFLOW, UNIT, Array, Tracked, exact

_unknown_stays_unknown = np.errstate(invalid="ignore")  # 0 * inf is NaN, which says no more


def _tracked(value: Array, passed: Array, rounded: Array) -> Tracked:
    return Tracked(value, (passed + rounded) * COVER + UNDERFLOW)


def negative(x: Tracked) -> Tracked:
    return Tracked(-x.value, x.error)


def plus(*terms: Tracked) -> Tracked:
    """The sum of up to a hundred terms, shapes broadcast."""
    value, moduli, passed = (np.zeros(1) for _ in range(3))
    for term in terms:
        value = value + term.value
        moduli = moduli + np.abs(term.value)
        passed = passed + term.error
    return _tracked(value, passed, len(terms) * UNIT * moduli)


def minus(x: Tracked, y: Tracked) -> Tracked:
    return plus(x, negative(y))


@_unknown_stays_unknown
def times(x: Tracked, y: Tracked) -> Tracked:
    """The product entry by entry, shapes broadcast."""
    value = x.value * y.value
    passed = np.abs(x.value) * y.error + x.error * (np.abs(y.value) + y.error)
    return _tracked(value, passed, UNIT * np.abs(value))


def scaled(factor: Array | float, x: Tracked) -> Tracked:
    """An exact factor, shape broadcast."""
    return times(exact(np.asarray(factor, dtype=float)), x)


@_unknown_stays_unknown
def over(x: Tracked, y: Tracked) -> Tracked:
    """The quotient entry by entry; error inf where y may be 0."""
    room = np.abs(y.value) * (1 - 4 * UNIT) - y.error * COVER
    safe = room > 0
    value = np.divide(x.value, y.value, out=np.zeros_like(x.value + y.value), where=safe)
    passed = (x.error + np.abs(value) * (1 + 4 * UNIT) * y.error) / np.where(safe, room, 1)
    quotient = _tracked(value, passed, UNIT * np.abs(value))
    return Tracked(value, np.where(safe, quotient.error, np.inf))


def root(x: Tracked) -> Tracked:
    """The square root of a number that is not negative: |sqrt p - sqrt q| <= |p - q| / sqrt p."""
    value = np.sqrt(np.maximum(x.value, 0))
    safe = value > 0
    passed = np.where(safe, x.error / np.where(safe, value, 1), np.inf)
    return _tracked(value, passed * (1 + 4 * UNIT), 2 * UNIT * value)


def total(x: Tracked, axis: int, keepdims: bool = False) -> Tracked:
    """The sum along an axis."""
    value = x.value.sum(axis, keepdims=keepdims)
    moduli = np.abs(x.value).sum(axis, keepdims=keepdims)
    passed = x.error.sum(axis, keepdims=keepdims)
    return _tracked(value, passed, x.value.shape[axis] * UNIT * moduli)


def inner(x: Tracked, y: Tracked, keepdims: bool = False) -> Tracked:
    """<x, y> for points as columns: (fields, points), or (fields, 1, points)."""
    return total(times(x, y), 1, keepdims)


@_unknown_stays_unknown
def product(X: Tracked, Y: Tracked) -> Tracked:
    """Matrices in the last two dimensions, the others broadcast."""
    value = X.value @ Y.value
    left, right = np.abs(X.value), np.abs(Y.value)
    passed = left @ Y.error + X.error @ (right + Y.error)
    return _tracked(value, passed, (X.value.shape[-1] + 2) * UNIT * (left @ right))


def transposed(X: Tracked) -> Tracked:
    return Tracked(X.value.mT, X.error.mT)


def apply(X: Tracked, x: Tracked) -> Tracked:
    """A matrix per point, (fields, points, m, n), on points as columns (fields, n, points)."""
    columns = Tracked(x.value.mT[..., None], x.error.mT[..., None])
    image = product(X, columns)
    return Tracked(image.value[..., 0].mT, image.error[..., 0].mT)


def determinant(X: Tracked) -> Tracked:
    """Of the matrices in the last two dimensions, by expansion along the rows over all subsets of
    columns (up to 8 columns).

    A perturbation by E changes the determinant by at most per(|X| + E) - per(|X|), and n levels of
    a product and up to n sums round it by at most n(n + 1) units of per(|X|).
    """
    size = X.value.shape[-1]
    moduli = np.abs(X.value)
    signed, plain = _expanded(X.value, signs=True), _expanded(moduli, signs=False)
    widened = _expanded(moduli + X.error, signs=False)
    slack = 4 * size * (size + 1) * UNIT * widened
    return _tracked(signed, np.maximum(widened - plain, 0), slack)


def _expanded(matrix: Array, *, signs: bool) -> Array:
    """The determinant, or without signs the permanent."""
    size = matrix.shape[-1]
    minors = {0: np.ones(matrix.shape[:-2])}
    for row in range(size):
        larger: dict[int, Array] = {}
        for used, minor in minors.items():
            for column in range(size):
                if used & (1 << column):
                    continue
                behind = (used >> (column + 1)).bit_count()  # used columns to the right
                term = matrix[..., row, column] * minor
                term = -term if signs and behind % 2 else term
                key = used | (1 << column)
                larger[key] = larger[key] + term if key in larger else term
        minors = larger
    return minors[(1 << size) - 1]


def solve(M: Tracked, B: Tracked) -> Tracked:
    """The X with M X = B. With an approximate inverse P and r = |I - P M| < 1, the inverse has norm
    at most |P| / (1 - r), which bounds an approximate X by its residual; error inf otherwise."""
    size = M.value.shape[-1]
    P = np.linalg.inv(M.value).astype(np.float64)
    defect = minus(exact(np.eye(size)), product(exact(P), M))
    r = _size(np.abs(defect.value) + defect.error)
    X = P @ B.value
    residual = minus(product(M, exact(X)), B)
    left = _size(np.abs(residual.value) + residual.error)
    known = r < 1
    error = _size(np.abs(P)) * left / np.where(known, (1 - r) * (1 - 4 * UNIT), 1)
    error = np.where(known, error * COVER + UNDERFLOW, np.inf)
    return Tracked(X, np.broadcast_to(error, X.shape).copy())


def _size(matrix: Array) -> Array:
    """The Frobenius norm, rounded up, with the last two dimensions kept."""
    return np.linalg.norm(matrix, axis=(-2, -1), keepdims=True) * COVER


TERMS = 28


def exponential(M: Tracked) -> Tracked:
    """e^M for Frobenius norms up to 2, by its series: what is left out is below
    |M|^(K+1)/(K+1)! (1 + |M|/(K+2) + ...) < 2 |M|^(K+1)/(K+1)!. Raises ValueError beyond."""
    size = _size(np.abs(M.value) + M.error)
    if (size > 2).any():
        raise ValueError(f"a matrix of norm {size.max():.3g} is beyond this series: at most 2")
    term = exact(np.broadcast_to(np.eye(M.value.shape[-1]), M.value.shape).copy())
    whole = term
    for k in range(1, TERMS + 1):
        divided = over(product(term, M), exact(np.full((1, 1), float(k))))
        term, whole = divided, plus(whole, divided)
    rest = 2 * np.prod([2 / k for k in range(1, TERMS + 2)])
    return Tracked(whole.value, whole.error + rest * COVER)


def at_least(x: Tracked) -> Array:
    """A lower bound of |x|, 0 where nothing is known."""
    bound = np.abs(x.value) * (1 - 2 * UNIT) - x.error * COVER
    return np.maximum(np.nan_to_num(bound, nan=0.0, neginf=0.0), 0)


def largest_entry(X: Tracked) -> Array:
    """A lower bound of the largest |entry| over the last two dimensions."""
    return at_least(X).max(axis=(-2, -1))


def quotients(fx: Tracked, fy: Tracked, x: Tracked, y: Tracked) -> Array:
    """Lower bounds of |fx - fy| / |x - y| for points as columns, all of them with errors."""
    moved, start = minus(fx, fy), minus(x, y)
    above = root(inner(moved, moved))
    below = root(inner(start, start))
    ratio = over(above, below)
    return np.maximum(np.nan_to_num(ratio.value - ratio.error * COVER, nan=0.0, neginf=0.0), 0) * (
        1 - 4 * UNIT
    )
