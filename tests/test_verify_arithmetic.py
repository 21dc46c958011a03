"""Tracked operations contain the exact result, computed in fractions; strategies of structure."""

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from sympy import Catalan, E, EulerGamma, Matrix, Rational, Symbol, exp, pi

from theory import balls, theorems
from verification import suite
from verification.strategies import STRATEGIES, arithmetic, draws
from verification.strategies.arithmetic import at_least
from verification.strategies.draws import Shape
from verification.strategies.expressions import evaluated
from verification.strategies.flows import largest_eigenvalue
from verification.strategies.padding import ORTHOGONAL_ON_THE_CIRCLE
from verification.strategies.rounding import Tracked, exact, singular_range
from verification.strategies.stages import METHODS, runge_kutta
from verification.strategies.switching import Block

SEEDS = pytest.mark.parametrize("seed", range(8))


def _spread(rng: Generator, *shape: int) -> Any:
    """Numbers of very different sizes, so that sums cancel and errors show."""
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)


def _tracked(rng: Generator, *shape: int) -> tuple[Tracked, Any]:
    """A value with an error, and exact numbers within it."""
    value = _spread(rng, *shape)
    error = np.abs(value) * 2.0**-40
    return Tracked(value, error), value + error * rng.uniform(-0.9, 0.9, shape)


def _fractions(values: Any) -> Any:
    return np.vectorize(Fraction, otypes=[object])(values)


def _contains(result: Tracked, true: Any) -> bool:
    off = np.abs(_fractions(result.value) - true)
    return bool((off <= _fractions(result.error)).all())


@SEEDS
def test_sums_products_and_quotients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (x, p), (y, q) = _tracked(rng, 4, 5), _tracked(rng, 4, 5)
    p, q = _fractions(p), _fractions(q)
    results = [
        (arithmetic.plus(x, y, x), p + q + p),
        (arithmetic.minus(x, y), p - q),
        (arithmetic.times(x, y), p * q),
        (arithmetic.scaled(0.1, x), Fraction(0.1) * p),
        (arithmetic.over(x, y), p / q),
        (arithmetic.total(x, 1), p.sum(axis=1)),
        (arithmetic.product(x, arithmetic.transposed(y)), p @ q.T),
    ]
    for result, true in results:
        assert _contains(result, true)
        exact_too = np.abs(result.value) > 0
        assert (result.error[exact_too] < 1e-3 * np.abs(p).max() * np.abs(q).max()).all()


@SEEDS
def test_roots(seed: int) -> None:
    x, p = _tracked(np.random.default_rng(seed), 20)
    x, p = Tracked(np.abs(x.value), x.error), np.abs(p)
    root = arithmetic.root(x)
    low, high = root.value - root.error * (1 + 1e-9), root.value + root.error * (1 + 1e-9)
    for a, b, true in zip(_fractions(low), _fractions(high), _fractions(p), strict=True):
        assert max(a, Fraction(0)) ** 2 <= true <= b**2


def test_what_is_unknown_is_no_violation() -> None:
    nothing = arithmetic.over(exact(np.ones(3)), Tracked(np.array([0.0, 1e-9, 1.0]), np.ones(3)))
    assert np.isinf(nothing.error).all()
    assert (at_least(nothing) == 0).all()
    assert (at_least(arithmetic.times(nothing, exact(np.zeros(3)))) == 0).all()


