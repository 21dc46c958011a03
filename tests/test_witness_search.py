"""What the search finds: planted expansions, and those of the published networks."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.models import build
from dsnn.weights import load
from verification import audit
from verification.pixel_input import PixelInput
from verification.witness import inputs_of, replay, search


class Linear(nn.Module):
    """x -> Wx with the singular values 1, ..., 1, largest."""

    def __init__(self, largest: float):
        super().__init__()
        torch.manual_seed(0)
        u, v = (torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))[0] for _ in range(2))
        values = torch.ones(40, dtype=torch.float64)
        values[0] = largest
        self.weight = nn.Parameter(u @ torch.diag(values) @ v)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


@pytest.mark.parametrize("largest", [1.05, 3.0])
def test_one_large_singular_value_is_found_and_never_exceeded(largest: float):
    module = Linear(largest)
    true = torch.linalg.matrix_norm(module.weight.double(), 2).item()
    found = search(module, (40,), target=1.001, budget_seconds=120)
    assert found is not None
    assert 1.001 < found.ratio <= true * (1 + 1e-13)
    assert replay(module, found.x, found.y) == found.ratio


def test_an_isometry_is_not_refuted():
    found = search(Linear(1.0), (40,), target=1.0, budget_seconds=120)
    assert found is not None
    assert 0.999 < found.ratio < 1 + 1e-13


def test_an_expansion_far_from_where_it_starts_is_found():
    """ReLU(4x - 10) / 2 is 0 up to 2.5, then expands by 2: only large inputs show it."""

    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(4 * x - 10) / 2

    found = search(Late(), (6,), target=1.5, budget_seconds=120)
    assert found is not None
    assert 1.5 < found.ratio <= 2


def test_search_is_deterministic_for_a_seed():
    torch.manual_seed(5)
    net = build("switch-flexible", channels=(4, 8, 8)).eval()
    runs = [search(net, (3, 32, 32), budget_seconds=120, seed=seed) for seed in (1, 1, 2)]
    first, second, other = runs
    assert first is not None
    assert second is not None
    assert other is not None
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.y, second.y)
    assert first.ratio == second.ratio
    assert not torch.equal(first.x, other.x)


def test_starts_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        search(Linear(2.0), (40,), starts=torch.ones(2, 41))


def test_a_constant_map_has_no_witness():
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * x

    assert search(Constant(), (5,)) is None


class Critic(nn.Linear):
    """One number an example, in no dimension of its own, that of (2, 2, 2, 2) x."""

    def __init__(self):
        super().__init__(4, 1)
        nn.init.constant_(self.weight, 2.0)

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input).squeeze(-1), 0.5)


@pytest.mark.parametrize(("module", "shape"), [(Critic(), (4,)), (nn.LeakyReLU(4.0), ())])
def test_images_and_inputs_may_be_single_numbers(module: nn.Module, shape: tuple[int, ...]):
    (verdict,) = audit(module, "lipschitz<=3.9", shape).verdicts
    assert verdict.outcome == "refuted"
    assert 3.9 < verdict.lower <= 4


def test_inputs_of_a_module_are_what_it_receives():
    net = build("non-expansive", channels=(4, 8, 8)).eval()
    x = torch.rand(2, 3, 32, 32)
    seen = inputs_of(net, "stages.1.lift", x)
    assert seen is not None
    assert torch.equal(seen, net.stages[0](x))
    idle = nn.Sequential(nn.Identity())
    idle.add_module("unused", nn.Identity())
    idle.forward = lambda input: input  # pyright: ignore[reportAttributeAccessIssue]
    assert inputs_of(idle, "unused", x) is None


def published(folder: Path, name: str, arch: str):
    return load(folder / "published" / f"cifar10_{name}.pt", arch=arch)


def test_the_flow_that_executes_negative_steps_as_positive_is_refuted(data_folder: Path):
    """The notes measured 1.556 in the last flow of the flexible network at margin 0.15."""
    loaded = published(data_folder, "switch_flexible_0.15", "switch-flexible")
    flow = loaded.net.get_submodule("stages.2.flow")
    found = search(flow, (128, 8, 8), target=1.0, budget_seconds=120)
    assert found is not None
    assert found.ratio > 1.5
    assert replay(flow, found.x, found.y) > 1.5


def test_the_whole_network_expands_pixels(data_folder: Path):
    loaded = published(data_folder, "switch_flexible_0.15", "switch-flexible")
    module = PixelInput(loaded.net, loaded.card.mean, loaded.card.std)
    found = search(module, (3, 32, 32), target=1.0, budget_seconds=120)
    assert found is not None
    assert found.ratio > 1


def test_the_flows_of_the_non_expansive_network_are_not_refuted(data_folder: Path):
    loaded = published(data_folder, "non_expansive_0.15", "non-expansive")
    flow = loaded.net.get_submodule("stages.2.flow")
    found = search(flow, (128, 8, 8), target=1.0, budget_seconds=120)
    assert found is not None
    assert 0.99 < found.ratio <= 1
