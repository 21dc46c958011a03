"""Executes a graph: the module again, built from nothing but its nodes.

What torch has no single operation for is a function marked `watched`, which `running_error` sees
as one operation and has a rule for.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from verification.activations import FUNCTIONS
from verification.graph import Graph, Node

T = TypeVar("T", bound=Callable[..., Tensor])


def watched(function: T) -> T:
    """A function of a tensor, the first argument, that a TorchFunctionMode sees as one."""

    @wraps(function)
    def call(x: Tensor, *arguments: Any) -> Tensor:
        if has_torch_function((x,)):
            return handle_torch_function(call, (x,), x, *arguments)
        return function(x, *arguments)

    return call  # type: ignore[return-value]


@watched
def scaled(x: Tensor, factor: Fraction) -> Tensor:
    """factor * x, the factor rounded to float64."""
    return x * float(factor)


@watched
def gathered(x: Tensor, index: Tensor) -> Tensor:
    """The entries of each example of x (B, ...) at `index`, 0 where it is -1."""
    y = x.flatten(1).index_select(1, index.flatten().clamp_min(0))
    y = y.masked_fill(index.flatten() < 0, 0.0)
    return y.reshape(y.shape[0], *index.shape)


Windows = Sequence[Sequence[int]]


@watched
def window_sum(x: Tensor, dim: int, windows: Windows, weights: Sequence[Fraction]) -> Tensor:
    """The weighted sums over windows along `dim`."""
    rows = x.new_zeros(len(windows), x.shape[dim])
    for row, (start, stop), weight in zip(rows, windows, weights, strict=True):
        row[start:stop] = float(weight)
    return F.linear(x.transpose(dim, -1), rows).transpose(dim, -1)


@watched
def window_max(x: Tensor, dim: int, windows: Windows) -> Tensor:
    """The maxima over windows along `dim`."""
    parts = [x.narrow(dim, i, j - i).amax(dim, keepdim=True) for i, j in windows]
    return torch.cat(parts, dim)


@watched
def ordered(x: Tensor, dim: int) -> Tensor:
    """The entries along `dim`, from the smallest to the largest."""
    return x.sort(dim).values


@watched
def activated(x: Tensor, name: str, parameters: Mapping[str, Fraction]) -> Tensor:
    """An activation of `activations.FUNCTIONS`, entry by entry."""
    return FUNCTIONS[name](x, **parameters)


@watched
def normalised(x: Tensor, dims: list[int], epsilon: Fraction) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) over `dims`."""
    x = x - x.mean(dims, keepdim=True)
    return x / (x.square().mean(dims, keepdim=True) + float(epsilon)).sqrt()


class Interpreter(nn.Module):
    """x (B, *shape) -> the output of `graph` for each example, computed in `dtype`.

    The values of constants are buffers in float64, their factors are multiplied in when called.
    Raises ValueError on an unknown node.
    """

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        self.held: dict[tuple[str, str], str] = {}
        for position, node in enumerate(graph):
            if node.kind not in ("input", "constant", *RUN):
                operator = node.attributes.get("operator", node.kind)
                raise ValueError(f"nothing is known of the operator {operator}")
            for key, constant in node.constants.items():
                name = f"c{position}_{key}"
                self.register_buffer(name, constant.value.detach().to(torch.float64))
                self.held[node.name, key] = name

    def _constant(self, node: Node, key: str) -> Tensor:
        value, factor = getattr(self, self.held[node.name, key]), node.constants[key].factor
        return value if factor == 1 else scaled(value, factor)

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for node in self.graph:
            constants = {key: self._constant(node, key) for key in node.constants}
            inputs = [values[name] for name in node.inputs]
            if node.kind == "input":
                values[node.name] = x
            elif node.kind == "constant":
                values[node.name] = constants["value"].expand(x.shape[0], *node.shape)
            else:
                values[node.name] = RUN[node.kind](node, inputs, constants)
        return values[self.graph.output]


Run = Callable[[Node, list[Tensor], dict[str, Tensor]], Tensor]


