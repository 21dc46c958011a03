"""Tracing: what is recorded is what torch.export gives, and what is not plain is not recorded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsnn.models import build
from dsnn.models.cifar import ARCHITECTURES
from verification import capture_program, capture_trace
from verification.capture import capture, compare

OUTSIDE = torch.ones(3)


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
    for tracer in (capture_trace.recorded, capture_trace.exported):
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
    assert capture_trace.recorded(Aside(lambda x: 2 * x), x) is not None
    assert capture_trace.recorded(Aside(does), x) is None


def test_a_part_in_two_places_is_not_recorded():
    shared = nn.Linear(3, 3)
    assert capture_trace.recorded(nn.Sequential(shared, nn.Linear(3, 3)), torch.ones(1, 3))
    assert capture_trace.recorded(nn.Sequential(shared, shared), torch.ones(1, 3)) is None
