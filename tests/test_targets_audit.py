"""Audits of factories and architectures from the command line to the verdicts."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from verification import graph_file, witness
from verification.capture import capture

FACTORY = """
import torch
from torch import nn

class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        nn.init.orthogonal_(self.inner.weight, gain=0.9)
        self.outer = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.outer.weight)
        self.outer.weight.data *= 3

    def forward(self, x):
        z = torch.relu(self.inner(x))
        return self.outer(x - z @ self.inner.weight)
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.py").write_text(FACTORY)


def test_a_factory(dsnn):
    claims = ["--claim", "lipschitz<=3.1", "--claim", "outer:lipschitz<=2.9"]
    code, _, error = dsnn(
        "audit", "steps:Step", "--input-shape", "4", *claims, "--json", "out.json"
    )
    assert (code, error) == (1, "")
    result = json.loads(Path("out.json").read_text())
    whole, outer = result["claims"]
    assert whole["verdict"] == "proved"
    assert "T8" in whole["evidence"]["text"]
    assert outer["verdict"] == "refuted"
    assert 2.9 < outer["bound"][0] <= 3 <= outer["bound"][1]
    assert result["isolation"][0] == "seccomp"
    found = witness.load(outer["evidence"]["file"])
    tripled = nn.Linear(4, 4, bias=False)
    tripled.weight.data = 3 * torch.eye(4)
    assert graph_file.replay(capture(tripled, (4,)), found.x, found.y) == outer["bound"][0]


def test_a_glob_that_matches_no_part_of_a_factory(refused):
    line = refused("audit", "steps:Step", "--input-shape", "4", "--claim", "*.flow:contractive")
    assert "no module matches" in line


def test_the_museum_entry_as_an_architecture(dsnn):
    """u = -1.9 executed as +1.9 with an orthogonal kernel refutes the claim for all networks of
    the kind; the pool, which has no parameters, is proved for all; one network proves nothing."""
    target = "arch:switch-flexible?signed_steps=false&channels=4,4,5"
    claims = ["stages.2.flow:lipschitz<=1", "stages.2.pool:lipschitz<=1", "head:lipschitz<=0.995"]
    options = [part for claim in claims for part in ("--claim", claim)]
    code, *_ = dsnn("audit", target, *options, "--json", "out.json", "--budget", "30")
    result = json.loads(Path("out.json").read_text())
    verdicts = [claim["verdict"] for claim in result["claims"]]
    assert (code, verdicts) == (1, ["refuted", "proved", "unknown"])
    text = result["claims"][0]["evidence"]["text"]
    assert "constructed admissible network" in text
    assert "|u| is executed: 1.9" in text
    assert result["claims"][0]["bound"][1] is None or result["claims"][0]["bound"][1] >= 2.2
    assert result["claims"][2]["bound"][1] is None


def test_an_equality_of_which_no_upper_end_is_known(dsnn):
    code, out, error = dsnn("audit", "steps:Step", "--input-shape", "4", "--claim", "orthogonal")
    assert (code, error) == (1, "")
    assert "REFUTED" in out
