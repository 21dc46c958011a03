"""The meaning of a graph, written out in ball arithmetic: what the interpreter computes is within
its rounding error of it."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
import torch
from flint import arb
from property_modules import Buffered
from test_capture_operators import ELEMENTWISE, LINEAR, MOVEMENT, POOLING, W
from torch import Tensor, nn

from verification.capture import capture
from verification.graph import Constant, Graph, Node
from verification.interpret import Interpreter
from verification.running_error import evaluate

Balls = np.ndarray
"""An array of balls."""


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    old, flint.ctx.prec = flint.ctx.prec, 160
    yield
    flint.ctx.prec = old


def ball(value: Fraction | float) -> arb:
    number = Fraction(value)
    return arb(flint.fmpq(number.numerator, number.denominator))


def balls(values: Tensor) -> Balls:
    return np.vectorize(ball, otypes=[object])(values.detach().double().numpy())


def stored(constant: Constant) -> Balls:
    return balls(constant.value) * ball(constant.factor)


def each(function: Callable[..., arb], *arrays: Balls) -> Balls:
    return np.vectorize(function, otypes=[object])(*arrays)


ZERO, ONE = arb(0), arb(1)


def larger(a: arb, b: arb) -> arb:
    return a.max(b)


def elu(x: arb, alpha: arb) -> arb:
    return larger(x, ZERO) + alpha * x.min(ZERO).expm1()


def gelu_tanh(x: arb) -> arb:
    inner = (2 / arb.pi()).sqrt() * (x + ball(0.044715) * x * x * x)
    return x / 2 * (1 + inner.tanh())


def sigmoid(x: arb) -> arb:
    return 1 / (1 + (-x).exp())


def softplus(x: arb) -> arb:
    return (1 + x.exp()).log()


SELU = (ball(1.0507009873554804934193349852946), ball(1.6732632423543772848170429916717))
FORMULAE: dict[str, Callable[..., arb]] = {
    "relu": lambda x: larger(x, ZERO),
    "leaky_relu": lambda x, negative_slope: larger(x, ZERO) + negative_slope * x.min(ZERO),
    "clamp": lambda x, low=None, high=None: (lambda y: y if high is None else y.min(high))(
        x if low is None else x.max(low)
    ),
    "elu": elu,
    "celu": lambda x, alpha: larger(x, ZERO) + alpha * (x.min(ZERO) / alpha).expm1(),
    "selu": lambda x: SELU[0] * elu(x, SELU[1]),
    "gelu": lambda x: x / 2 * (1 + (x / arb(2).sqrt()).erf()),
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * softplus(x).tanh(),
    "softplus": lambda x, beta: softplus(beta * x) / beta,
    "softsign": lambda x: x / (1 + abs(x)),
    "tanh": lambda x: x.tanh(),
    "sigmoid": sigmoid,
    "logsigmoid": lambda x: -softplus(-x),
    "hardsigmoid": lambda x: larger(x + 3, ZERO).min(arb(6)) / 6,
    "hardswish": lambda x: x * larger(x + 3, ZERO).min(arb(6)) / 6,
    "softshrink": lambda x, lambd: larger(x - lambd, ZERO) + (x + lambd).min(ZERO),
    "abs": lambda x: abs(x),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "atan": lambda x: x.atan(),
    "erf": lambda x: x.erf(),
}


def meaning(graph: Graph, x: Balls) -> Balls:
    """The output of a graph for one example."""
    values = {graph.input.name: x}
    for node in graph.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        value = KINDS[node.kind](node, inputs, {k: stored(c) for k, c in node.constants.items()})
        assert value.shape == node.shape, node
        values[node.name] = value
    return values[graph.output]


Constants = dict[str, Balls]


def positions(node: Node, extent: Any, out: Any, size: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(output, tap, input) of a convolution for all pairs that meet inside the input."""
    a = node.attributes
    for at in itertools.product(*map(range, out)):
        for tap in itertools.product(*map(range, size)):
            source = [
                i * s - pads[0] + k * d
                for i, s, pads, k, d in zip(
                    at, a["stride"], a["padding"], tap, a["dilation"], strict=True
                )
            ]
            if a["circular"]:
                source = [p % n for p, n in zip(source, extent, strict=True)]
            if all(0 <= p < n for p, n in zip(source, extent, strict=True)):
                yield at, tap, tuple(source)


