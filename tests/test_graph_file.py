"""Graphs as JSON and tensors: what is read is what was written, and nothing that is not a graph."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from verification import graph_file, witness
from verification.capture import capture
from verification.checker.reading import Unreadable, Wrong
from verification.graph import Graph
from verification.interpret import Interpreter


def graph(seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.PReLU(), nn.AvgPool2d(3, 2, 1),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 4), nn.LayerNorm(4), nn.Hardtanh(), nn.ELU(),
        nn.Softmax(-1),
    )  # fmt: skip
    return capture(net, (2, 4, 4))


GRAPH = graph()


def test_reading_undoes_writing():
    store = graph_file.Tensors()
    content = json.loads(json.dumps(graph_file.written(GRAPH, store)))
    found = graph_file.read(content, store.arrays)
    assert found.output == GRAPH.output
    for one, two in zip(GRAPH, found, strict=True):
        for field in ("name", "kind", "inputs", "shape", "module"):
            assert getattr(one, field) == getattr(two, field)
        assert {k: (c.factor, c.name, c.rounded) for k, c in one.constants.items()} == {
            k: (c.factor, c.name, c.rounded) for k, c in two.constants.items()
        }
    assert any(c.rounded for node in found for c in node.constants.values())
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(Interpreter(GRAPH)(x), Interpreter(found)(x))
    assert graph_file.digest(found) == graph_file.digest(GRAPH)
    assert graph_file.digest(graph(1)) != graph_file.digest(GRAPH)


def test_bfloat16_keeps_its_values():
    net = nn.Linear(3, 2).to(torch.bfloat16)
    store = graph_file.Tensors()
    found = graph_file.read(graph_file.written(capture(net, (3,)), store), store.arrays)
    weight = next(node for node in found if node.kind == "linear").constants["weight"].value
    assert torch.equal(weight, net.weight.detach().float())


def _first(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(node for node in content["nodes"] if node["kind"] == kind)


@pytest.mark.parametrize(
    "alter",
    [
        lambda c: c.update(output="nowhere"),
        lambda c: c["modules"].pop(),
        lambda c: c["rounded"].pop(),
        lambda c: c.update(more=1),
        lambda c: _first(c, "conv")["attributes"].update(groups=7),
        lambda c: _first(c, "conv")["attributes"].update(groups=0),
        lambda c: _first(c, "conv").update(shape=[3, 4, 5]),
        lambda c: _first(c, "conv").update(inputs=["later"]),
        lambda c: _first(c, "linear").update(kind="magic"),
        lambda c: _first(c, "linear")["constants"]["weight"].update(factor="1/0"),
        lambda c: _first(c, "linear")["constants"]["weight"].update(tensor="absent"),
        lambda c: _first(c, "window_sum")["attributes"]["windows"][0].append([0, 10**9]),
    ],
)
def test_what_is_no_graph(alter: Any):
    store = graph_file.Tensors()
    content = copy.deepcopy(graph_file.written(GRAPH, store))
    alter(content)
    with pytest.raises((Unreadable, Wrong)):
        graph_file.read(content, store.arrays)


def test_a_replay_on_the_graph_is_a_lower_bound():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    found = capture(net, (3,))
    x, y = torch.randn(2, 3, dtype=torch.float64)
    ratio = graph_file.replay(found, x, y)
    with torch.no_grad():
        measured = float((net(x) - net(y)).norm() / (x - y).norm())
    assert 0.999999 * measured < ratio <= measured * (1 + 1e-12)
    assert abs(ratio - witness.replay(net, x, y)) < 1e-9
    assert graph_file.replay(found, x, x) == 0.0
    isometry = nn.Linear(3, 3, bias=False)
    isometry.weight.data = torch.eye(3)
    assert graph_file.replay(capture(isometry, (3,)), x, y) <= 1.0
