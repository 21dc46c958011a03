"""Random structure: matrices of many kinds, steps, slopes, pairs of points, offsets.

Everything is drawn from one generator, in batches; the awkward cases are kinds of their own:
spectra that almost touch or spread over eight decades, structurally exact matrices, shapes with
a kernel, pairs along singular vectors, kinks hit exactly, offsets that switch all slopes at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from verification.strategies.rounding import Array

SQUARE = ("gaussian", "clustered", "spread", "orthogonal", "circulant", "truncated", "permutation")
BEYOND = 1e3  # an offset larger than any pre-activation drawn here


def signed_permutations(rng: Generator, fields: int, size: int) -> Array:
    """Exactly orthogonal matrices, (fields, size, size)."""
    order = rng.permuted(np.tile(np.arange(size), (fields, 1)), axis=1)
    signs = rng.choice([-1.0, 1.0], (fields, size, 1))
    return np.eye(size)[order] * signs


def _orthogonal(rng: Generator, fields: int, size: int) -> Array:
    return np.linalg.qr(rng.standard_normal((fields, size, size)))[0]


def _with_spectrum(rng: Generator, spectrum: Array) -> Array:
    fields, size = spectrum.shape
    left, right = (_orthogonal(rng, fields, size) for _ in range(2))
    return (left * spectrum[:, None, :]) @ right


def _banded(rng: Generator, fields: int, size: int, wrap: bool) -> Array:
    """A convolution with three taps, circular or cut off at the border."""
    taps = rng.standard_normal((fields, 3))
    matrix = np.zeros((fields, size, size))
    for row in range(size):
        for k in range(3):
            column = row + k - 1
            if wrap or 0 <= column < size:
                matrix[:, row, column % size] += taps[:, k]
    return matrix


def square(rng: Generator, fields: int, size: int) -> Array:
    """One kind of square matrix, drawn; (fields, size, size), norms between about 1/4 and 4."""
    match str(rng.choice(SQUARE)):
        case "clustered":
            matrix = _with_spectrum(rng, 1 + 1e-9 * rng.standard_normal((fields, size)))
        case "spread":
            matrix = _with_spectrum(rng, 10 ** rng.uniform(-8, 0, (fields, size)))
        case "orthogonal":
            matrix = _orthogonal(rng, fields, size)
        case "circulant":
            matrix = _banded(rng, fields, size, wrap=True) / 2
        case "truncated":
            matrix = _banded(rng, fields, size, wrap=False) / 2
        case "permutation":
            matrix = signed_permutations(rng, fields, size)
        case _:
            matrix = rng.standard_normal((fields, size, size)) / np.sqrt(size)
    return matrix * 2 ** rng.uniform(-1, 1, (fields, 1, 1))


def inner(rng: Generator, fields: int, columns: int) -> Array:
    """A matrix with `columns` columns: square in half of the draws, else tall or wide."""
    if rng.random() < 0.5:
        return square(rng, fields, columns)
    rows = int(rng.integers(1, 2 * columns + 1))
    return rng.standard_normal((fields, rows, columns)) / np.sqrt(max(rows, columns))


def slopes(rng: Generator, fields: int, low: float) -> tuple[Array, Array]:
    """Slopes below and above 0 within [low, 1], the ends of the range in half of the fields."""
    drawn = rng.uniform(low, 1, (2, fields))
    ends = rng.random(fields) < 0.5
    return np.where(ends, low, drawn[0]), np.where(ends, 1.0, drawn[1])


def single(values: Array) -> Array:
    """Rounded to 24 bits, so that halves, doubles and small multiples of a step are exact."""
    return values.astype(np.float32).astype(np.float64)


def steps(rng: Generator, norm: Array, *, low: float = -0.5, high: float = 2.5) -> Array:
    """Steps for operators with these squared norms: random in [low, high] / norm, one in four at
    a landmark (0, 1, 2 in these units, if inside)."""
    landmarks = np.array([mark for mark in (0.0, 1.0, 2.0) if low <= mark <= high])
    random = rng.uniform(low, high, len(norm))
    chosen = rng.choice(landmarks, len(norm))
    return single(np.where(rng.random(len(norm)) < 0.25, chosen, random) / norm)


@dataclass(frozen=True)
class Pairs:
    """Points x and y as columns, (fields, dimension, points)."""

    x: Array
    y: Array


def pairs(rng: Generator, matrix: Array, points: int) -> Pairs:
    """Pairs at distances from 1e-3 to 1: half in random directions, a quarter each along the
    first and the last right singular vector of `matrix` (fields, m, n)."""
    fields, _, columns = matrix.shape
    right = np.linalg.svd(matrix, full_matrices=True)[2]
    direction = rng.standard_normal((fields, columns, points))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    quarter = points // 4
    direction[:, :, :quarter] = right[:, 0, :, None]
    direction[:, :, quarter : 2 * quarter] = right[:, -1, :, None]
    x = rng.standard_normal((fields, columns, points))
    return Pairs(x, x + direction * 10 ** rng.uniform(-3, 0, (fields, 1, points)))


def offsets(rng: Generator, matrix: Array, point: Array) -> Array:
    """(fields, m): normal, or with a kink exactly at `point` (fields, n), or far on one side."""
    fields, rows, _ = matrix.shape
    kinds = rng.integers(0, 4, fields)[:, None]
    kink = -(matrix @ point[..., None])[..., 0]
    return np.select(
        [kinds == 0, kinds == 1, kinds == 2],
        [rng.standard_normal((fields, rows)), kink, np.full((fields, rows), -BEYOND)],
        np.full((fields, rows), BEYOND),
    )
