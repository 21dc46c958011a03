"""Equalities in certificates: derived again by structure, or at a point, and never falsely."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structured_cases as cases
import torch
import torch.nn.functional as F
from property_modules import (
    ConvolutionGradient,
    Function,
    dense,
    explicit_euler,
    gradient,
    split_step,
)
from test_checker_altered import altered, at, meaningful, places, put
from test_checker_bounds import parsed
from torch import Tensor, nn

from dsnn.models import mass_network, norm_network, symplectic_network, volume_network
from verification.capture import capture
from verification.certificate import Finding, Subject, write
from verification.checker import kinds, proofs, reading, replay, verdicts
from verification.checker.__main__ import run
from verification.checker.reading import Unreadable, Wrong
from verification.claims import parse
from verification.properties import judge


def _sir(y: Tensor, loss: float = 1.0) -> Tensor:
    a, b = y[:, 0], y[:, 1]
    return y + 0.1 * torch.stack([-a * b, a * b - b, loss * b], 1)


class Gate(nn.Module):
    """Circular convolution, normalisation, and a gate from the means, which do not move."""

    def __init__(self, circular: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular" if circular else "zeros")
        self.norm, self.line = nn.GroupNorm(1, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return x + y * torch.sigmoid(self.line(y.mean((2, 3))))[:, :, None, None]


def _images(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    return split_step(x, a, b, dim=1)


def _nets() -> tuple[nn.Linear, nn.Linear]:
    return dense(2, 3), dense(2, 3)


Make = Callable[[], nn.Module]
CASES: dict[str, tuple[str, str, Make, tuple[int, ...]]] = {
    "mass network": (
        "mass-preserving", "T14", lambda: mass_network((3, 6, 3), 1, 8, "relu", "relu"), (3,)
    ),
    "SIR": ("mass-preserving", "T14", lambda: Function(_sir), (3,)),
    "leaking SIR": ("mass-preserving", "", lambda: Function(lambda y: _sir(y, 0.99)), (3,)),
    "volume network": ("volume-preserving", "T12", lambda: volume_network(5, 2), (5,)),
    "symplectic network": (
        "symplectic", "T13", lambda: symplectic_network(4, 2, 3), (4,)
    ),
    "symplectic images": (
        "symplectic[dim=0]", "T13",
        lambda: Function(_images, ConvolutionGradient(1, 2), ConvolutionGradient(1, 2)), (2, 4, 4),
    ),
    "explicit Euler": ("symplectic", "", lambda: Function(explicit_euler, *_nets()), (4,)),
    "its volume": ("volume-preserving", "", lambda: Function(explicit_euler, *_nets()), (4,)),
    "a gradient": (
        "gradient-field", "T2'", lambda: Function(gradient, dense(3, 5), torch.rand(5)), (3,)
    ),
    "D A' Sigma": (
        "gradient-field", "", lambda: Function(lambda x, a: x * gradient(x, a), dense(3, 5)), (3,)
    ),
    "orthogonal": (
        "orthogonal", "orthogonal",
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 6)), (6,),
    ),
    "its norm": (
        "norm-preserving", "T15",
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 6, bias=False)), (6,),
    ),
    "not orthogonal": ("orthogonal", "", lambda: nn.Linear(6, 6), (6,)),
    "not its norm": ("norm-preserving", "", lambda: nn.Linear(6, 6), (6,)),
    "a gate": ("equivariant:shift", "T16", lambda: Gate(True), (2, 5, 5)),
    "divided by constants": (
        "equivariant:shift", "T16",
        lambda: Function(lambda x, s: torch.tanh(x / s), torch.rand(2, 1, 1) + 0.5), (2, 5, 5),
    ),
    "a border": ("equivariant:shift", "", lambda: Gate(False), (2, 5, 5)),
}  # fmt: skip
"""Claim, theorem ("" where it is refuted), module, shape of its input."""


def finding(claim: str, make: Make, shape: tuple[int, ...]) -> tuple[Finding, nn.Module]:
    torch.manual_seed(1)
    module = cases.randomised(make()) if "network" in make.__code__.co_names else make()
    module.requires_grad_(False).eval()
    graph = capture(module, shape)
    judged = judge(parse(claim), graph, budget_seconds=2.0)
    point = None if judged.point is None else (judged.point, judged.directions)
    upper = math.inf if judged.upper is None else judged.upper
    return Finding(claim, "", judged.outcome, upper, graph, None, point), module


@pytest.mark.parametrize("name", CASES)
def test_a_verdict_on_an_equality_is_derived_again(name: str, tmp_path: Path) -> None:
    claim, theorem, make, shape = CASES[name]
    found, module = finding(claim, make, shape)
    assert write(tmp_path / "a.json", Subject(name, module.state_dict()), [found]) == []
    assert run(str(tmp_path / "a.json")) == 0
    (entry,) = json.loads((tmp_path / "a.json").read_text())["claims"]
    assert entry["verdict"] == ("proved" if theorem else "refuted")
    assert entry["theorem"] == (theorem or None)
    lower, upper = entry["bound"]
    assert lower <= (math.inf if upper is None else upper)
    assert (lower > 1e-5) == (not theorem)

    # The other side must not come to the other verdict, whatever was searched there.
    chain, output = parsed(found.graph)  # type: ignore[arg-type]
    about = verdicts.parse_claim(claim)
    assert about.equality is not None
    if not theorem:
        proof = proofs.prove(about.equality, chain.graph, output, about.dim)
        assert isinstance(proof, str) or proof[1] >= Fraction(lower)
        return
    draw = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 10.0):
        x = draw.normal(size=shape) * scale
        count = replay.DIRECTIONS.get(about.equality)
        along = None if count is None else draw.normal(size=(count, *shape))
        shown = replay.defect(chain, output, about.equality, about.dim, x, along)
        assert upper is not None
        assert shown <= upper


def test_a_near_miss_is_left_out_in_words(tmp_path: Path) -> None:
    """The reason was the proof of the checker, as Python writes it."""

    def make() -> nn.Module:
        return Function(lambda x: x * (1 + 5.1e-7))

    found, module = finding("symplectic~1e-6", make, (4,))
    assert found.verdict == "refuted"
    (left,) = write(tmp_path / "a.json", Subject("near", module.state_dict()), [found])
    assert "the audit refuted: [" in left
    assert "Fraction" not in left


def _tampered(graph: dict[str, reading.Node], draw: random.Random) -> dict[str, reading.Node]:
    """One entry of one constant, or one coefficient, off by a hundredth."""
    places: list[tuple[reading.Node, Any]] = []
    for node in graph.values():
        places += [(node, use) for use in node.constants if use != "index"]
        places += [(node, k) for k in range(len(node.attributes.get("coefficients", ())))]
    node, which = draw.choice(places)
    if isinstance(which, str):
        weight = node.constants[which]
        changed = weight.values.copy()
        k = draw.randrange(changed.size)
        changed.flat[k] = changed.flat[k] * 1.01 + 0.01
        new = replace(weight, key=f"{weight.key}, changed", values=changed)
        node = replace(node, constants={**node.constants, which: new})
    else:
        numbers = list(node.attributes["coefficients"])
        numbers[which] = str(Fraction(numbers[which]) + Fraction(1, 100))
        node = replace(node, attributes={**node.attributes, "coefficients": numbers})
    return {**graph, node.name: node}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1]])
def test_a_changed_number_breaks_a_proof_or_leaves_it_true(name: str) -> None:
    """What is proved of a changed graph must hold at random points of it."""
    claim, _, make, shape = CASES[name]
    found, _ = finding(claim, make, shape)
    chain, output = parsed(found.graph)  # type: ignore[arg-type]
    about, draw = verdicts.parse_claim(claim), random.Random(name)
    assert about.equality is not None
    broken = 0
    for k in range(6):
        graph = _tampered(chain.graph, draw)
        proof = proofs.prove(about.equality, graph, output, about.dim)
        upper = math.inf if isinstance(proof, str) else float(proof[1]) * (1 + 1e-15)
        broken += upper > 1e-5
        count = replay.DIRECTIONS.get(about.equality)
        point = np.random.default_rng(k)
        along = None if count is None else point.normal(size=(count, *shape))
        changed = type(chain)(graph, chain.spectra)
        shown = replay.defect(
            changed, output, about.equality, about.dim, point.normal(size=shape), along
        )
        assert shown <= upper
    assert broken or about.equality in ("volume-preserving", "equivariant:shift", "symplectic")


def test_what_has_no_proof_here_is_left_out_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sphere, module = finding("norm-preserving", lambda: norm_network(4, 1, 6), (4,))
    assert sphere.verdict == "proved"
    (said,) = write(tmp_path / "a.json", Subject("sphere", module.state_dict()), [sphere])
    assert "not affine" in said
    flat, _ = finding("mass-preserving", lambda: Function(_sir), (3,))
    write(tmp_path / "b.json", Subject("both", module.state_dict()), [sphere, flat])
    capsys.readouterr()
    assert run(str(tmp_path / "b.json")) == 3
    out = capsys.readouterr().out
    assert "norm-preserving" in out
    assert "1 of 2" in out


def rejected(path: Path, content: dict[str, Any]) -> bool:
    unsigned = {k: v for k, v in content.items() if k != "digest"}
    path.write_text(json.dumps({**unsigned, "digest": reading.digest(unsigned)}))
    try:
        verdicts.check(verdicts.read(path))
    except (Unreadable, Wrong):
        return True
    return False


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_changes_of_one_field_of_an_equality_are_rejected(tmp_path: Path, count: int) -> None:
    draw, accepted = random.Random(count), []
    names = ("SIR", "explicit Euler", "not orthogonal", "volume network", "a gradient")
    for name in names:
        claim, _, make, shape = CASES[name]
        found, module = finding(claim, make, shape)
        path = tmp_path / "a.json"
        assert write(path, Subject(name, module.state_dict()), [found]) == []
        content = json.loads(path.read_text())
        assert not rejected(path, content)
        everywhere = [p for p in places(content) if meaningful(p)]
        few = [p for p in everywhere if p[0] == "claims"]
        for k in range(count // len(names)):
            place = draw.choice(few if k % 2 else everywhere)
            value = altered(at(content, place), draw)
            if not rejected(path, put(content, place, value)):
                accepted.append(f"{name} {place}: {at(content, place)} -> {value}"[:300])
    assert not accepted, "\n".join(accepted)


def test_the_planted_law_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A symmetry test that looks at one entry only proves what a point refutes."""
    claim, _, make, shape = CASES["D A' Sigma"]
    found, _ = finding(claim, make, shape)
    chain, output = parsed(found.graph)  # type: ignore[arg-type]
    assert isinstance(proofs.prove("gradient-field", chain.graph, output, -1), str)
    explicit, _ = finding("symplectic", CASES["explicit Euler"][2], (4,))
    chain, output = parsed(explicit.graph)  # type: ignore[arg-type]
    honest = proofs.prove("symplectic", chain.graph, output, -1)
    monkeypatch.setattr(proofs, "size_of", lambda matrix: Fraction(0))
    planted = proofs.prove("symplectic", chain.graph, output, -1)
    assert planted == ("T13", 0)
    assert isinstance(honest, str) or honest[1] > Fraction(explicit.upper) / 10


