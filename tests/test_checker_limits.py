"""Certificates at the ends of what can be written: JSON too deep, values of no dimension, none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checker_forged_verdicts import claim, graph, identity, node, prove, root, signed
from torch import Tensor, nn

from verification.auditor import Audit
from verification.certificate import certify
from verification.checker import kinds, replay, verdicts
from verification.checker.__main__ import run
from verification.checker.chain import Line
from verification.checker.reading import Wrong
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
    ("text", "shape"),
    [("orthogonal", (3,)), ("norm-preserving", (3,)), ("orthogonal", ()),
     ("norm-preserving", ()), ("mass-preserving", ()), ("volume-preserving", ())],
)  # fmt: skip
def test_values_without_dimensions(text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    target = Target("t", Live(Squashed().eval(), shape))
    audit = Audit(target, budget=2.0, folder=tmp_path, stem="w")
    report = audit.run([parse(text)])
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


def test_a_point_of_many_entries_takes_no_memory(tmp_path: Path) -> None:
    """64 MB of bytes were to become as many balls, 7 GB of them."""
    of = graph([node("x", "input", [], [2**26])])
    entry = claim("mass-preserving", of, "refuted", bound=[1, None],
                  witness={"x": "witness/0", "y": None})  # fmt: skip
    tensors = {"weights/A": np.ones(1, np.float32), "witness/0": np.zeros(2**26, np.int8)}
    path = signed(tmp_path, [(of, [])], [entry | {"limit": "1/100000"}], tensors)
    with pytest.raises(Wrong, match="too many"):
        verdicts.check(verdicts.read(path))
    with pytest.raises(Wrong, match="too many"):
        kinds.fractions(np.zeros(2**23))


# What may be no number. ----------------------------------------------------------------------

ZERO = {"weights/A": np.zeros(2)}
INPUT = node("x", "input", [], [2])
NONE = node("n", "quotient", ["x", "x"], [2])


def _sum(source: str, *coefficients: str) -> dict[str, Any]:
    inputs = ["x", *[source] * (len(coefficients) - 1)]
    return node("y", "combine", inputs, [2], {"coefficients": [*coefficients]})


@pytest.mark.parametrize(
    "nodes",
    [
        [INPUT, NONE, _sum("n", "1", "0")],
        [INPUT, NONE, _sum("n", "1", "1", "-1")],
        [INPUT, NONE, node("z", "scale", ["n"], [2], weight="weights/A"), _sum("z", "1", "1")],
        [INPUT, node("n", "normalise", ["x"], [2], {"dims": [0], "epsilon": "0"}),
         _sum("n", "1", "0")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["mass-preserving", "volume-preserving", "equivariant:shift"])
def test_equalities_of_what_may_be_no_number(name: str, nodes: list[Any]) -> None:
    assert isinstance(prove(name, nodes, ZERO), str)


def test_constants_that_are_no_numbers_are_no_constants() -> None:
    """x + 0/0, and (x, 0/0), were taken for translations of x."""
    constant = node("c", "constant", [], [2], value="weights/A")
    none = node("n", "quotient", ["c", "c"], [2])
    joined = node("y", "concat", ["x", "n"], [4], {"dim": 0})
    for law, end in (("sum", _sum("n", "1", "1")), ("together", joined)):
        chain = root(graph([INPUT, constant, none, end]), ZERO).chain
        chain.lines["x", "x"] = Line("identity", 1.0, {})
        with pytest.raises(Wrong):
            chain.derive("x", "y", law, [("x", "x")], {}, "it")
        with pytest.raises(Wrong, match="no number"):
            chain.derive("x", "n", "constant", [], {}, "it")


def test_the_logarithm_of_an_empty_sum_is_no_number(tmp_path: Path) -> None:
    """x + 0 log 0 was proved to keep the sum."""
    nodes = [
        INPUT,
        node("e", "gather", ["x"], [0], index="folded/e"),
        node("l", "logsumexp", ["e"], [1], {"dims": [0]}),
        node("n", "gather", ["l"], [2], index="folded/n"),
        _sum("n", "1", "0"),
    ]
    indices = {"folded/e": np.zeros(0, np.int64), "folded/n": np.zeros(2, np.int64)}
    of = graph(nodes)
    entry = claim("mass-preserving", of, "proved", bound=[0, 0.0], theorem="T14")
    path = signed(tmp_path, [(of, [])], [entry], ZERO | indices)
    assert run(str(path)) == 1
