"""Executes a graph: the module again, built from nothing but its nodes.

Every operation here is one that `running_error` has a rule for, or none has.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verification.activations import FUNCTIONS
from verification.graph import Graph, Node


class Interpreter(nn.Module):
    """x (B, *shape) -> the output of `graph` for each example, computed in `dtype`.

    The constants are buffers, rounded to `dtype` once factor and value are multiplied. Raises
    ValueError on an unknown node.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.graph, self.held = graph, {}
        for position, node in enumerate(graph):
            if node.kind not in ("input", "constant", *_RUN):
                operator = node.attributes.get("operator", node.kind)
                raise ValueError(f"nothing is known of the operator {operator}")
            for key, constant in node.constants.items():
                name = f"c{position}_{key}"
                value = constant.value.detach().to(torch.float64)
                value = value if constant.factor == 1 else value * float(constant.factor)
                self.register_buffer(name, value.to(dtype))
                self.held[node.name, key] = name

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for node in self.graph:
            constants = {key: getattr(self, self.held[node.name, key]) for key in node.constants}
            inputs = [values[name] for name in node.inputs]
            if node.kind == "constant":
                values[node.name] = constants["value"].expand(x.shape[0], *node.shape)
            elif node.kind == "input":
                values[node.name] = x
            else:
                values[node.name] = _RUN[node.kind](node, inputs, constants)
        return values[self.graph.output]


Run = Callable[[Node, list[Tensor], dict[str, Tensor]], Tensor]


def _linear(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return F.linear(inputs[0], constants["weight"], constants.get("bias"))


def _flat_pads(padding: list[list[int]]) -> list[int]:
    return [p for pads in reversed(padding) for p in pads]


def _conv(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, a = inputs[0], node.attributes
    padding: Any = [before for before, _ in a["padding"]]
    if a["circular"] or any(before != after for before, after in a["padding"]):
        mode = "circular" if a["circular"] else "constant"
        x, padding = F.pad(x, _flat_pads(a["padding"]), mode=mode), 0
    convolve = F.conv1d if len(a["stride"]) == 1 else F.conv2d
    return convolve(
        x, constants["weight"], constants.get("bias"),
        tuple(a["stride"]), padding, tuple(a["dilation"]), a["groups"],
    )  # fmt: skip


def _adjoint(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    """The transposed convolution onto the padded extent, of which the border is cut or, if it is
    circular, added to what it was copied from."""
    a, weight = node.attributes, constants["weight"]
    count = len(a["stride"])
    extents = zip(a["extent"], a["padding"], strict=True)
    padded = [n + before + after for n, (before, after) in extents]
    reached = [
        (m - 1) * s + d * (k - 1) + 1
        for m, s, d, k in zip(
            inputs[0].shape[2:], a["stride"], a["dilation"], weight.shape[2:], strict=True
        )
    ]
    transpose = F.conv_transpose1d if count == 1 else F.conv_transpose2d
    plain = not a["circular"] and all(before == after for before, after in a["padding"])
    cut = [before for before, _ in a["padding"]] if plain else [0] * count
    missing = [n - m for n, m in zip(padded, reached, strict=True)]
    x = transpose(
        inputs[0], weight, None, tuple(a["stride"]), tuple(cut), tuple(missing),
        a["groups"], tuple(a["dilation"]),
    )  # fmt: skip
    if not plain:
        for dim, (before, after) in enumerate(a["padding"], start=2):
            x = (
                _folded(x, dim, before, after)
                if a["circular"]
                else _narrowed(x, dim, before, after)
            )
    bias = constants.get("bias")
    return x if bias is None else x + bias.reshape(-1, *[1] * count)


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
    index = node.attributes["index"].flatten()
    flat = inputs[0].flatten(1)
    y = flat.index_select(1, index.clamp_min(0))
    if bool((index < 0).any()):
        y = y.masked_fill(index < 0, 0.0)
    return y.reshape(y.shape[0], *node.shape)


def _reshape(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return inputs[0].reshape(inputs[0].shape[0], *node.shape)


def _combine(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    total: Tensor | None = None
    for coefficient, x in zip(node.attributes["coefficients"], inputs, strict=True):
        term = x if coefficient == 1 else float(coefficient) * x
        total = term if total is None else total + term
    assert total is not None
    return total + constants["bias"] if "bias" in constants else total


def _concat(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    return torch.cat(inputs, 1 + node.attributes["dim"])


def _window_sum(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    """Along each dimension a product with the matrix of weights, one row a window."""
    x, a = inputs[0], node.attributes
    for dim, windows, weights in zip(a["dims"], a["windows"], a["weights"], strict=True):
        rows = x.new_zeros(len(windows), x.shape[1 + dim])
        for row, (start, stop), weight in zip(rows, windows, weights, strict=True):
            row[start:stop] = float(weight)
        x = F.linear(x.transpose(1 + dim, -1), rows).transpose(1 + dim, -1)
    return x


def _window_max(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, a = inputs[0], node.attributes
    for dim, windows in zip(a["dims"], a["windows"], strict=True):
        parts = [x.narrow(1 + dim, i, j - i).amax(1 + dim, keepdim=True) for i, j in windows]
        x = torch.cat(parts, 1 + dim)
    return x


def _activation(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    (x,), name = inputs, node.attributes["function"]
    if name == "prelu":
        return x.clamp_min(0.0) + constants["slope"] * x.clamp_max(0.0)
    return FUNCTIONS[name](x, **node.attributes["parameters"])


def _normalise(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    (x,), dims = inputs, [1 + dim for dim in node.attributes["dims"]]
    x = x - x.mean(dims, keepdim=True)
    variance = x.square().mean(dims, keepdim=True)
    return x / (variance + float(node.attributes["epsilon"])).sqrt()


def _broadcast(x: Tensor, ndim: int) -> Tensor:
    """With dimensions of size 1 after the batch, up to `ndim`."""
    return x.reshape(x.shape[0], *[1] * (ndim - x.ndim), *x.shape[1:])


def _product(node: Node, inputs: list[Tensor], constants: dict[str, Tensor]) -> Tensor:
    x, y = (_broadcast(value, 1 + len(node.shape)) for value in inputs)
    return x * y if node.kind == "product" else x / y


_RUN: dict[str, Run] = {
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
    "softmax": lambda node, inputs, constants: inputs[0].softmax(1 + node.attributes["dim"]),
    "norm": lambda node, inputs, constants: torch.linalg.vector_norm(
        inputs[0], dim=[1 + d for d in node.attributes["dims"]], keepdim=True
    ),
    "normalise": _normalise,
    "product": _product,
    "quotient": _product,
    "matmul": lambda node, inputs, constants: torch.matmul(*inputs),
}
