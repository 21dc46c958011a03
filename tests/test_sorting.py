"""Sorted entries, from a layer to the checker: GroupSort, FullSort, MaxMin [Anil et al. 2019]."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from property_modules import Function
from random_modules import Sorted
from test_checker_bounds import parsed
from test_checker_lines import Graph as Lines
from torch import Tensor, nn

from verification.auditor import Audit
from verification.balls import Ball
from verification.balls_graph import Jet, NotEnclosed, advance, enclose
from verification.capture import capture
from verification.certificate import certify
from verification.checker import kinds, proofs, replay
from verification.checker.__main__ import run
from verification.checker.reading import Wrong
from verification.claims import parse
from verification.graph import Node
from verification.lipschitz import derive
from verification.parts import Live
from verification.targets import Target

CLAIMS = ("lipschitz<=1", "norm-preserving", "mass-preserving")


def checked(folder: Path, module: nn.Module, shape: tuple[int, ...], *claims: str) -> list[str]:
    """The outcomes of an audit, each derived again by the checker from the certificate."""
    audit = Audit(Target("t", Live(module.eval(), shape)), budget=2.0, folder=folder, stem="w")
    report = audit.run([parse(claim) for claim in claims])
    assert certify(folder / "a.json", audit, report) == []
    assert run(str(folder / "a.json")) == 0
    return [verdict.outcome for verdict in report.verdicts]


@pytest.mark.parametrize("group", [None, 2, 3])
def test_layers_of_deel_torchlip(group: int | None, tmp_path: Path) -> None:
    from deel import torchlip

    assert checked(tmp_path, torchlip.GroupSort(group), (6,), *CLAIMS) == ["proved"] * 3
    image = torchlip.GroupSort(group)
    outcomes = checked(tmp_path, image, (6, 3, 2), *CLAIMS, "equivariant:shift")
    assert outcomes == ["proved"] * 4


def test_a_network_of_deel_torchlip(tmp_path: Path) -> None:
    from deel import torchlip

    torch.manual_seed(0)
    net = torchlip.Sequential(
        torchlip.SpectralLinear(6, 12), torchlip.GroupSort(4), torchlip.SpectralLinear(12, 9),
        torchlip.FullSort(), torchlip.FrobeniusLinear(9, 4), torchlip.GroupSort2(),
    )  # fmt: skip
    claims = ("lipschitz<=1.00001", "lipschitz<=0.01")
    assert checked(tmp_path, net, (6,), *claims) == ["proved", "refuted"]


def test_pairs_of_orthogonium(tmp_path: Path) -> None:
    from orthogonium.layers import MaxMin

    assert checked(tmp_path, MaxMin(), (6,), "lipschitz<=1") == ["proved"]
    assert checked(tmp_path, MaxMin(), (4, 3, 2), "lipschitz<=1") == ["proved"]


def test_an_isometry_between_sorts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    turn = nn.utils.parametrizations.orthogonal(nn.Linear(6, 9, bias=False))
    net = nn.Sequential(Sorted(3), turn, Sorted(9, True), nn.Flatten())
    claims = ("norm-preserving", "lipschitz<=1.00001", "mass-preserving", "orthogonal")
    expected = ["proved", "proved", "refuted", "unknown"]
    assert checked(tmp_path, net, (6,), *claims) == expected


def jacobian(graph: Any, x: Tensor) -> Tensor:
    """One of those that a graph has at a point, with ties or without."""
    from verification.interpret import Interpreter

    run = Interpreter(graph)
    found = torch.autograd.functional.jacobian(lambda z: run(z[None])[0], x.double())
    assert isinstance(found, Tensor)
    return found.reshape(-1, x.numel())


MODULES: dict[str, tuple[nn.Module, float]] = {
    "sorted": (Sorted(6), 1.0),
    "groups": (Sorted(3, True), 1.0),
    "pairs": (Sorted(2), 1.0),
    "with its source": (Function(lambda x: torch.cat([x.sort(1)[0], x], 1)), math.sqrt(2)),
    "twice": (Function(lambda x: x.sort(1)[0] + x.sort(1, descending=True)[0]), 2.0),
    "an entry twice": (Function(lambda x: x.sort(1)[0][:, [0, 0, 3]]), math.sqrt(2)),
    "its ends": (Function(lambda x: torch.cat([x.sort(1)[0][:, :1], x.sort(1)[0][:, 5:]], 1)), 1.0),
    "an end and its source": (
        Function(lambda x: torch.cat([x.sort(1)[0][:, :1], x[:, 3:]], 1)), math.sqrt(2)),
    "one group and the other's source": (
        Function(lambda x: torch.cat([Sorted(3)(x)[:, :3], x[:, 3:]], 1)), 1.0),
    "largest of two": (Function(lambda x: x.reshape(-1, 3, 2).amax(2)), 1.0),
}  # fmt: skip
"""With the constant that is proved."""


@pytest.mark.parametrize("name", MODULES)
def test_no_jacobian_is_above_the_constant(name: str, tmp_path: Path) -> None:
    module, constant = MODULES[name]
    graph = capture(module, (6,))
    upper = derive(graph).upper
    assert constant <= upper <= constant * (1 + 1e-15)
    generator = torch.Generator().manual_seed(0)
    points = [*torch.randn(40, 6, generator=generator), torch.zeros(6), torch.ones(6)]
    points += [torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0, 1.0]), torch.arange(6.0).flip(0)]
    norms = [float(torch.linalg.matrix_norm(jacobian(graph, x), 2)) for x in points]
    assert max(norms) <= upper * (1 + 1e-12)
    outcome, _ = checked(tmp_path, module, (6,), f"lipschitz<={upper + 1e-9}", "lipschitz<=0.5")
    assert outcome == "proved"


# Its numbers. ------------------------------------------------------------------------------

SORT = Node("y", "sort", ("x",), (3,), {"dim": 0})


def test_a_ball_over_a_tie_gets_all_orders() -> None:
    mid = torch.tensor([[2.0, 1.0, 1.5]], dtype=torch.float64)
    unit = Ball(torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64))
    apart = advance(SORT, [Jet(Ball(mid, torch.full_like(mid, 0.1)), unit)])
    assert torch.equal(apart.along.mid.T, torch.eye(3, dtype=torch.float64)[[1, 2, 0]])
    assert float(apart.along.rad.max()) < 1e-12
    near = advance(SORT, [Jet(Ball(mid, torch.full_like(mid, 0.3)), unit)])
    assert float(near.value.low.min()) <= 0.7
    for row in (1, 2):  # the smallest may be either of two, the next any of the three
        assert float(near.along.high[row, 0]) >= 1
        assert float(near.along.low[row, 0]) <= 0
    assert bool((near.along.high[:, 1] >= 1).all())
    assert float(near.along.high[0, 0]) < 1e-12


def test_what_is_not_finite_has_no_place() -> None:
    mid = torch.tensor([[math.inf, 1.0, 2.0]], dtype=torch.float64)
    jet = Jet(Ball(mid, torch.full_like(mid, math.inf)), Ball(mid[:0], mid[:0]))
    with pytest.raises(NotEnclosed, match="finite"):
        advance(SORT, [jet])


def test_values_and_derivatives_of_the_checker() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), Sorted(3), nn.Linear(6, 2)).double().requires_grad_(False)
    graph = capture(net, (4,))
    chain, output = parsed(graph)
    x = torch.randn(4, dtype=torch.float64)
    with kinds.flint_context(128):
        found = replay.jacobian(chain, output, x.numpy())
        for ball, number in zip(found.flat, jacobian(graph, x).flatten().tolist(), strict=True):
            assert abs(float(ball.mid()) - number) <= 1e-13
        wide = kinds.objects([kinds.flint.arb(v, 0.25) for v in (2.0, 1.0, 1.25)], (1, 3))
        values = kinds.ordered(wide, 1)[0]
        bounds = ((0.75, 1.25), (1.0, 1.5), (1.75, 2.25))
        for ball, (low, high) in zip(values, bounds, strict=True):
            assert ball.contains(low)
            assert ball.contains(high)
            assert float(ball.rad()) < 0.26
        wide[0, 0] = kinds.flint.arb("nan")
        assert not any(ball.is_finite() for ball in kinds.ordered(wide, 1)[0])
    shown = enclose(graph, x).value
    moved = replay.evaluate(chain, output, replay.Value(x.numpy(), 0.0))
    assert bool(((torch.from_numpy(moved.array.copy()) - shown.mid[0]).abs() <= 1e-13).all())
    chain, output = parsed(capture(Sorted(2), (2,)))
    with pytest.raises(Wrong, match="kink"):
        replay.jacobian(chain, output, np.array([1.0, 1.0]))


# What must not be derived. -----------------------------------------------------------------


def test_lines_of_the_checker() -> None:
    graph = Lines(2, 3).add("y", "sort", "x", dim=1)
    graph.add("g", "gather", "y", shape=(2,), index=[0, 5]).add("z", "reshape", "x", shape=(6,))
    graph.add("one", "concat", "g", "z", shape=(8,), dim=0)
    graph.add("h", "gather", "y", shape=(3,), index=[0, 0, 4])
    graph.add("two", "concat", "h", "z", shape=(9,), dim=0)
    assert graph.line("x", "y", "sorted").upper == 1
    assert graph.line("x", "x", "identity").upper == 1
    for end, copies in (("one", 2), ("two", 3)):
        line = graph.line("x", end, "together", ("x", "x"))
        assert line.values == {"copies_0": copies, "square": 1}
    for law in ("slope", "softmax", "overlap"):
        with pytest.raises(Wrong, match="no such law"):
            graph.line("x", "y", law)
    with pytest.raises(Wrong, match="no such law"):
        graph.line("y", "g", "sorted")
    with pytest.raises(Wrong, match="dimension"):
        Lines(2, 3).add("y", "sort", "x", dim=2).line("x", "y", "sorted")


@pytest.mark.parametrize(
    ("claim", "function"),
    [
        ("norm-preserving", lambda x: torch.cat([x.sort(1)[0][:, :3], x[:, :3]], 1)),
        ("norm-preserving", lambda x: x.sort(1)[0] + x),
        ("norm-preserving", lambda x: x.sort(1)[0] + 1),
        ("norm-preserving", lambda x: (x + 1).sort(1)[0] - 1),
        ("mass-preserving", lambda x: torch.cat([x.sort(1)[0][:, :3], x[:, :3]], 1)),
        ("mass-preserving", lambda x: x + x.sort(1)[0] - x.flip(1).cos().sort(1)[0]),
        ("equivariant:shift", lambda x: x.sort(1)[0]),
    ],
)
def test_equalities_that_the_checker_does_not_prove(claim: str, function: Any) -> None:
    chain, output = parsed(capture(Function(function), (6,)))
    found = proofs.prove(claim, chain.graph, output, -1)
    assert isinstance(found, str) or found[1] > Fraction(1, 2)


def test_what_goes_around_a_sort_is_no_piece_of_a_chain() -> None:
    chain, output = parsed(capture(Function(lambda x: 0.6 * x.sort(1)[0] + 0.8 * x), (4,)))
    found = proofs.prove("norm-preserving", chain.graph, output, -1)
    assert found == "it is not affine: sort"
