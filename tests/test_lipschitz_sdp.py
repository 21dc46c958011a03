"""LipSDP: never below the exact constant, and nothing that the proof does not hold for."""

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from property_modules import Buffered
from random_modules import Push, Step
from torch import nn

from benchmarks.tightness import over_patterns
from verification import sdp, witness
from verification.auditor import Audit
from verification.capture import capture
from verification.certificate import certify
from verification.checker import reading
from verification.checker.__main__ import run
from verification.claims import parse
from verification.lipschitz import derive
from verification.parts import Live
from verification.targets import Target


def network(sizes: list[int], activation: nn.Module, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        layers += [nn.Linear(n, m).double(), activation]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("seed", range(4))
def test_it_lies_between_the_exact_constant_and_the_product(seed: int):
    """One hidden layer with independent rows: every pattern of slopes occurs."""
    module = network([7, 6, 4], nn.LeakyReLU(0.25), seed)
    a, b = (m.weight.detach() for m in module if isinstance(m, nn.Linear))
    graph = capture(module, (7,))
    product, true = derive(graph).upper, over_patterns(b, a, (0.25, 1.0), 0)
    found = sdp.bound(graph, product)
    assert found is not None
    assert true * (1 - 1e-13) <= found.upper < product
    assert found.upper <= 1.2 * true


@pytest.mark.parametrize("h", [0.3, 0.9, -0.5])
def test_it_is_not_below_a_theorem_that_is_sharp(h: float):
    torch.manual_seed(3)
    inner = nn.Linear(6, 6).double()
    graph = capture(Step(inner, -h, nn.LeakyReLU(0.25), False), (6,))
    a = inner.weight.detach()
    found = sdp.bound(graph, 10.0)
    assert found is not None
    assert found.upper >= over_patterns(-h * a.T, a, (0.25, 1.0), 1) * (1 - 1e-13)


MODULES = {
    "push": lambda: Push(nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)), 0.5, 1.5),
    "three layers": lambda: network([5, 6, 5, 3], nn.ReLU(), 0).float(),
    "slopes below 0": lambda: network([5, 6, 5, 3], nn.LeakyReLU(-1.5), 0).float(),
}


@pytest.mark.parametrize("name", MODULES)
def test_no_witness_is_above_it(name: str):
    torch.manual_seed(5)
    module = MODULES[name]()
    graph = capture(module, (5,))
    known = derive(graph).upper
    found = sdp.bound(graph, known)
    assert found is not None
    pair = witness.search(module, (5,), graph=graph, budget_seconds=0.3, seed=1)
    assert pair is not None
    assert pair.ratio <= found.upper < known


def test_a_small_convolution_is_one_too():
    torch.manual_seed(6)
    module = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv1d(2, 1, 3, padding=1))
    graph = capture(module, (1, 8))
    known = derive(graph).upper
    found = sdp.bound(graph, known)
    pair = witness.search(module, (1, 8), graph=graph, budget_seconds=0.3, seed=1)
    assert found is not None
    assert pair is not None
    assert pair.ratio <= found.upper < known


def test_wrong_multipliers_prove_nothing():
    graph = capture(network([7, 6, 4], nn.ReLU(), 0), (7,))
    known = derive(graph).upper
    given = sdp.problem(graph)
    assert given is not None
    answer = sdp.solved(given, known, 20.0)
    assert answer is not None
    square, weights = answer
    assert sdp.verified(given, square, weights) is not None
    negative = weights.copy()
    negative[0] = -1e-6
    steeper = replace(given, high=np.full(6, 1.01))
    for problem, value, multipliers in (
        (given, square, negative),
        (given, square, np.zeros(6)),
        (given, square, weights * 0.9),
        (given, square * 0.97, weights),
        (given, square, np.append(weights[:-1], np.nan)),
        (given, square, weights[:-1]),
        (steeper, square, weights),
    ):
        assert sdp.verified(problem, value, multipliers) is None


