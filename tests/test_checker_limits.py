"""Certificates at the ends of what can be written: JSON too deep, values of no dimension, none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_checker_forged_verdicts import graph, identity, node, root
from torch import Tensor, nn

from verification.auditor import Audit
from verification.certificate import certify
from verification.checker import kinds, replay
from verification.checker.__main__ import run
from verification.claims import parse
from verification.parts import Live
from verification.targets import Target


def test_json_as_deep_as_can_be_read_ends_in_a_line(tmp_path: Path) -> None:
    """Some levels less than Python's JSON reads are already too many for it to write."""
    path = identity(tmp_path, "lipschitz<=1")
    text = path.read_text()
    found = set()
    for depth in range(900, 1001):
        deep = "[" * depth + "]" * depth
        path.write_text(text.replace('"environment": {}', f'"environment": {{"a": {deep}}}'))
        found.add(run(str(path)))
    assert found <= {1, 2}


class Squashed(nn.Module):
    """3 tanh of an input without dimensions, or of the sum of one with some."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x.flatten(1).sum(1) if x.ndim > 1 else x)


@pytest.mark.parametrize(
    ("claim", "shape"),
    [("orthogonal", (3,)), ("norm-preserving", (3,)), ("orthogonal", ()),
     ("norm-preserving", ()), ("mass-preserving", ()), ("volume-preserving", ())],
)  # fmt: skip
def test_values_without_dimensions(claim: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    target = Target("t", Live(Squashed().eval(), shape))
    audit = Audit(target, budget=2.0, folder=tmp_path, stem="w")
    report = audit.run([parse(claim)])
    assert [verdict.outcome for verdict in report.verdicts] == ["refuted"]
    assert certify(tmp_path / "a.json", audit, report) == []
    assert run(str(tmp_path / "a.json")) == 0


@pytest.mark.parametrize("name", ["norm", "normalise", "softmax"])
def test_sums_of_nothing(name: str) -> None:
    """NumPy's sum of no objects is the integer 0, which has no functions of its own."""
    about = {"norm": {"dims": [1]}, "normalise": {"dims": [0], "epsilon": "1"},
             "softmax": {"dim": 1}}  # fmt: skip
    shape = [2, 1] if name == "norm" else [2, 0]
    nodes = [node("x", "input", [], [2, 0]), node("y", name, ["x"], shape, about[name])]
    chain = root(graph(nodes), {}).chain
    found = replay.image(chain, "y", kinds.balls(np.zeros((1, 2, 0))))
    assert found.shape == (1, *shape)
    assert replay.length(found) == 0
