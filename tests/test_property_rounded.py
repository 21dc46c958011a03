"""The constants of a batch norm are rounded: equalities that lean on them do not hold exactly, and
bounds have to be a little larger."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from torch import Tensor, nn

from verification import audit, graph_file
from verification.capture import capture
from verification.claims import parse
from verification.graph import Graph
from verification.lipschitz import derive
from verification.properties import judge


class Cancelling(nn.Module):
    """x + 2e7 (n(x) - c x) with c the scale of the norm n in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.norm.running_var = torch.tensor([0.75, 1.25, 1.5, 1.75])
        self.double().eval()
        self.scale = nn.Parameter(1 / (self.norm.running_var + self.norm.eps).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        return x + 2e7 * (self.norm(x) - self.scale * x)


class Inside(nn.Module):
    """x + A's(n(A x + b)) or, `summed`, what does not change the sum, whatever n is."""

    def __init__(self, summed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.map, self.norm, self.summed = nn.Linear(4, 4), nn.BatchNorm1d(4), summed
        self.norm.running_mean = torch.randn(4)
        self.norm.running_var = torch.rand(4) + 0.5
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.norm(self.map(x)))
        return x + (y - y.roll(1, 1) if self.summed else y @ self.map.weight)


def verdict(module: nn.Module, claim: str, *shape: int) -> str:
    graph = capture(module, shape)
    assert isinstance(graph, Graph)
    return judge(parse(claim), graph, dtype=torch.float64, budget_seconds=0.5).outcome


@pytest.mark.parametrize(
    "claim", ["orthogonal", "volume-preserving", "norm-preserving", "mass-preserving"]
)
def test_what_cancels_up_to_rounding_is_not_proved(claim: str) -> None:
    assert verdict(Cancelling(), claim, 4) == "unknown"


def test_what_holds_for_every_scale_is_proved() -> None:
    assert verdict(Inside(False), "gradient-field", 4) == "proved"
    assert verdict(Inside(True), "mass-preserving", 4) == "proved"
    images = nn.Sequential(nn.BatchNorm2d(2), nn.Tanh()).double().eval()
    assert verdict(images, "equivariant:shift", 2, 4, 4) == "proved"


def test_scales_that_are_only_rounded_to_one_number_do_not_move() -> None:
    """Channels along the axis of the shift, of variances that differ by less than a rounding."""
    norm = nn.BatchNorm1d(4).double().eval()
    assert norm.running_var is not None
    norm.running_var[0] -= 2.0**-53
    assert verdict(norm, "equivariant:shift", 4) != "proved"


class Threefold(nn.Module):
    """x + 1e6 (3 n(x) - m(x)), which is x: m has three times the weight and bias of n. What is
    left of their shifts is small, but not the error of these."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        mean, var = 8 * torch.randn(4).double(), torch.rand(4).double() + 0.5
        bias = torch.round(mean / (var + 1e-5).sqrt() * 1024) / 1024
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(2))
        self.double().eval()
        for factor, norm in zip((1, 3), self.norms, strict=True):
            assert isinstance(norm, nn.BatchNorm1d)
            norm.running_mean, norm.running_var = mean.clone(), var.clone()
            norm.weight = nn.Parameter(torch.full((4,), float(factor), dtype=torch.float64))
            norm.bias = nn.Parameter(factor * bias)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norms
        return x + 1e6 * (3 * first(x) - second(x))


@pytest.mark.parametrize("claim", ["norm-preserving", "mass-preserving", "equivariant:shift"])
def test_what_holds_but_for_rounding_is_not_refuted(claim: str) -> None:
    assert verdict(Threefold(), claim, 4) == "unknown"


@pytest.mark.parametrize("claim", ["orthogonal", "volume-preserving", "mass-preserving"])
def test_constants_stay_rounded_when_they_are_handed_on(claim: str) -> None:
    """As the sandbox does it, which proved these exactly; and stores know them apart."""
    graph, store = capture(Cancelling(), (4,)), graph_file.Tensors()
    found = graph_file.read(graph_file.written(graph, store), store.arrays)
    assert judge(parse(claim), found, dtype=torch.float64, budget_seconds=0.5).outcome == "unknown"
    (scale,) = (node for node in found if node.name == "batch_norm")
    exact = {use: replace(c, rounded=0.0) for use, c in scale.constants.items()}
    nodes = (replace(n, constants=exact) if n is scale else n for n in found)
    assert graph_file.digest(Graph(tuple(nodes), found.output)) != graph_file.digest(found)


def test_which_constants_are_rounded() -> None:
    graph = capture(Inside(True).norm, (4,))
    assert isinstance(graph, Graph)
    (node,) = (node for node in graph if node.kind == "scale")
    assert node.constants["weight"].rounded
    assert node.constants["bias"].rounded
    fresh = capture(nn.BatchNorm1d(4).eval(), (4,))
    assert isinstance(fresh, Graph)
    assert not any(n.constants["bias"].rounded for n in fresh if n.kind == "scale")


def test_a_scale_that_is_rounded_to_one_may_be_more() -> None:
    """1 / sqrt(var + eps), with var + eps = 1 - 9e-18: 1 in float64."""
    norm = nn.BatchNorm1d(2, eps=1e-2).double().eval()
    assert norm.running_var is not None
    norm.running_var.fill_(1 - 1e-2)
    assert Fraction(1 - 1e-2) + Fraction(1e-2) < 1
    after = nn.Sequential(norm, nn.Flatten())
    assert [
        v.outcome for v in audit(after, ["lipschitz<=1", "lipschitz<=1.000001"], (2,)).verdicts
    ] == ["unknown", "proved"]
    graph = capture(after, (2,))
    store = graph_file.Tensors()
    again = graph_file.read(graph_file.written(graph, store), store.arrays)
    for found in (graph, again):
        assert 1 < derive(found).upper < 1 + 1e-12


def test_a_step_of_a_rounded_size_is_none_of_known_form() -> None:
    """x - s x, s a rounded number: 1 - s is not known as exactly as s is."""

    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2, eps=1e-2).double()

        def forward(self, x: Tensor) -> Tensor:
            return x - self.norm(x)

    rest = Rest().eval()
    assert rest.norm.running_var is not None
    rest.norm.running_var.fill_(1 - 1e-2)
    graph = capture(rest, (2,))
    assert derive(graph).upper > 0


class Scaled(nn.Module):
    """A batch norm of mean 0 that is given 0.3 times a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4).double())

    def forward(self, x: Tensor) -> Tensor:
        zero, one = torch.zeros(4).double(), torch.ones(4).double()
        return F.batch_norm(x, zero, one, None, 0.3 * self.bias)


