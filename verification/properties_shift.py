"""equivariant:shift: f commutes with circular shifts, by what every node does to them [T16].

One axis at a time, counted from the end: a value is `moving` when it is shifted as the input is,
`still` when it does not change, and `flat` when both hold, since it is constant along the axis.
"""

import math

import numpy as np
import torch
from torch import Tensor

from verification.exact import LINEAR, Exact, constant
from verification.graph import Constant, Graph, Node
from verification.judgement import Open, Proof
from verification.node_matrices import all_matrices
from verification.properties_constants import has_constants
from verification.sparse import Matrix, identity

MOVING, STILL, FLAT = "moving", "still", "flat"


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """Exactly, or not at all."""
    if not graph.input.shape:
        return Open("one number has no dimension that is shifted")
    axes = (-1, -2) if len(graph.input.shape) >= 3 else (-1,)
    for axis in axes:
        found = _along(graph, axis)
        if isinstance(found, str):
            return Open(found)
    text = "every node commutes with circular shifts: circular convolutions, entrywise functions"
    return Proof(0.0, "T16", text)


def _along(graph: Graph, axis: int) -> str | None:
    """Why the output is not shifted along with the input; None if it is."""
    states = {graph.input.name: MOVING}
    pieces = Pieces(graph, axis)
    reason = None
    for node in graph.nodes[1:]:
        state = None
        if all(name in states for name in node.inputs):
            state = _state(node, [states[name] for name in node.inputs], graph, axis)
        if state is None and pieces.commutes(node, states):
            state = MOVING
        if state is not None:
            states[node.name] = state
        elif reason is None:
            reason = (
                f"{_what(node)} ({node.name}) does not commute with a shift of dimension {axis}"
            )
    if states.get(graph.output) in (MOVING, FLAT):
        return None
    return reason or f"the output is not shifted with the input along dimension {axis}"


class Pieces:
    """Linear nodes that do not commute with shifts by themselves, but may do so together: their
    matrices in terms of the moving values that they came from."""

    def __init__(self, graph: Graph, axis: int):
        self.graph, self.axis = graph, axis
        self.forms: dict[str, dict[str, Matrix]] = {}

    def commutes(self, node: Node, states: dict[str, str]) -> bool:
        """Keep the form of a node; whether T M = M T, exactly, for the whole of it."""
        if node.kind not in LINEAR or has_constants(node, "bias"):
            return False
        total: dict[str, Matrix] = {}
        shapes = [self.graph[name].shape for name in node.inputs]
        for name, matrix in zip(node.inputs, all_matrices(node, shapes), strict=True):
            for source, form in self._of(name, states).items():
                term = matrix @ form
                total[source] = total[source] + term if source in total else term
            if name not in self.forms and states.get(name) != MOVING:
                return False
        self.forms[node.name] = total
        return all(self._swaps(node, self.graph[source], m) for source, m in total.items())

    def _of(self, name: str, states: dict[str, str]) -> dict[str, Matrix]:
        if states.get(name) == MOVING:
            return {name: identity(math.prod(self.graph[name].shape))}
        return self.forms.get(name, {})

    def _swaps(self, node: Node, source: Node, matrix: Matrix) -> bool:
        n = self.graph.input.shape[self.axis]
        for shape in (node.shape, source.shape):
            if len(shape) < -self.axis or shape[self.axis] != n:
                return False
        after, before = _shift(node.shape, self.axis), _shift(source.shape, self.axis)
        return (matrix[after] - matrix[:, np.argsort(before)]).zero


