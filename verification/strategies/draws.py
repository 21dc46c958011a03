"""Structure, drawn by Hypothesis, and batches made from it with the seed it carries.

The awkward cases are kinds of their own: spectra that almost touch or spread over eight decades,
structurally exact matrices, shapes with a kernel, pairs along singular vectors, kinks hit exactly,
offsets that switch all slopes at once, steps on the boundary of a law.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator

from verification.strategies.rounding import Array

SPECTRA = (
    "identity",
    "scaled identity",
    "permutation",
    "orthogonal",
    "circulant",
    "truncated",
    "clustered",
    "spread",
    "gaussian",
)
OFFSETS = ("zero", "kink", "all above", "all below", "random")
BEYOND = 1e3  # an offset larger than any pre-activation drawn here
HAIR = 2.0**-12  # how far outside a hypothesis an edge is

seeds = st.integers(0, 2**20 - 1)


@dataclass(frozen=True, repr=False)
class Shape:
    """Rows, columns and spectrum of a matrix; one that is not square is Gaussian."""

    rows: int
    columns: int
    spectrum: str

    def __repr__(self) -> str:
        return f"{self.rows}x{self.columns} {self.spectrum}"


def squares(largest: int = 8, smallest: int = 1) -> st.SearchStrategy[Shape]:
    return st.builds(
        lambda n, spectrum: Shape(n, n, spectrum),
        st.integers(smallest, largest),
        st.sampled_from(SPECTRA),
    )


@cache  # or Hypothesis would look through a new strategy for each draw
def with_columns(columns: int) -> st.SearchStrategy[Shape]:
    """Square, or tall or wide with so many columns."""
    square = st.builds(lambda spectrum: Shape(columns, columns, spectrum), st.sampled_from(SPECTRA))
    return square | st.builds(
        lambda rows: Shape(rows, columns, "gaussian"), st.integers(1, 2 * columns)
    )


def shapes(largest: int = 8) -> st.SearchStrategy[Shape]:
    """Square, or tall or wide."""
    return st.integers(1, largest).flatmap(with_columns)


def fractions(low: float, high: float, parts: int = 16) -> st.SearchStrategy[float]:
    """low, high or a value between; `low` is the simplest."""
    least, greatest = min(low, high), max(low, high)

    def at(k: int) -> float:
        return min(max(low + (high - low) * k / parts, least), greatest)

    return st.integers(0, parts).map(at)


def shares() -> st.SearchStrategy[float]:
    """What is claimed of a number, as a share of it: too little."""
    return st.sampled_from((1 / 2, 1 / 4, 3 / 4, 7 / 8, 15 / 16))


def multiples(low: float, high: float, parts: int = 16) -> st.SearchStrategy[float]:
    """Multiples of 1/parts in [low, high], which is where laws change: 0, 1 and 2 among them."""
    ends = int(low * parts), int(high * parts)
    return st.integers(*ends).map(lambda k: k / parts)


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


def _shift_kernel(rng: Generator, fields: int, size: int) -> Array:
    """The zero-padded convolution with one tap 1 beside the centre: orthogonal on the circle."""
    left = rng.random((fields, 1, 1)) < 0.5
    return np.where(left, np.eye(size, k=1), np.eye(size, k=-1))


def _paraunitary_kernel(rng: Generator, fields: int, size: int) -> Array:
    """The zero-padded convolution on size / 2 pixels of two channels with the taps QP beside the
    centre and Q(I - P) in it, P a projection and Q orthogonal: orthogonal on the circle."""
    Q = _orthogonal(rng, fields, 2)
    v = Q[:, :, :1]
    P, Q = v @ v.mT, _orthogonal(rng, fields, 2)
    beside, centre = Q @ P, Q @ (np.eye(2) - P)
    pixels = size // 2
    return np.stack(
        [
            np.kron(np.eye(pixels, k=1), side) + np.kron(np.eye(pixels), here)
            for side, here in zip(beside, centre, strict=True)
        ]
    )


def matrices(rng: Generator, shape: Shape, fields: int) -> Array:
    """(fields, rows, columns): the identity as it is, else with norms between about 1/4 and 4."""
    rows, columns = shape.rows, shape.columns
    if shape.spectrum == "identity":
        return np.tile(np.eye(rows, columns), (fields, 1, 1))
    scale = 2 ** rng.uniform(-1, 1, (fields, 1, 1))
    match shape.spectrum:
        case "scaled identity":
            matrix = np.eye(rows, columns)
        case "permutation":
            matrix = signed_permutations(rng, fields, rows)
        case "orthogonal":
            matrix = _orthogonal(rng, fields, rows)
        case "circulant":
            matrix = _banded(rng, fields, rows, wrap=True) / 2
        case "truncated":
            matrix = _banded(rng, fields, rows, wrap=False) / 2
        case "shift kernel":
            matrix = _shift_kernel(rng, fields, rows)
        case "paraunitary kernel":
            matrix = _paraunitary_kernel(rng, fields, rows)
        case "clustered":
            matrix = _with_spectrum(rng, 1 + 1e-9 * rng.standard_normal((fields, rows)))
        case "spread":
            matrix = _with_spectrum(rng, 10 ** rng.uniform(-8, 0, (fields, rows)))
        case _:
            matrix = rng.standard_normal((fields, rows, columns)) / np.sqrt(max(rows, columns))
    return matrix * scale


def single(values: Array) -> Array:
    """Rounded to 24 bits, so that halves, doubles and small multiples of a step are exact."""
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Pairs:
    """Points x and y as columns, (fields, dimension, points)."""

    x: Array
    y: Array


def pairs(rng: Generator, matrix: Array, points: int) -> Pairs:
    """Pairs at distances from 1e-3 to 1: half in random directions, a quarter each along the
    first and the last right singular vector of `matrix` (fields, m, n). Fields share what does
    not depend on their matrix."""
    fields, _, columns = matrix.shape
    right = np.linalg.svd(matrix, full_matrices=True)[2]
    quarter = points // 4
    length = 10 ** rng.uniform(-3, 0, points)
    random = rng.standard_normal((columns, points - 2 * quarter))
    random /= np.linalg.norm(random, axis=0)
    x = np.tile(rng.standard_normal((columns, points)), (fields, 1, 1))
    y = x.copy()
    first, last, rest = np.split(y, [quarter, 2 * quarter], axis=2)  # views
    first += right[:, 0, :, None] * length[:quarter]
    last += right[:, -1, :, None] * length[quarter : 2 * quarter]
    rest += random * length[2 * quarter :]
    return Pairs(x, y)


def offsets(rng: Generator, kind: str, matrix: Array, point: Array) -> Array:
    """(fields, m): none, with a kink exactly at `point` (fields, n), far on one side, or normal."""
    fields, rows, _ = matrix.shape
    match kind:
        case "zero":
            return np.zeros((fields, rows))
        case "kink":
            return -(matrix @ point[..., None])[..., 0]
        case "all above":
            return np.full((fields, rows), BEYOND)
        case "all below":
            return np.full((fields, rows), -BEYOND)
        case _:
            return rng.standard_normal((fields, rows))
