"""Tracing: what is recorded is what torch.export gives, and what is not plain is not recorded."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from property_modules import Buffered
from torch import Tensor, nn

from dsnn.models import build
from dsnn.models.cifar import ARCHITECTURES
from verification import audit, capture_program, capture_trace
from verification.capture import Uncapturable, capture, compare

OUTSIDE = torch.ones(3)


def recorded(module: nn.Module, x: Tensor) -> capture_trace.Program | None:
    return capture_trace.recorded(module, x, capture_trace.calls(module, x.clone()))


class Aside(nn.Module):
    """1.5 x, with something done on the way."""

    def __init__(self, does: Callable[[Tensor], Any]):
        super().__init__()
        self.does, self.weight = does, nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        self.does(x)
        return self.weight * x


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_is_recorded_is_what_is_exported(arch: str, monkeypatch: pytest.MonkeyPatch):
    net, graphs = build(arch, channels=(4, 6, 8)), []
    for tracer in (recorded, capture_trace.exported):
        monkeypatch.setattr(capture_program, "traced", tracer)
        graphs.append(capture(net, (3, 32, 32)))
    compare(*graphs)
    one, two = ([(node.module, node.shape) for node in graph] for graph in graphs)
    assert one == two


@pytest.mark.parametrize(
    "does",
    [
        lambda x: float(x.sum()), lambda x: x.tolist(), lambda x: x.numpy(), lambda x: x.add_(1),
        lambda x: x.flatten(), lambda x: torch.sort(x), lambda x: OUTSIDE + x,
        lambda x: x.new_zeros(x.shape).normal_(),
    ],
)  # fmt: skip
def test_nothing_but_plain_operators_is_recorded(does: Callable[[Tensor], Any]):
    x = torch.randn(2, 3)
    assert recorded(Aside(lambda x: 2 * x), x) is not None
    assert recorded(Aside(does), x) is None


def test_a_part_in_two_places_is_not_recorded():
    shared = nn.Linear(3, 3)
    assert recorded(nn.Sequential(shared, nn.Linear(3, 3)), torch.ones(1, 3))
    assert recorded(nn.Sequential(shared, shared), torch.ones(1, 3)) is None


def replaces(x: Tensor) -> Tensor:
    """Steps of slope 11, too small to be seen on random inputs."""
    y = 1.0 * x
    y.data = x + 1e-4 * torch.tanh(1e5 * x)
    return 1.0 * y


def exchanges(x: Tensor) -> Tensor:
    y, z = 1.0 * x, x + 1e-4 * torch.tanh(1e5 * x)
    torch.utils.swap_tensors(y, z)
    return 1.0 * y


@pytest.mark.parametrize("function", [replaces, exchanges])
def test_tensors_that_get_other_entries_unseen_are_not_recorded(function: Callable[..., Tensor]):
    assert recorded(Buffered(function), torch.ones(2, 3)) is None
    assert audit(Buffered(function), "lipschitz<=2", (3,), budget=0.2).verdicts[0].upper > 10


def test_what_goes_on_after_a_refusal_is_not_followed():
    def bold(x: Tensor) -> Tensor:
        with contextlib.suppress(Exception):
            if float(x.data.sum()) > 100:
                return 5 * x
        return 1.0 * x

    with pytest.raises(Uncapturable, match="cannot be followed"):
        capture(Buffered(bold), (3,))


class Projected(nn.Module):
    """Its weight is projected whenever it is used: by 1.0001, too little to be seen."""

    def __init__(self, then: Callable[[Tensor], Tensor]):
        super().__init__()
        self.weight, self.then = nn.Parameter(1.0001 * torch.eye(3)), then

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = 1.0002 * torch.eye(3)
        return self.then(x @ self.weight.T)


@pytest.mark.parametrize("then", [torch.sin, lambda x: 1.0 * x])
def test_a_weight_that_a_call_changes_is_no_constant(then: Callable[[Tensor], Tensor]):
    with pytest.raises(Uncapturable, match="it changes weight when called"):
        capture(Projected(then), (3,))
