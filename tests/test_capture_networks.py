"""Whole networks: ours, torchvision's, and steps whose form must be recognisable."""

from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from dsnn.data.vision import torchvision
from dsnn.fields import GradientField, ResidualField
from dsnn.integrators import Alternation, Euler, FixedEuler
from dsnn.models import build
from dsnn.models.cifar import ARCHITECTURES
from dsnn.operators import Convolution, Dense
from verification.capture import capture, input_shapes
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.witness import replay, search


def agree(graph: Graph, module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        ours, theirs = Interpreter(graph)(x.double()), module.eval()(x)
    torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "signed"), [*((arch, True) for arch in ARCHITECTURES), ("switch-flexible", False)]
)
def test_cifar_networks(arch: str, signed: bool):
    net = build(arch, channels=(4, 6, 8), signed_steps=signed)
    graph = capture(net, (3, 32, 32))
    assert {"unknown", "gather", "quotient"}.isdisjoint(node.kind for node in graph)
    agree(graph, net, torch.randn(2, 3, 32, 32))
    shapes = input_shapes(net, (3, 32, 32))
    assert shapes["stages.1.flow"] == (6, 16, 16)
    flow = capture(net.get_submodule("stages.1.flow"), (6, 16, 16))
    modules = {node.module for node in graph if node.module.startswith("stages.1.flow.")}
    assert len(flow.nodes) - 1 == sum(node.module in modules for node in graph)


@pytest.mark.parametrize("circular", [False, True])
def test_a_contractive_step_shows_its_weight_and_its_step(circular: bool):
    step = Euler(GradientField(Convolution(2, 3, circular=circular), 3, slope=0.5), 0.3)
    graph = capture(step, (2, 6, 6))
    _, conv, activation, adjoint, combine = graph
    kinds = [node.kind for node in graph]
    assert kinds == ["input", "conv", "activation", "adjoint", "combine"]
    assert (conv.inputs, activation.inputs) == (("x",), (conv.name,))
    assert adjoint.inputs == (activation.name,)
    assert dict(zip(combine.inputs, combine.attributes["coefficients"], strict=True)) == {
        "x": 1, adjoint.name: 1}  # fmt: skip
    weight, scaled = conv.constants["weight"], adjoint.constants["weight"]
    assert (weight.name, weight.factor) == ("field.operator.weight", 1)
    assert (scaled.name, scaled.factor) == (weight.name, -Fraction(step.u.item()))
    assert torch.equal(scaled.value, weight.value)
    shared = ("stride", "padding", "dilation", "groups", "circular")
    assert all(conv.attributes[key] == adjoint.attributes[key] for key in shared)
    assert conv.attributes["circular"] == circular


def test_a_dense_step_shows_the_transpose():
    graph = capture(Euler(GradientField(Dense(4, 7), 7), 0.3), (4,))
    first, second = (node.constants["weight"] for node in graph if node.kind == "linear")
    assert torch.equal(first.value, second.value.T)
    assert first.name == second.name == "field.operator.weight"
    assert second.factor == -Fraction(torch.tensor(0.3).item())


def test_step_sizes_are_exact_fractions():
    fields = ResidualField(Dense(4, 4), 4), GradientField(Dense(4, 4), 4)
    step = Alternation(*fields, (0.14, 0.3), substeps=3)
    with torch.no_grad():
        step.rescaling.fill_(0.7)
    graph = capture(step, (4,))
    h, r = Fraction(step.u[0].item()), Fraction(step.rescaling.item())
    coefficients = [c for n in graph if n.kind == "combine" for c in n.attributes["coefficients"]]
    assert coefficients.count(h / 3 * r) == 3


def test_a_step_outside_the_kernel_is_one_combination():
    step = FixedEuler(GradientField(Convolution(2, 2), 2), 0.5)
    last = capture(step, (2, 4, 4)).nodes[-1]
    assert last.kind == "combine"
    assert last.attributes["coefficients"] == [1, Fraction(-1, 2)]


def test_parametrised_weights_are_read_as_executed():
    layer = nn.Linear(5, 5)
    parametrizations.orthogonal(layer).eval()
    graph = capture(layer, (5,))
    weight = graph.nodes[1].constants["weight"]
    assert (weight.name, weight.factor) == ("", 1)
    assert torch.equal(weight.value, layer.weight.detach())
    assert graph.nodes[1].constants["bias"].name == "bias"


def test_resnet18_of_torchvision():
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for statistic, low in ((module.running_mean, -1.0), (module.running_var, 0.5)):
                assert statistic is not None
                statistic.uniform_(low, 2)
    graph = capture(net, (3, 64, 64))
    kinds = [node.kind for node in graph]
    assert (kinds.count("conv"), kinds.count("scale"), kinds.count("combine")) == (20, 20, 8)
    assert "unknown" not in kinds
    agree(graph, net, torch.randn(2, 3, 64, 64))
    names = {c.name for node in graph for c in node.constants.values()}
    assert {
        f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)
    } <= names


def test_a_witness_is_searched_and_replayed_on_a_graph():
    block = torchvision.models.resnet.BasicBlock(4, 4)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1), block, nn.AdaptiveAvgPool2d(3)
    )
    interpreter = Interpreter(capture(module, (3, 9, 9)))
    witness = search(interpreter, (3, 9, 9), budget_seconds=2.0)
    assert witness is not None
    ratio = replay(interpreter, witness.x, witness.y)
    assert ratio == witness.ratio > 0
    x, y = witness.x.double()[None], witness.y.double()[None]
    plain = (interpreter(x) - interpreter(y)).norm() / (x - y).norm()
    assert ratio <= plain
    assert ratio > 0.999 * plain


class DoubledInNumpy(nn.Module):
    """What torch.export refuses: weights that leave torch on their way."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.from_numpy(self.weight.detach().numpy() * 2).T


def test_where_export_refuses_fx_traces():
    module = DoubledInNumpy()
    with pytest.raises(RuntimeError, match="numpy"):
        torch.export.export(module, (torch.zeros(1, 4),), strict=False)
    weight = capture(module, (4,)).nodes[1].constants["weight"]
    assert torch.equal(weight.value, 2 * module.weight.detach())
