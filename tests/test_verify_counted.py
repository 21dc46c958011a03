"""Counted roundings against exact rational arithmetic: a defect is never overestimated."""

from fractions import Fraction

import numpy as np
import pytest

from verification.strategies.counted import Counted, contract, stored, total


def _exact_product(left: np.ndarray, right: np.ndarray) -> list[Fraction]:
    return [
        sum((Fraction(a) * Fraction(b) for a, b in zip(row, right, strict=True)), Fraction(0))
        for row in left
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_error_contains_the_exact_value(seed: int) -> None:
    """(A x - b)^3 (A x) / (x.x), entry by entry."""
    rng = np.random.default_rng(seed)
    A, x = rng.standard_normal((5, 7)), rng.standard_normal(7)
    b = np.array([float(v) for v in A @ x]) * (1 + 1e-15 * rng.standard_normal(5))
    Ax = contract("ij,j->i", stored(A), stored(x))
    square = contract("ij,ij->i", stored(np.tile(x, (5, 1))), stored(np.tile(x, (5, 1))))
    result = (Ax - stored(b)).power(3) * Ax / square
    length = sum((Fraction(v) ** 2 for v in x), Fraction(0))
    for i, value in enumerate(_exact_product(A, x)):
        truth = (value - Fraction(b[i])) ** 3 * value / length
        assert Fraction(float(result.defect()[i])) <= abs(truth)
        k = result.roundings
        error = (
            Fraction(k, 2**53 - k) * Fraction(float(result.moduli[i])) * (1 + Fraction(1, 2**40))
        )
        assert abs(Fraction(float(result.value[i])) - truth) <= error


def test_identities_have_no_defect_and_a_wrong_term_has() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (stored(rng.standard_normal(10_000)) for _ in range(3))
    identity = (a + b) * c - (a * c + b * c)
    assert (identity.value != 0).any()  # rounding alone
    assert (identity.defect() == 0).all()
    wrong = total([identity, Counted(1e-12 * c.value, 1e-12 * c.moduli, 1)])
    assert (wrong.defect() > 0).mean() > 0.9
