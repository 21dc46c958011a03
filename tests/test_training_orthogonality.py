"""The orthogonality penalty against the formula it replaces."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.operators import Convolution
from dsnn.training import orthogonality_defect, orthogonality_penalty


def literal(kernel: Tensor) -> Tensor:
    """|conv2d(K, K, padding=size - 1) - I at the centre|_F."""
    height, width = kernel.shape[-2:]
    found = F.conv2d(kernel, kernel, padding=(height - 1, width - 1))
    target = torch.zeros_like(found)
    target[:, :, height - 1, width - 1] = torch.eye(len(kernel))
    return (found - target).norm()


def kernels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


SHAPES = [(4, 5, 3, 3, 3), (2, 3, 5, 3, 3), (1, 4, 2, 5, 5), (2, 3, 3, 2, 3), (1, 2, 2, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_defect_is_the_literal_formula(shape: tuple[int, ...]):
    batch = kernels(*shape)
    expected = torch.stack([literal(kernel) for kernel in batch])
    torch.testing.assert_close(orthogonality_defect(batch), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_defect_has_the_gradient_of_the_literal_formula(shape: tuple[int, ...]):
    batch = kernels(*shape).requires_grad_()
    assert torch.autograd.gradcheck(orthogonality_defect, batch)
    (ours,) = torch.autograd.grad(orthogonality_defect(batch).sum(), batch)
    total = torch.stack([literal(kernel) for kernel in batch]).sum()
    (expected,) = torch.autograd.grad(total, batch)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


def test_an_orthogonal_kernel_has_no_defect_and_a_finite_gradient():
    kernel = torch.zeros(1, 3, 3, 3, 3, dtype=torch.float64)
    kernel[0, :, :, 1, 1] = torch.eye(3)[[2, 0, 1]]
    kernel.requires_grad_()
    defect = orthogonality_defect(kernel).sum()
    defect.backward()
    assert float(defect.detach()) == 0
    assert kernel.grad is not None
    assert not kernel.grad.any()


def test_a_shifted_delta_has_no_defect_but_a_scaled_one_has():
    kernel = torch.zeros(1, 2, 2, 3, 3, dtype=torch.float64)
    kernel[0, :, :, 0, 2] = torch.eye(2)
    assert float(orthogonality_defect(kernel)) == 0
    assert float(orthogonality_defect(2 * kernel)) == pytest.approx(3 * 2**0.5)


def test_penalty_sums_over_kernels_of_different_shapes():
    operators = [Convolution(3, 4), Convolution(5, 5), Convolution(3, 4), Convolution(2, 2, size=5)]
    for seed, operator in enumerate(operators):
        torch.nn.init.normal_(operator.weight, generator=torch.Generator().manual_seed(seed))
        operator.double()
    expected = torch.stack([literal(operator.weight) for operator in operators]).sum()
    penalty = orthogonality_penalty(operators)
    torch.testing.assert_close(penalty, expected, rtol=1e-13, atol=0)
    penalty.backward()
    assert all(operator.weight.grad is not None for operator in operators)


def test_grouped_convolutions_are_refused():
    with pytest.raises(ValueError, match="groups=1"):
        orthogonality_penalty([Convolution(4, 4, groups=2)])
