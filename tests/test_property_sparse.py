"""Sparse matrices with radii against exact fractions; what is exact stays exact."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from verification.sparse import Matrix, diagonal, exactly, identity, norm_upper, times

Table = list[list[Fraction]]


def _random(rng: np.random.Generator, m: int, n: int, kind: str) -> Any:
    dense = np.where(rng.random((m, n)) < 0.4, rng.standard_normal((m, n)), 0.0)
    matrix: Any = sp.csr_matrix(dense)
    if kind == "float32":
        matrix.data = matrix.data.astype(np.float32).astype(float)
    if kind == "whole":
        matrix.data = np.round(matrix.data * 3)
    return matrix


def _table(matrix: Any) -> Table:
    return [[Fraction(value) for value in row] for row in matrix.toarray().tolist()]


def _product(a: Table, b: Table) -> Table:
    columns = list(zip(*b, strict=True))
    return [
        [sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in columns] for r in a
    ]


def _sum(a: Table, b: Table, sign: int = 1) -> Table:
    return [[x + sign * y for x, y in zip(r, s, strict=True)] for r, s in zip(a, b, strict=True)]


def _encloses(matrix: Matrix, exact: Table) -> bool:
    parts = [part.toarray().tolist() for part in matrix.parts]
    return all(
        abs(Fraction(hi) + Fraction(lo) - value) <= Fraction(rad)
        for rows in zip(*parts, exact, strict=True)
        for hi, lo, rad, value in zip(*rows, strict=True)
    )


@pytest.mark.parametrize("seed", range(12))
def test_arithmetic_encloses_the_exact_result(seed: int):
    rng = np.random.default_rng(seed)
    kinds = ("float64", "float32", "whole")
    a, b = _random(rng, 5, 6, kinds[seed % 3]), _random(rng, 6, 4, kinds[seed // 3 % 3])
    c, d = _random(rng, 5, 4, "float64"), sp.diags(rng.standard_normal(5)).tocsr()
    order = sp.csr_matrix(np.eye(4)[rng.permutation(4)])
    first = exactly(a) @ exactly(b) + exactly(c)
    assert _encloses(first, _sum(_product(_table(a), _table(b)), _table(c)))
    second = exactly(d) @ first @ exactly(order) - exactly(c)
    scaled = _product(_table(d), _sum(_product(_table(a), _table(b)), _table(c)))
    assert _encloses(second, _sum(_product(scaled, _table(order)), _table(c), -1))
    once, exact = exactly(d) @ exactly(a), _product(_table(d), _table(a))
    assert _encloses(once, exact)
    assert _encloses(once.T @ once, _product([list(x) for x in zip(*exact, strict=True)], exact))
    third = times(once, Fraction(1, 3)) + once
    assert _encloses(third, [[x * Fraction(4, 3) for x in row] for row in exact])
    dense = np.array([[float(x) for x in row] for row in scaled])
    assert norm_upper(exactly(d) @ first) >= np.linalg.norm(dense, 2)


def test_single_products_cancel_exactly():
    """h w has 106 bits: the difference of two ways to it is a proved 0."""
    rng = np.random.default_rng(0)
    a, h = exactly(_random(rng, 7, 7, "float64")), diagonal(np.full(7, rng.standard_normal()))
    assert not (h @ a).plain
    assert (h @ a - (a.T @ h).T).zero
    assert not (h @ a - a @ diagonal(np.full(7, 0.3))).zero


def test_whole_numbers_are_exact_in_sums():
    rng = np.random.default_rng(1)
    a = exactly(_random(rng, 9, 9, "whole"))
    assert (a @ a.T).plain
    assert (a @ (a.T + identity(9)) - a @ a.T - a).zero


def test_a_lost_bit_is_not_exact():
    one = exactly(np.array([[1.0, 2.0**-60]]))
    assert not (one @ one.T).plain


def test_overflow_is_an_error():
    large = exactly(np.array([[1e200]]))
    with pytest.raises(ArithmeticError):
        _ = large @ large