class Other(nn.Module):
    """Nodes that float64 does not replay here."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.line = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.softmax(self.line(x), -1) * x + F.elu(self.norm(x))
        y = y / (1 + y.norm(dim=-1, keepdim=True)) + F.softsign(y) + F.mish(y)
        return (y[:, :, None] @ y[:, None, :]).flatten(1) / (2 + torch.sigmoid(y[:, :1]))


def test_witnesses_through_other_nodes_are_replayed_in_balls() -> None:
    torch.manual_seed(0)
    net = Other().eval().double().requires_grad_(False)
    chain, output = parsed(capture(net, (4,)))
    x = torch.randn(4, dtype=torch.float64)
    y = x + 0.01 * torch.randn(4, dtype=torch.float64)
    around = [replay.Value(v.numpy(), 0.0) for v in (x, y)]
    shown = replay.moved(chain, output, around[0], around[1])
    truth = float((net(x[None]) - net(y[None])).norm())
    assert truth * (1 - 1e-9) <= shown <= truth * (1 + 1e-12)
    wide = [replay.Value(v.array, 1e-7) for v in around]
    assert 0 < replay.moved(chain, output, wide[0], wide[1]) <= shown - 1e-7


def test_a_derivative_is_that_of_torch_and_none_is_taken_at_a_kink() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(0.1), nn.Linear(5, 3), nn.Tanh()).double()
    net.requires_grad_(False)
    chain, output = parsed(capture(net, (3,)))
    x = torch.randn(3, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda t: net(t[None])[0], x)
    with kinds.flint_context(128):
        found = replay.jacobian(chain, output, x.numpy())
        assert isinstance(expected, Tensor)
        for ball, number in zip(found.flat, expected.flatten().tolist(), strict=True):
            assert abs(float(ball.mid()) - number) <= 1e-13
    chain, output = parsed(capture(nn.ReLU(), (2,)))
    with pytest.raises(Wrong, match="kink"):
        replay.defect(chain, output, "volume-preserving", -1, np.array([0.0, 1.0]), None)