def test_a_bias_that_was_computed_is_rounded() -> None:
    (node,) = (node for node in capture(Scaled(), (4,)) if node.kind == "scale")
    assert node.constants["bias"].rounded > 0


def test_a_scale_that_underflows_is_not_0() -> None:
    """Its weight is 1e200 times 1e-400; what follows has the slope 1e50 beyond 1e10, where no
    example is that the graph is compared on."""

    def steep(x: Tensor, one: Tensor, zero: Tensor, large: Tensor) -> Tensor:
        y = F.batch_norm(x, zero, one, large * 1e-200 * 1e-200)
        return torch.relu(1e250 * y - 1e60)

    one = torch.ones(2, dtype=torch.float64)
    module = Buffered(steep, one, torch.zeros_like(one), 1e200 * one)
    far = module(torch.tensor([[2e10, 0.0], [0.0, 0.0]], dtype=torch.float64))
    assert float(far[0, 0] - far[1, 0]) > 1e59
    for verdict in audit(module, ["lipschitz<=1", "contractive"], (2,), budget=0.5).verdicts:
        assert verdict.outcome != "proved"


def test_a_computed_variance_that_cancels_against_epsilon() -> None:
    """-1/3 + epsilon is two thirds of what float64 makes of it: the constant is sqrt(3/2)."""
    epsilon = math.nextafter(1 / 3, 1.0)
    assert (Fraction(epsilon) - Fraction(1, 3)) * 3 == Fraction(2) ** -53

    def normalised(x: Tensor, zero: Tensor, minus: Tensor) -> Tensor:
        return 2.0**-27 * F.batch_norm(x, zero, minus / 3, eps=epsilon)

    one = torch.ones(2, dtype=torch.float64)
    module = Buffered(normalised, torch.zeros_like(one), -one)
    (verdict,) = audit(module, "lipschitz<=1.1", (2,), budget=0.5).verdicts
    assert verdict.outcome != "proved"
