"""Entries that follow one entry on two rays: CReLU [Shang et al. 2016] and what is like it."""

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from property_modules import Function, judged
from test_checker_bounds import parsed
from test_checker_lines import RELU
from test_checker_lines import Graph as Lines
from test_sorting import checked, jacobian
from torch import Tensor, nn

from verification.capture import capture
from verification.checker import rays
from verification.checker.reading import Wrong
from verification.lipschitz import derive


def crelu(x: Tensor) -> Tensor:
    return torch.cat([x.relu(), (-x).relu()], 1)


def leaky(x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope)


KEPT: dict[str, Any] = {
    "crelu": crelu,
    "relu of both": lambda x: torch.cat([x, -x], 1).relu(),
    "stacked": lambda x: torch.stack([x.relu(), -(-x).relu()], -1),
    "signs": lambda x: torch.cat([x[:, :1].abs(), -x[:, 1:].flip(1)], 1),
    "its own parts": lambda x: x.relu() - (-x).relu(),
    "reflected": lambda x: x - 2 * x.relu(),
    "leaky parts": lambda x: torch.cat([0.6 * leaky(x, 0.0), 0.8 * x.relu(), (-x).relu()], 1),
}
OTHER: dict[str, tuple[Any, float]] = {
    "both of one side": (lambda x: torch.cat([x.relu(), x.relu()], 1), 2.0),
    "a side twice": (lambda x: torch.cat([crelu(x), (-x).relu()], 1), 2.0),
    "next to its source": (lambda x: torch.cat([crelu(x), x], 1), 2.0),
    "scaled": (lambda x: torch.cat([0.5 * x.relu(), 3 * (-x).relu()], 1), 9.0),
    "leaky": (lambda x: torch.cat([leaky(x, 0.5), leaky(-x, 0.25)], 1), 1.25),
    "steep": (lambda x: torch.cat([leaky(x, -2.0), x.abs()], 1), 5.0),
    "a part of it": (lambda x: crelu(x[:, 1:]), 1.0),
    "its first entries": (lambda x: crelu(x[:, :2]), 1.0),
    "shifted": (lambda x: torch.cat([x.relu(), (-x).relu().roll(1, 1)], 1), 1.0),
    "sums of one": (lambda x: torch.cat([x.relu() + x.abs(), x.relu()], 1), 5.0),
}
"""With the square of its constant, none of which keeps the norm but `shifted`."""
ALL = {**{name: (f, 1.0) for name, f in KEPT.items()}, **OTHER}


@pytest.mark.parametrize("name", ALL)
def test_the_constant_is_that_of_the_steepest_orthant(name: str) -> None:
    function, square = ALL[name]
    graph = capture(Function(function), (3,))
    upper = derive(graph).upper
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    norms = [float(torch.linalg.matrix_norm(jacobian(graph, x), 2)) for x in signs]
    at_ties = float(torch.linalg.matrix_norm(jacobian(graph, torch.zeros(3)), 2))
    assert max(*norms, at_ties) <= upper * (1 + 1e-12)
    assert math.sqrt(square) * (1 - 1e-7) <= max(norms)
    assert upper <= math.sqrt(square) * (1 + 1e-7)
    chain, output = parsed(graph)
    found = max(rays.squares(chain.graph, "x", output))
    assert float(found) == pytest.approx(square, rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_norm_is_kept_where_all_speeds_are_1(name: str) -> None:
    function, _ = ALL[name]
    expected = "proved" if name in KEPT or name == "shifted" else "refuted"
    judgement = judged("norm-preserving", Function(function), 3)
    if name == "leaky parts":  # 0.6² + 0.8² in float64
        assert judgement.outcome == "unknown"
        return
    assert judgement.outcome == expected
    assert judgement.upper == 0 or expected == "refuted"


def test_layers_and_networks_from_a_module_to_the_checker(tmp_path: Path) -> None:
    from deel import torchlip

    claims = ("lipschitz<=1", "norm-preserving", "mass-preserving")
    expected = ["proved", "proved", "refuted"]
    assert checked(tmp_path, torchlip.MaxMin(), (3,), *claims) == expected
    assert checked(tmp_path, Function(KEPT["relu of both"]), (2, 3, 3), *claims) == expected
    torch.manual_seed(0)
    net = nn.Sequential(
        torchlip.SpectralLinear(4, 5), torchlip.MaxMin(), torchlip.SpectralLinear(10, 6),
        Function(KEPT["relu of both"]), torchlip.SpectralLinear(12, 3),
    )  # fmt: skip
    outcomes = checked(tmp_path, net, (4,), "lipschitz<=1.00001", "lipschitz<=0.01")
    assert outcomes == ["proved", "refuted"]
    turn = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4, bias=False))
    turned = nn.Sequential(turn, Function(crelu), nn.Flatten(), Function(KEPT["signs"]))
    assert checked(tmp_path, turned, (4,), "norm-preserving") == ["proved"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([x.relu(), (1 - x).relu()], 1),
        lambda x: torch.cat([x.tanh(), (-x).relu()], 1),
        lambda x: torch.cat([x.relu(), (x.flip(1) - x).relu()], 1),
        lambda x: torch.cat([x.relu(), (-x).relu()], 1) * torch.tensor([1.0] * 3 + [2.0] * 3),
    ],
)
def test_other_forms_are_not_taken_for_it(function: Any) -> None:
    graph = capture(Function(function), (3,))
    x = torch.tensor([0.5, -2.0, 0.25])
    least = float(torch.linalg.matrix_norm(jacobian(graph, x), 2))
    assert least <= derive(graph).upper * (1 + 1e-12)
    chain, output = parsed(graph)
    with pytest.raises(Wrong, match="single entries"):
        rays.squares(chain.graph, "x", output)


def test_lines_of_the_checker() -> None:
    graph = Lines(2).add("m", "combine", "x", coefficients=["-2"])
    graph.add("p", "activation", "x", **RELU).add("q", "activation", "m", **RELU)
    graph.add("y", "concat", "p", "q", shape=(4,), dim=0)
    graph.add("z", "gather", "y", shape=(3,), index=[0, 2, -1])
    graph.add("b", "combine", "p", coefficients=["1"], bias=[1.0, 1.0])
    assert graph.line("x", "y", "two slopes").upper == 2
    assert rays.squares(graph.nodes, "x", "z") == [1, 0, 4, 0]
    assert graph.line("y", "z", "two slopes").values == {"square": Fraction(1)}
    with pytest.raises(Wrong, match="single entries"):
        graph.line("x", "b", "two slopes")
    with pytest.raises(Wrong, match="single entries"):
        graph.line("p", "y", "two slopes")
