"""Norms by sums of absolute entries: exact on permutations, a bound on everything else."""

import pytest
import torch

from dsnn.operators import sums
from dsnn.operators.bounds import of_convolution, of_matrix
from dsnn.operators.geometry import Geometry


@pytest.mark.parametrize("scale", [1.0, 0.375, 3.0])
def test_signed_permutations_keep_their_exact_norm(scale: float):
    matrix = (
        scale * torch.eye(6)[[3, 0, 5, 1, 2, 4]] * torch.tensor([1.0, -1, 1, 1, -1, 1])[:, None]
    )
    assert sums.norm_upper(matrix) == scale
    assert of_matrix(matrix).norm[1] == scale


@pytest.mark.parametrize("circular", [False, True])
def test_delta_kernels_keep_the_norm_1(circular: bool):
    kernel = torch.zeros(4, 2, 3, 3)
    kernel[[0, 1, 2, 3], [1, 0, 0, 1], [0, 1, 2, 1], 1] = 1
    geometry = Geometry((5, 6), padding=(1, 1, 1, 1), groups=2, circular=circular)
    assert of_convolution(kernel, geometry).norm[1] == 1


@pytest.mark.parametrize("seed", range(20))
def test_it_bounds_random_matrices(seed: int):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(2 + seed % 5, 3 + seed % 4, generator=generator, dtype=torch.float64)
    largest = torch.linalg.svdvals(matrix)[0]
    assert sums.norm_upper(matrix) >= largest


def test_nothing_is_known_where_outputs_are_repeated():
    geometry = Geometry((4, 4), padding=(3, 3, 3, 3), circular=True)
    assert sums.norm_upper(torch.ones(1, 1, 3, 3), geometry) == float("inf")


def test_the_sum_of_several_entries_is_rounded_up():
    row = torch.full((1, 10), 0.1, dtype=torch.float64)
    assert sums.norm_upper(row) ** 2 > 0.1 * sum(0.1 for _ in range(10))
