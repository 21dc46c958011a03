"""Claims about architectures: the constructed networks are admissible and really stretch, and one
network never proves anything about all."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from dsnn.errors import UserError
from dsnn.integrators import FlexiblePair
from dsnn.models import ARCHITECTURES, CifarNet
from dsnn.training.projection import project
from verification import architectures, witness
from verification.auditor import Audit
from verification.certificate import certify
from verification.claims import parse
from verification.parts import Live
from verification.targets import resolve

SMALL = "channels=4,4,5"
NAMES = ("stages.0.flow.0", "stages.1.flow", "stages.2", "stages.2.lift", "")


@dataclass(frozen=True)
class Verdict:
    """As the audit has it."""

    module: str
    outcome: str
    lower: float = 0.0
    upper: float = 0.5
    evidence: dict[str, Any] = field(default_factory=dict)
    constant: object = None


@pytest.mark.parametrize(("signed", "limit"), [("true", 1.0), ("false", 1.0), ("true", 50.0)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_constructed_network_is_admissible_and_refutes(name: str, signed: str, limit: float):
    net = architectures.parse(f"{name}?signed_steps={signed}&{SMALL}").worst(limit)
    assert isinstance(net, CifarNet)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    parts = Live(net, (3, 32, 32), architectures.bright)
    for part in NAMES:
        starts = parts.starts(part)
        assert starts is not None
        x, module = starts[:2].double(), copy.deepcopy(net.get_submodule(part)).double()
        with torch.no_grad():
            moved = (module(1.01 * x) - module(x)).flatten(1).norm(dim=1)
        assert float(moved.max() / (0.01 * x[0]).norm()) > limit * 1.01, part
    pair = witness.search(
        net.stages[2].flow[1], (5, 8, 8), target=limit, starts=architectures.bright((5, 8, 8)),
        budget_seconds=0.1,
    )  # fmt: skip
    assert pair is not None
    assert pair.ratio > limit
    project(net)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} is not admissible"


def test_the_museum_entry_needs_no_more_than_an_orthogonal_kernel():
    """u = -1.9 executed as +1.9, and the identity at the centre tap."""
    net = architectures.parse(f"switch-flexible?signed_steps=false&{SMALL}").worst(1.0)
    assert isinstance(net, CifarNet)
    pair = net.stages[0].flow[0]
    assert isinstance(pair, FlexiblePair)
    assert pair.u[1].item() == pytest.approx(-1.9)
    kernel = pair.contractive.operator.weight
    assert torch.equal(kernel[:, :, 1, 1], torch.eye(4))
    assert kernel.count_nonzero() == 4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_network_proves_nothing_about_all(name: str):
    architecture = architectures.parse(f"{name}?{SMALL}")
    net = architecture.worst(1.0)
    for part in ("stages.0.flow", "stages.0.flow.0", "stages.1.lift", "stages.2", ""):
        claim = parse("**:lipschitz<=1")
        found = architecture.over_all(Verdict(part, "proved"), claim, net)
        assert found.outcome == "unknown", part
        assert found.upper == float("inf")
        equality = architecture.over_all(Verdict(part, "proved"), parse("symplectic"), net)
        assert equality.outcome == "unknown", part


def test_what_holds_for_all_parameters_is_proved():
    architecture = architectures.parse(f"non-expansive?{SMALL}")
    net = architecture.worst(1.0)
    pool = architecture.over_all(Verdict("stages.0.pool", "proved"), parse("lipschitz<=1"), net)
    assert pool.outcome == "proved"
    head = architecture.over_all(Verdict("head", "unknown"), parse("head:lipschitz<=1"), net)
    assert (head.outcome, head.upper) == ("proved", 1.0)
    assert "projection" in head.evidence["text"]
    tighter = architecture.over_all(Verdict("head", "proved"), parse("head:lipschitz<=0.9"), net)
    assert tighter.outcome == "unknown"
    free = architectures.parse(f"naive?{SMALL}")
    head = free.over_all(Verdict("head", "proved"), parse("lipschitz<=1"), free.worst(1.0))
    assert head.outcome == "unknown"


def test_a_refutation_stands_for_the_architecture():
    architecture = architectures.parse(f"naive?{SMALL}")
    given = Verdict("", "refuted", 3.0, 9.0, {"text": "two inputs", "file": "w"})
    found = architecture.over_all(given, parse("lipschitz<=1"), architecture.worst(1.0))
    assert (found.outcome, found.lower, found.upper) == ("refuted", 3.0, math.inf)
    assert found.evidence["text"].startswith("by a constructed admissible network: two inputs")
    assert found.evidence["file"] == "w"
    architecture = architectures.parse(f"non-expansive?{SMALL}")
    for part, upper in (("head", 1.0), ("stages.0.pool", 9.0), ("stages.0.flow", math.inf)):
        given = Verdict(part, "refuted", 0.9, 9.0)
        found = architecture.over_all(given, parse("**:lipschitz<=0.5"), architecture.worst(1.0))
        assert found.upper == upper, part


def test_a_certificate_holds_no_theorem_about_an_architecture(tmp_path: Path):
    """It derives what one network has, which proves nothing of the others."""
    claims = [parse(f"head:lipschitz<={limit}") for limit in (1, 0.5)]
    audit = Audit(resolve(f"arch:non-expansive?{SMALL}", claims), budget=2.0)
    report = audit.run(claims)
    assert [verdict.outcome for verdict in report.verdicts] == ["proved", "refuted"]
    (left,) = certify(tmp_path / "c.json", audit, report)
    assert left == "head:lipschitz<=1 of head: there is no derivation of it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet", "one of unconstrained"),
        ("naive?signed_steps=no", "expected true or false"),
        ("naive?signed_steps", "OPTION=VALUE"),
        ("naive?depth=3", "the options are"),
        ("naive?signed_steps=true&signed_steps=false", "once each"),
        ("naive?channels=1,2,3", "three numbers from 3"),
        ("naive?channels=4,4,-4", "three numbers from 3"),
        ("naive?channels=4,4,99999999999", "three numbers from 3"),
    ],
)
def test_what_is_no_architecture(text: str, expected: str):
    with pytest.raises(UserError, match=expected):
        architectures.parse(text)