def test_an_answer_for_other_slopes_is_refused(monkeypatch: pytest.MonkeyPatch):
    """The planted error: the solver is told slopes in [1/4, 1/2] of a unit with [0, 1]."""
    module = network([7, 6, 4], nn.ReLU(), 0)
    graph, solve = capture(module, (7,)), sdp.solved

    def told(given: sdp.Problem, scale: float, seconds: float) -> tuple[float, np.ndarray] | None:
        return solve(replace(given, low=given.low + 0.25, high=given.high / 2), scale, seconds)

    assert sdp.bound(graph, derive(graph).upper) is not None
    monkeypatch.setattr(sdp, "solved", told)
    assert sdp.bound(graph, derive(graph).upper) is None


def test_what_is_too_large_or_no_chain_of_activations_has_no_bound():
    for module, shape in (
        (network([10, 60, 40, 2], nn.ReLU(), 0), (10,)),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 4)), (4,)),
    ):
        assert sdp.problem(capture(module, shape)) is None


def test_an_affine_network_is_its_matrix(tmp_path: Path):
    """Where the sum of the parts says far more: a reflection, parts that cancel, two layers."""
    v = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 1.0, -1.0])
    modules = (
        Buffered(lambda x, v: x - 2 * (x @ v)[..., None] * v / (v @ v), v),
        Buffered(lambda x: x - x.mean(-1, keepdim=True)),
        nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 3)),
    )
    for module in modules:
        x = torch.zeros(1, 7, dtype=torch.float64)
        matrix = torch.autograd.functional.jacobian(copy.deepcopy(module).double(), x)
        exact = float(torch.linalg.matrix_norm(matrix.reshape(-1, 7), 2))
        ran = audit(module)
        report = ran.run([parse(f"lipschitz<={exact + 1e-6!r}")])
        (verdict,) = report.verdicts
        assert verdict.outcome == "proved"
        assert exact - 1e-12 <= verdict.upper <= exact + 1e-9
        assert "LipSDP, verified" in str(verdict)
        path = tmp_path / "c.json"
        certify(path, ran, report)
        assert run(str(path)) == 0
        content = json.loads(path.read_text())
        ((key, entry),) = content["graphs"].items()
        line = entry["lines"][0]
        less = {**line, "values": {**line["values"], "square": line["values"]["square"] * 0.99}}
        assert changed_is_rejected(content, key, less, path)


def audit(module: nn.Module) -> Audit:
    return Audit(Target("m", Live(module, (7,))), budget=20.0)


def changed_is_rejected(content: Any, key: str, line: Any, path: Path) -> bool:
    graphs = {key: {**content["graphs"][key], "lines": [line]}}
    unsigned = {k: v for k, v in content.items() if k != "digest"} | {"graphs": graphs}
    path.write_text(json.dumps({**unsigned, "digest": reading.digest(unsigned)}))
    return run(str(path)) == 1


def test_an_audit_proves_with_it_and_the_certificate_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = network([7, 6, 4], nn.ReLU(), 0)
    graph = capture(module, (7,))
    known = derive(graph).upper
    found = sdp.bound(graph, known)
    assert found is not None
    claims = [parse(f"lipschitz<={(found.upper + known) / 2!r}")]
    ran = audit(module)
    report = ran.run(claims)
    (verdict,) = report.verdicts
    assert verdict.outcome == "proved"
    assert verdict.upper == found.upper
    assert "LipSDP, verified" in str(verdict)
    path = tmp_path / "c.json"
    certify(path, ran, report)
    content = json.loads(path.read_text())
    (claim,) = content["claims"]
    assert claim["theorem"] == "LipSDP, verified"
    assert found.upper <= claim["bound"][1] <= found.upper * (1 + 1e-6)
    assert run(str(path)) == 0
    ((graph_key, entry),) = content["graphs"].items()
    line = entry["lines"][0]
    for name in ("square", "t_0", "t_5", "slack"):
        for factor in (0.0, 0.9, 1.1) if name != "slack" else (-1.0, 0.0, 1e9):
            changed = {**line, "values": {**line["values"], name: line["values"][name] * factor}}
            assert changed_is_rejected(content, graph_key, changed, path)
    monkeypatch.setattr(sdp.importlib.util, "find_spec", lambda name: None)
    (verdict,) = audit(module).run(claims).verdicts
    assert (verdict.outcome, verdict.upper) == ("unknown", known)