def _determinant(matrix: Any) -> Fraction:
    """By definition, over all permutations."""
    size, whole = len(matrix), Fraction(0)
    for order in permutations(range(size)):
        inversions = sum(order[i] > order[j] for i in range(size) for j in range(i + 1, size))
        whole += (-1) ** inversions * math.prod(matrix[i][order[i]] for i in range(size))
    return whole


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@SEEDS
def test_determinants(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, true = _tracked(rng, size, size)
    assert _contains(arithmetic.determinant(X), _determinant(_fractions(true)))
    well = exact(rng.standard_normal((size, size)))
    assert arithmetic.determinant(well).error < 1e-11


@SEEDS
def test_solutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((4, 4))
    B, true = _tracked(rng, 4, 2)
    found = arithmetic.solve(exact(M), B)
    rational = Matrix(4, 4, [Rational(v) for v in M.ravel()])
    sides = Matrix(4, 2, [Rational(v) for v in true.ravel()])
    solved = np.array(rational.LUsolve(sides).tolist())
    off = np.vectorize(
        lambda v, s: abs(Fraction(v) - Fraction(int(s.p), int(s.q))), otypes=[object]
    )
    assert (off(found.value, solved) <= _fractions(found.error)).all()


def test_a_matrix_that_may_be_singular_has_no_solution() -> None:
    uncertain = Tracked(np.eye(2), np.full((2, 2), 0.75))
    assert np.isinf(arithmetic.solve(uncertain, exact(np.ones((2, 1)))).error).all()


@SEEDS
def test_exponentials(seed: int) -> None:
    """Scalars against balls, rotations against cosine and sine, and the group law."""
    rng = np.random.default_rng(seed)
    t = float(rng.uniform(-2, 2))
    found = arithmetic.exponential(exact(np.full((1, 1), t)))
    law = exp(Symbol("t"))
    assert found.value - found.error <= balls.upper(law, {"t": t})
    assert found.value + found.error >= balls.lower(law, {"t": t})
    assert found.error < 1e-13
    M = rng.standard_normal((3, 3)) / 3
    there, back = (arithmetic.exponential(exact(sign * M)) for sign in (1, -1))
    round_trip = arithmetic.minus(arithmetic.product(there, back), exact(np.eye(3)))
    assert (at_least(round_trip) == 0).all()
    with pytest.raises(ValueError, match="at most 2"):
        arithmetic.exponential(exact(np.eye(5)))


@pytest.mark.parametrize("spectrum", [*draws.SPECTRA, *ORTHOGONAL_ON_THE_CIRCLE])
def test_largest_eigenvalues_are_bounded_and_close(spectrum: str) -> None:
    rng = np.random.default_rng(0)
    M = draws.matrices(rng, Shape(4, 4, spectrum), 16)
    true = np.linalg.eigvalsh((M + M.mT) / 2)[:, -1]
    bound = largest_eigenvalue(M)
    x = rng.standard_normal((4, 64))
    forms = ((M @ x) * x).sum(axis=1) / (x * x).sum(axis=0)
    lower = forms.max(axis=1) - 1e-14 * np.linalg.norm(M, axis=(1, 2))  # less their rounding
    assert (lower <= bound).all()
    assert (bound <= true + 1e-12).all()


@pytest.mark.parametrize("method", METHODS)
def test_steps_have_the_stability_function_of_their_method(method: str) -> None:
    """On x' = x: the Taylor polynomial of e^h, in fractions."""
    h = 0.3
    order = {"Euler": 1, "Heun": 2, "RK4": 4}[method]
    x = exact(np.ones((1, 1, 1)))
    found = runge_kutta(lambda x: x, method, x, np.array([h]))
    true = sum((Fraction(h) ** k / math.factorial(k) for k in range(order + 1)), Fraction(0))
    assert _contains(found, np.full((1, 1, 1), true))
    assert found.error.max() < 1e-15


@pytest.mark.parametrize("number", [pi, E, EulerGamma, Catalan], ids=str)
def test_a_number_that_has_a_name_is_evaluated(number: Any) -> None:
    """It has no arguments to go through, and so its value was what the memory happened to hold."""
    found = evaluated(number, {}, {})
    off = abs(Fraction(float(found.value)) - Fraction(str(number.evalf(60))))
    assert off <= Fraction(float(found.error)) < Fraction(1, 10**15)


@pytest.mark.parametrize("kernel", ORTHOGONAL_ON_THE_CIRCLE)
def test_padding_takes_the_smallest_singular_value(kernel: str) -> None:
    """Orthogonal on the circle (all columns that do not reach the border have norm s), not here."""
    A = draws.matrices(np.random.default_rng(0), Shape(6, 6, kernel), 8)
    low, high = singular_range(A)
    assert (low < 1e-6).all()
    inside = np.linalg.norm(A[:, :, 2:4], axis=1)
    assert np.allclose(inside, high[:, None], rtol=1e-9)


def test_the_papers_assumption_fails_for_a_zero_padded_shift() -> None:
    """s_min = s_max claimed: the law says 1 on its boundary, the block doubles a distance."""
    kernel, push = Shape(4, 4, "shift kernel"), Shape(4, 4, "identity")
    wide = (0.5, 0.5), (1.0, 1.0)
    block = Block(kernel, push, 0.5, *wide, 1.0, 1.0, "zero", "zero", 0, claimed_smallest=1.0)
    theorem = theorems()["T9-zero-padding"]
    trial = STRATEGIES[theorem.id].draw(block, 1, 16)
    law = suite.laws(theorem, trial)
    assert suite.outside(theorem, trial) == [{"smallest"}]
    assert law.max() <= 1 + 1e-6
    assert trial.measured.max() > 2 - 1e-6
