"""Orthogonal momentum: what an update is, what Adam is beside it, and that its state resumes."""

import copy

import pytest
import torch
from torch import nn

from dsnn.training.muon import Muon, orthogonal_factor


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (24, 24)])
def test_the_factor_has_singular_values_near_1_and_the_vectors_of_the_matrix(shape):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.2, 1, min(shape))
    found = orthogonal_factor((left * values) @ right)
    inner = left.T @ found @ right.T
    assert (inner.diagonal() > 0.65).all()
    assert (inner.diagonal() < 1.25).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4


def test_a_zero_gradient_changes_nothing():
    kernel = nn.Parameter(torch.ones(3, 2, 3, 3))
    optimizer = Muon([kernel], [], lr=0.1)
    kernel.grad = torch.zeros_like(kernel)
    optimizer.step()
    assert torch.equal(kernel, torch.ones_like(kernel))


def test_the_entries_of_an_update_are_as_large_as_the_rate_says():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.zeros(16, 8, 3, 3))
    optimizer = Muon([kernel], [], lr=0.01, dtype=torch.float32)
    kernel.grad = torch.randn_like(kernel)
    optimizer.step()
    size = float(kernel.detach().square().mean().sqrt())
    assert 0.5 * 0.2 * 0.01 < size < 1.5 * 0.2 * 0.01
    assert float((kernel * kernel.grad).sum().detach()) < 0  # downhill


def test_the_others_are_updated_as_by_adam():
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(5))
    theirs = nn.Parameter(ours.detach().clone())
    first = Muon([], [ours], lr=0.01)
    second = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(5):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(4, 2, 4, 4)

    def made(net: nn.Module) -> Muon:
        parameters = list(net.parameters())
        return Muon(
            [p for p in parameters if p.ndim == 4], [p for p in parameters if p.ndim < 4], lr=0.01
        )

    def steps(net: nn.Module, optimizer: Muon, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()

    optimizer = made(net)
    steps(net, optimizer, 3)
    other = copy.deepcopy(net)
    restored = made(other)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(net, optimizer, 3)
    steps(other, restored, 3)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
