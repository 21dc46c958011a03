"""Runge-Kutta steps of fields on tracked points, and random fields with exact structure."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from sympy import Rational

from theory.runge_kutta import EULER, HEUN, RK4, Tableau
from verification.strategies import draws
from verification.strategies.arithmetic import apply, minus, plus, scaled, times, transposed
from verification.strategies.draws import Shape
from verification.strategies.rounding import UNIT, Array, Tracked, affine, piecewise

Field = Callable[[Tracked], Tracked]

METHODS: dict[str, Tableau] = {"Euler": EULER, "Heun": HEUN, "RK4": RK4}


def _coefficient(step: Array, value: Any) -> Tracked:
    """step * value, (fields, 1, 1), for an exact number value."""
    factor = float(value)
    exact = Rational(factor) == value
    product = step[:, None, None] * factor
    return Tracked(product, (1 if exact else 3) * UNIT * np.abs(product))


def runge_kutta(field: Field, method: str, x: Tracked, step: Array) -> Tracked:
    """One explicit step of x' = field(x), points as columns, step (fields,)."""
    A, b = METHODS[method]
    slopes: list[Tracked] = []
    for i in range(len(b)):
        terms = [times(_coefficient(step, A[i, j]), slopes[j]) for j in range(i) if A[i, j]]
        slopes.append(field(plus(x, *terms) if terms else x))
    return plus(x, *(times(_coefficient(step, b[i]), k) for i, k in enumerate(slopes)))


def layer(A: Array, offset: Array, slopes: tuple[float, float], outer: Array | None) -> Field:
    """outer sigma(A x + offset), or without outer sigma(A x + offset)."""
    below, above = (slope * np.ones(len(A)) for slope in slopes)

    def field(x: Tracked) -> Tracked:
        active = piecewise(affine(A, x, offset), below, above)
        return active if outer is None else affine(outer, active)

    return field


def skew(matrix: Array, share: float = 1.0) -> Array:
    """A - share A', in floating point: exactly skew for 1, since fl(p - q) = -fl(q - p)."""
    return matrix - share * matrix.mT


def random_skew(rng: Generator, fields: int, size: int) -> Array:
    return skew(draws.matrices(rng, Shape(size, size, "gaussian"), fields))


def matrix_field(rng: Generator, fields: int, size: int, slopes: tuple[float, float]) -> Field:
    """x -> vec A(x) = sigma(Ux + u), n^2 entries as columns."""
    U = draws.matrices(rng, Shape(size * size, size, "gaussian"), fields) * size
    offset = rng.standard_normal((fields, size * size))
    return layer(U, offset, slopes, None)


def as_matrices(entries: Tracked, size: int) -> Tracked:
    """Columns of n^2 entries as (fields, points, n, n)."""
    shape = (len(entries.value), -1, size, size)
    return Tracked(entries.value.mT.reshape(shape), entries.error.mT.reshape(shape))


def minus_transpose(X: Tracked, share: float = 1.0) -> Tracked:
    """X - share X', for 1 a matrix whose exact value is exactly skew."""
    return minus(X, scaled(share, transposed(X)))


def skew_action(entries: Field, size: int) -> Field:
    """x -> (A(x) - A(x)') x."""
    return lambda x: apply(minus_transpose(as_matrices(entries(x), size)), x)