def _shift(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """(Ty)_i = y_(result i)."""
    return np.roll(np.arange(math.prod(shape)).reshape(shape), 1, axis).flatten()


def _what(node: Node) -> str:
    if node.kind == "conv" and not node.attributes["circular"]:
        return "a convolution without circular padding"
    return str(node.attributes.get("operator", node.kind))


def _state(node: Node, inputs: list[str], graph: Graph, axis: int) -> str | None:
    """The state of a node from those of its inputs, None where nothing is known."""
    shapes = [graph[name].shape for name in node.inputs]
    if node.kind == "constant":
        return FLAT if _is_flat(node.constants["value"], axis) else STILL
    if inputs and all(state in (STILL, FLAT) for state in inputs):
        flat = all(state == FLAT for state in inputs) and _keeps(node, axis)
        if node.kind == "gather":
            flat = _is_constant_along(node.attributes["index"].reshape(node.shape), axis)
        return FLAT if flat and _constants_are_flat(node, axis) else STILL
    if node.kind in ("conv", "adjoint"):
        return _convolved(node, axis)
    if node.kind == "linear":
        return _circulant(node, axis)
    if node.kind in ("gather", "reshape"):
        return _moved(node, shapes[0], axis)
    if node.kind in ("window_sum", "window_max", "norm", "logsumexp"):
        return _reduced(node, shapes[0], axis)
    if node.kind in ("softmax", "log_softmax", "normalise"):
        return MOVING
    if node.kind == "sort":
        along = node.attributes["dim"] == len(node.shape) + axis
        return STILL if along else MOVING
    if node.kind == "concat":
        apart = node.attributes["dim"] % len(node.shape) != len(node.shape) + axis
        return MOVING if apart and STILL not in inputs else None
    if node.kind in ("scale", "combine", "activation", "product", "quotient", "maximum", "minimum"):
        fits = all(
            state in (MOVING, FLAT) or len(shape) < -axis or shape[axis] == 1
            for state, shape in zip(inputs, shapes, strict=True)
        )
        return MOVING if fits and _constants_are_flat(node, axis) else None
    return None


def _keeps(node: Node, axis: int) -> bool:
    """Whether a node leaves a value that is constant along the axis so."""
    return node.kind in (
        "scale", "combine", "activation", "product", "quotient", "maximum", "minimum",
    )  # fmt: skip


def _is_flat(value: Constant, axis: int) -> bool:
    if value.rounded and value.value.ndim >= -axis and value.value.shape[axis] > 1:
        return False  # equal entries may have been rounded so
    return _is_constant_along(value.value, axis)


def _is_constant_along(value: Tensor, axis: int) -> bool:
    if value.ndim < -axis or value.shape[axis] == 1:
        return True
    return bool((value == value.narrow(axis, 0, 1)).all())


def _constants_are_flat(node: Node, axis: int) -> bool:
    return all(_is_flat(value, axis) for value in node.constants.values())


def _convolved(node: Node, axis: int) -> str | None:
    """A kernel mixes the channels, which are the dimension before those that it moves along."""
    a = node.attributes
    dim = len(a["stride"]) + axis
    if dim < 0:
        return None
    size = node.constants["weight"].value.shape[axis]
    pads = a["padding"][dim]
    same = sum(pads) == a["dilation"][dim] * (size - 1) and a["stride"][dim] == 1
    around = a["circular"] or (size == 1 and not any(pads))
    return MOVING if same and around else None


def _circulant(node: Node, axis: int) -> str | None:
    """A matrix along the last dimension: equivariant there when it is circulant."""
    if axis != -1:
        return MOVING
    weight: Exact = constant(node.constants["weight"])
    m, n = weight.ints.shape
    bias = "bias" not in node.constants or _is_flat(node.constants["bias"], -1)
    rolled = all((weight.ints[(i + 1) % m] == np.roll(weight.ints[i], 1)).all() for i in range(m))
    return MOVING if m == n and bias and rolled else None


def _moved(node: Node, shape: tuple[int, ...], axis: int) -> str | None:
    """Whether moving the entries and shifting them can be swapped: index(Ty) = T index(y)."""
    if len(node.shape) < -axis or node.shape[axis] != shape[axis]:
        return None
    numbers = torch.arange(torch.Size(shape).numel())
    index = node.attributes["index"].flatten() if node.kind == "gather" else numbers
    target = numbers.reshape(shape).roll(-1, axis).flatten()
    shifted = torch.where(index < 0, -1, target[index.clamp_min(0)]).reshape(node.shape)
    return MOVING if torch.equal(index.reshape(node.shape).roll(-1, axis), shifted) else None


def _reduced(node: Node, shape: tuple[int, ...], axis: int) -> str | None:
    """Pooling: over other dimensions, or over the whole of this one."""
    a = node.attributes
    dims = [d % len(shape) for d in a["dims"]]
    here = len(shape) + axis
    if here not in dims:
        return MOVING
    if node.kind in ("norm", "logsumexp"):
        return FLAT
    windows = [list(w) for w in a["windows"][dims.index(here)]]
    return FLAT if windows == [[0, shape[here]]] else None
