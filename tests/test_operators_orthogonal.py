"""Orthogonal and rescaled weights: exported as plain tensors, their norms are proved."""

import pytest
import torch
from torch.nn.utils import parametrize

from dsnn.operators import Convolution, Dense, LinearOperator
from dsnn.operators.bounds import singular_values
from dsnn.operators.orthogonal import Cayley, Rescaled, polar


def exported(operator: LinearOperator, parametrization: torch.nn.Module) -> LinearOperator:
    parametrize.register_parametrization(operator, "weight", parametrization)
    with torch.no_grad():
        original = operator.parametrizations["weight"].original  # pyright: ignore
        original.add_(0.3 * torch.randn_like(original))
    parametrize.remove_parametrizations(operator, "weight")
    return operator


@pytest.mark.parametrize("size", [2, 7, 32])
@pytest.mark.parametrize("seed", range(3))
def test_cayley_is_orthogonal_and_its_export_has_norm_at_most_1(size: int, seed: int):
    torch.manual_seed(seed)
    operator = exported(Dense(size, size), Cayley())
    assert isinstance(operator.weight, torch.nn.Parameter)
    found = singular_values(operator)
    assert found.norm[1] <= 1
    assert found.smallest[0] >= 1 - 1e-5


def test_cayley_of_a_kernel_of_one_pixel_is_that_of_its_matrix():
    matrix = torch.randn(6, 6)
    assert torch.equal(Cayley()(matrix[:, :, None, None])[:, :, 0, 0], Cayley()(matrix))


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize(("outputs", "size"), [(3, 3), (5, 3), (2, 1), (4, 5)])
def test_a_rescaled_kernel_has_norm_at_most_1(outputs: int, size: int, circular: bool):
    torch.manual_seed(outputs)
    operator = Convolution(3, outputs, size, circular=circular)
    exported(operator, Rescaled())
    assert singular_values(operator, (8, 6)).norm[1] <= 1


def test_a_rescaled_matrix_has_norm_at_most_1_and_zero_rows_stay_zero():
    torch.manual_seed(0)
    operator = exported(Dense(9, 5), Rescaled())
    assert singular_values(operator).norm[1] <= 1
    kernel = torch.randn(4, 3, 3, 3)
    kernel[1] = 0
    scaled = Rescaled()(kernel)
    assert not scaled[1].any()
    assert torch.isfinite(scaled).all()


def test_rescaling_leaves_orthogonal_rows_nearly_alone_and_others_short():
    rows, _ = torch.linalg.qr(torch.randn(8, 8))
    assert torch.allclose(Rescaled()(3 * rows), rows, atol=1e-4)
    assert float(torch.linalg.matrix_norm(Rescaled()(torch.randn(64, 64)), 2)) < 0.9


def test_without_the_overlaps_the_bound_would_fail():
    """The plant: rows scaled to norm 1, as if the shifted copies of a kernel did not overlap."""
    kernel = torch.ones(2, 2, 3, 3)
    operator = Convolution(2, 2)
    with torch.no_grad():
        operator.weight.copy_(kernel / kernel.flatten(1).norm(dim=1)[:, None, None, None])
    assert singular_values(operator, (8, 8)).norm[0] > 3
    with torch.no_grad():
        operator.weight.copy_(Rescaled()(kernel))
    assert singular_values(operator, (8, 8)).norm[1] <= 1


@pytest.mark.parametrize("seed", range(3))
def test_newton_schulz_converges_quadratically_to_the_polar_factor(seed: int):
    torch.manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(12, 12, dtype=torch.float64))
    near = (left * (0.8 + 0.4 * torch.rand(12, dtype=torch.float64))) @ right
    identity = torch.eye(12, dtype=torch.float64)
    defect = float(torch.linalg.matrix_norm(near.T @ near - identity, 2))
    assert defect < 1
    for _ in range(3):
        near = polar(near)
        after = float(torch.linalg.matrix_norm(near.T @ near - identity, 2))
        assert after <= defect**2 * (3 + defect) / 4 + 1e-14
        defect = after
    assert torch.allclose(polar(near, 3), left @ right, atol=1e-12)
