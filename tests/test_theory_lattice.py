"""Sorting steps against max and min, on random vectors; each step within T8."""

import numpy as np
import pytest

from theory.lattice import max_of_mins


@pytest.mark.parametrize("groups", [[[0]], [[2, 0], [1]], [[0, 1, 2], [3, 4], [5], [6, 7]]])
def test_steps_compute_the_max_of_mins(groups: list[list[int]]) -> None:
    rng = np.random.default_rng(0)
    size = sum(map(len, groups))
    vectors = np.round(8 * rng.standard_normal((200, size))) / 8  # ties among them; exact
    z = vectors.copy()
    for i, j in max_of_mins(groups):
        A = np.zeros(size)
        A[i], A[j] = -1.0, 1.0
        assert 1.0 * (A @ A) <= 2  # h |A|^2 <= 2
        z = z - np.maximum(z @ A, 0)[:, None] * A
    wanted = np.max([vectors[:, group].min(axis=1) for group in groups], axis=0)
    assert (z[:, groups[0][0]] == wanted).all()


@pytest.mark.parametrize("groups", [[], [[]], [[0, 1], [1]]])
def test_empty_and_shared_entries_are_refused(groups: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="lift a copy"):
        max_of_mins(groups)