def outputs(node: Node, extent: Any, size: Any) -> list[int]:
    a = node.attributes
    pads = zip(extent, a["padding"], a["dilation"], size, a["stride"], strict=True)
    return [(n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in pads]


def conv(node: Node, inputs: list[Balls], c: Constants, adjoint: bool = False) -> Balls:
    x, w, groups = inputs[0], c["weight"], node.attributes["groups"]
    extent = node.attributes["extent"] if adjoint else list(x.shape[1:])
    out = outputs(node, extent, w.shape[2:])
    y = np.full(node.shape, ZERO, dtype=object)
    rows, columns = w.shape[0] // groups, w.shape[1]
    for at, tap, source in positions(node, extent, out, w.shape[2:]):
        for g in range(groups):
            block = w[g * rows : (g + 1) * rows][(slice(None), slice(None), *tap)]
            high, low = slice(g * rows, (g + 1) * rows), slice(g * columns, (g + 1) * columns)
            if adjoint:
                y[(low, *source)] += block.T @ x[(high, *at)]
            else:
                y[(high, *at)] += block @ x[(low, *source)]
    if adjoint:
        assert tuple(out) == x.shape[1:]
    return y + c["bias"].reshape(-1, *[1] * len(out)) if "bias" in c else y


def linear(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    return inputs[0] @ c["weight"].T + c.get("bias", ZERO)


def gather(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    index = node.attributes["index"].numpy()
    entries = [*inputs[0].flatten(), ZERO]
    return each(lambda i: entries[i], index)


def combine(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    terms = zip(node.attributes["coefficients"], inputs, strict=True)
    return sum((ball(k) * x for k, x in terms), np.full(node.shape, ZERO) + c.get("bias", ZERO))


def windows(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    a, y = node.attributes, inputs[0]
    weights = a.get("weights") or [[Fraction(1)] * len(along) for along in a["windows"]]
    for dim, along, factors in zip(a["dims"], a["windows"], weights, strict=True):
        parts = [
            ball(f) * reduced(node.kind, y.take(range(*window), axis=dim), dim)
            for window, f in zip(along, factors, strict=True)
        ]
        y = np.stack(parts, dim)
    return y


def reduced(kind: str, x: Balls, dim: int) -> Balls:
    if kind == "window_sum":
        return x.sum(dim)
    first, *rest = np.moveaxis(x, dim, 0)
    for other in rest:
        first = each(larger, first, other)
    return first


def activation(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    name = node.attributes["function"]
    if name == "prelu":
        slopes = np.broadcast_to(c["slope"], node.shape)
        return each(lambda x, s: larger(x, ZERO) + s * x.min(ZERO), inputs[0], slopes)
    parameters = {k: ball(p) for k, p in node.attributes["parameters"].items()}
    return each(lambda x: FORMULAE[name](x, **parameters), inputs[0])


def sort(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    (x,), dim = inputs, node.attributes["dim"]
    lines = np.moveaxis(x.copy(), dim, -1)
    for place in np.ndindex(lines.shape[:-1]):
        lines[place] = sorted(lines[place], key=lambda ball: float(ball.mid()))
    return np.moveaxis(lines, -1, dim)


def softmax(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    powers = each(lambda x: x.exp(), inputs[0])
    return powers / powers.sum(node.attributes["dim"], keepdims=True)


def logarithm(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    at = node.attributes
    dims = tuple(at["dims"]) if "dims" in at else at["dim"]
    total = each(lambda x: x.exp(), inputs[0]).sum(dims, keepdims=True)
    logarithms = each(lambda x: x.log(), total)
    return logarithms if node.kind == "logsumexp" else inputs[0] - logarithms


def norm(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    squares = (inputs[0] * inputs[0]).sum(tuple(node.attributes["dims"]), keepdims=True)
    return each(lambda x: x.sqrt(), squares)


def normalise(node: Node, inputs: list[Balls], c: Constants) -> Balls:
    (x,), dims = inputs, tuple(node.attributes["dims"])
    count = math.prod(x.shape[d] for d in dims)
    x = x - x.sum(dims, keepdims=True) / count
    variance = (x * x).sum(dims, keepdims=True) / count
    return x / each(lambda v: (v + ball(node.attributes["epsilon"])).sqrt(), variance)


KINDS: dict[str, Callable[[Node, list[Balls], Constants], Balls]] = {
    "constant": lambda node, inputs, c: c["value"],
    "linear": linear,
    "conv": conv,
    "adjoint": lambda node, inputs, c: conv(node, inputs, c, adjoint=True),
    "scale": lambda node, inputs, c: inputs[0] * c["weight"] + c.get("bias", ZERO),
    "gather": gather,
    "reshape": lambda node, inputs, c: inputs[0].reshape(node.shape),
    "combine": combine,
    "concat": lambda node, inputs, c: np.concatenate(inputs, node.attributes["dim"]),
    "window_sum": windows,
    "window_max": windows,
    "activation": activation,
    "maximum": lambda node, inputs, c: each(larger, *inputs),
    "minimum": lambda node, inputs, c: each(lambda a, b: a.min(b), *inputs),
    "sort": sort,
    "softmax": softmax,
    "log_softmax": logarithm,
    "logsumexp": logarithm,
    "norm": norm,
    "normalise": normalise,
    "product": lambda node, inputs, c: inputs[0] * inputs[1],
    "quotient": lambda node, inputs, c: inputs[0] / inputs[1],
    "matmul": lambda node, inputs, c: inputs[0] @ inputs[1],
}

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    **LINEAR,
    **{f"{name} pooling": case for name, case in POOLING.items()},
    **ELEMENTWISE,
    **{f"{name} moved": (Buffered(f, W), shape) for name, (f, shape) in MOVEMENT.items()},
}


class Thirds(nn.Module):
    """Divides by 3 first, so that there is an error to carry."""

    def __init__(self, then: nn.Module):
        super().__init__()
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(x / 3)


def is_within(graph: Graph, interpreted: Graph, shape: tuple[int, ...]) -> bool:
    """Whether what the interpreter makes of `interpreted` is what `graph` means, up to the error
    that it admits, which is small."""
    x = 3 * torch.randn((2, *shape), generator=torch.Generator().manual_seed(2))
    result = evaluate(Interpreter(interpreted), x)
    within = []
    for example, value, error in zip(x, result.value, result.error, strict=True):
        off = (meaning(graph, balls(example)) - balls(value)).flatten()
        limit = ball(float(error))
        within.append(bool(sum((d * d for d in off), ZERO) <= limit * limit))
        assert float(error) <= 1e-11
    return all(within)


@pytest.mark.parametrize("name", CASES)
def test_the_interpreter_is_within_its_error_of_the_meaning(name: str):
    module, shape = CASES[name]
    graph = capture(Thirds(module).float(), shape)
    assert is_within(graph, graph, shape)


@pytest.mark.parametrize("name", ["linear", "conv2d", "average pooling", "selu", "softmax"])
def test_a_small_change_of_a_coefficient_is_seen(name: str):
    module, shape = CASES[name]
    graph = capture(Thirds(module).float(), shape)
    first, third, *others = graph.nodes
    assert third.kind == "combine"
    off = {"coefficients": [Fraction(1, 3) + Fraction(1, 2**38)]}
    changed = Graph((first, replace(third, attributes=off), *others), graph.output)
    assert not is_within(graph, changed, shape)