def _linear(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return F.linear(inputs[0], constants["weight"], constants.get("bias"))


def _flat_pads(padding: Sequence[Sequence[int]]) -> list[int]:
    return [p for pads in reversed(padding) for p in pads]


def _images(node: Node, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The attributes, input and weight of a convolution in two dimensions, of which the first is
    trivial where there is but one."""
    a = dict(node.attributes)
    if len(a["stride"]) == 2:
        return x, weight, a
    a |= {"stride": [1, *a["stride"]], "dilation": [1, *a["dilation"]]}
    a |= {"padding": [[0, 0], *a["padding"]], "extent": [1, *a.get("extent", ())]}
    return x.unsqueeze(2), weight.unsqueeze(2), a


def _conv(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, weight, a = _images(node, inputs[0], constants["weight"])
    padding: Any = tuple(before for before, _ in a["padding"])
    if a["circular"] or any(before != after for before, after in a["padding"]):
        mode = "circular" if a["circular"] else "constant"
        x, padding = F.pad(x, _flat_pads(a["padding"]), mode=mode), 0
    stride, dilation = tuple(a["stride"]), tuple(a["dilation"])
    y = F.conv2d(x, weight, constants.get("bias"), stride, padding, dilation, a["groups"])
    return y if len(node.shape) == 3 else y.squeeze(2)


def _adjoint(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    """The transposed convolution onto the padded extent, of which the border is cut or, if it is
    circular, added to what it was copied from."""
    x, weight, a = _images(node, inputs[0], constants["weight"])
    plain = not a["circular"] and all(before == after for before, after in a["padding"])
    missing = [
        n + before + after - ((m - 1) * s + d * (k - 1) + 1)
        for n, (before, after), m, s, d, k in zip(
            a["extent"], a["padding"], x.shape[2:], a["stride"], a["dilation"], weight.shape[2:],
            strict=True,
        )
    ]  # fmt: skip
    cut = tuple(before if plain else 0 for before, _ in a["padding"])
    stride, dilation = tuple(a["stride"]), tuple(a["dilation"])
    bias = constants.get("bias")
    x = F.conv_transpose2d(
        x, weight, bias if plain else None, stride, cut, tuple(missing), a["groups"], dilation
    )
    if not plain:
        finish = _folded if a["circular"] else _narrowed
        for dim, (before, after) in enumerate(a["padding"], start=2):
            x = finish(x, dim, before, after)
        x = x if bias is None else x + bias.reshape(-1, 1, 1)
    return x if len(node.shape) == 3 else x.squeeze(2)


def _narrowed(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    return x.narrow(dim, before, x.shape[dim] - before - after)


def _folded(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """The adjoint of circular padding along one dimension; pads are at most the extent."""
    extent = x.shape[dim] - before - after
    core = x.narrow(dim, before, extent).clone()
    if before:
        core.narrow(dim, extent - before, before).add_(x.narrow(dim, 0, before))
    if after:
        core.narrow(dim, 0, after).add_(x.narrow(dim, extent + before, after))
    return core


def _scale(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    y = inputs[0] * constants["weight"]
    return y + constants["bias"] if "bias" in constants else y


def _gather(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return gathered(inputs[0], node.attributes["index"])


def _reshape(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return inputs[0].reshape(inputs[0].shape[0], *node.shape)


def _combine(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    total: Tensor | None = None
    for coefficient, x in zip(node.attributes["coefficients"], inputs, strict=True):
        term = x if coefficient == 1 else scaled(x, coefficient)
        total = term if total is None else total + term
    assert total is not None
    return total + constants["bias"] if "bias" in constants else total


def _concat(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return torch.cat(inputs, 1 + node.attributes["dim"])


def _window_sum(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, a = inputs[0], node.attributes
    for dim, windows, weights in zip(a["dims"], a["windows"], a["weights"], strict=True):
        x = window_sum(x, 1 + dim, windows, weights)
    return x


def _window_max(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, a = inputs[0], node.attributes
    for dim, windows in zip(a["dims"], a["windows"], strict=True):
        x = window_max(x, 1 + dim, windows)
    return x


def _activation(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    (x,), name = inputs, node.attributes["function"]
    if name == "prelu":
        return x.relu() - constants["slope"] * (-x).relu()
    if name == "relu":
        return x.relu()
    return activated(x, name, node.attributes["parameters"])


def _normalise(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    dims = [1 + dim for dim in node.attributes["dims"]]
    return normalised(inputs[0], dims, node.attributes["epsilon"])


def _broadcast(x: Tensor, ndim: int) -> Tensor:
    """With dimensions of size 1 after the batch, up to `ndim`."""
    return x if x.ndim == ndim else x.reshape(x.shape[0], *[1] * (ndim - x.ndim), *x.shape[1:])


def _product(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, y = (_broadcast(value, 1 + len(node.shape)) for value in inputs)
    return x * y if node.kind == "product" else x / y


RUN: dict[str, Run] = {
    "linear": _linear,
    "conv": _conv,
    "adjoint": _adjoint,
    "scale": _scale,
    "gather": _gather,
    "reshape": _reshape,
    "combine": _combine,
    "concat": _concat,
    "window_sum": _window_sum,
    "window_max": _window_max,
    "activation": _activation,
    "maximum": lambda node, inputs, constants: torch.maximum(*inputs),
    "minimum": lambda node, inputs, constants: torch.minimum(*inputs),
    "sort": lambda node, inputs, constants: ordered(inputs[0], 1 + node.attributes["dim"]),
    "softmax": lambda node, inputs, constants: inputs[0].softmax(1 + node.attributes["dim"]),
    "log_softmax": lambda node, inputs, constants: inputs[0].log_softmax(
        1 + node.attributes["dim"]
    ),
    "logsumexp": lambda node, inputs, constants: inputs[0].logsumexp(
        [1 + d for d in node.attributes["dims"]], keepdim=True
    ),
    "norm": lambda node, inputs, constants: torch.linalg.vector_norm(
        inputs[0], dim=[1 + d for d in node.attributes["dims"]], keepdim=True
    ),
    "normalise": _normalise,
    "product": _product,
    "quotient": _product,
    "matmul": lambda node, inputs, constants: torch.matmul(*inputs),
}
