"""Graphs as JSON and tensors: the form in which certificates and the sandbox hand them on.

The JSON is that of certificates (`checker.reading` is its grammar); tensors are named and stored
apart, equal ones once. `names`, `modules` and `rounded`, which certificates have no use for, stand
beside it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verification.checker import nodes, reading
from verification.checker import replay as checker
from verification.checker.chain import Chain, Spectra
from verification.checker.norms import DOWN
from verification.checker.replay import Value
from verification.graph import Constant, Graph, Node

_FRACTIONS = ("coefficients", "weights", "epsilon")


@dataclass
class Tensors:
    """Arrays by name, each distinct content once."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _known: dict[bytes, str] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> str:
        """The name under which the tensor is stored. bfloat16, which NumPy has not, is stored as
        float32, with the same values."""
        tensor = tensor.detach().cpu().contiguous()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        about = f"{array.dtype} {array.shape} ".encode()
        content = about + hashlib.sha256(array.tobytes()).digest()
        if content not in self._known:
            name = self._known[content] = str(len(self._known))
            self.arrays[name] = array
        return self._known[content]


def written(graph: Graph, store: Tensors) -> dict[str, Any]:
    """The graph as JSON; its tensors go to `store`. `read` is the inverse."""
    return {
        "nodes": written_nodes(graph, lambda constant: store.add(constant.value)),
        "output": graph.output,
        "modules": [node.module for node in graph],
        "names": [{use: c.name for use, c in node.constants.items()} for node in graph],
        "rounded": [{use: c.rounded for use, c in node.constants.items()} for node in graph],
    }


def written_nodes(graph: Graph, key: Callable[[Constant], str]) -> list[dict[str, Any]]:
    """The nodes as JSON; `key` stores the value of a constant and names it."""

    def constants(node: Node) -> dict[str, Any]:
        found = dict(node.constants)
        if "index" in node.attributes:
            found["index"] = Constant(torch.as_tensor(node.attributes["index"]).to(torch.int64))
        return {use: {"tensor": key(c), "factor": str(c.factor)} for use, c in found.items()}

    return [
        {
            "name": node.name,
            "kind": node.kind,
            "inputs": list(node.inputs),
            "shape": list(node.shape),
            "attributes": _attributes(node),
            "constants": constants(node),
        }
        for node in graph
    ]


def digest(graph: Graph) -> str:
    """SHA-256 of all that the graph says, constants included, but for the names of its modules."""
    store = Tensors()
    content = written(graph, store) | {"modules": None, "names": None}
    hashes = {n: hashlib.sha256(array.tobytes()).hexdigest() for n, array in store.arrays.items()}
    kinds = {n: [array.dtype.str, list(array.shape)] for n, array in store.arrays.items()}
    return reading.digest([content, hashes, kinds])


def replay(graph: Graph, x: Tensor, y: Tensor) -> float:
    """Lower bound of |f(x) - f(y)| / |x - y| for the graph f and single examples, as the checker of
    certificates proves it; 0 where it proves nothing."""
    store = Tensors()
    found, output = _checked(written(graph, store), store.arrays)
    pair = [tensor.detach().cpu().to(torch.float64).numpy() for tensor in (x, y)]
    try:
        moved = checker.moved(Chain(found, Spectra()), output, *(Value(side, 0.0) for side in pair))
    except reading.Wrong:
        return 0.0
    distance = checker.distance(*pair)
    return moved / distance * DOWN if distance > 0 else 0.0


def read(content: Any, arrays: Mapping[str, np.ndarray]) -> Graph:
    """The graph that `written` wrote. Raises reading.Unreadable or reading.Wrong on anything that
    is not exactly of that form: sizes, kinds, numbers, and shapes that do not fit together."""
    listed, text = reading.listed, reading.of(str)
    reading.record(
        content, "a graph", nodes=reading.of(list), output=text,
        modules=listed(text), names=listed(reading.of(dict)), rounded=listed(reading.of(dict)),
    )  # fmt: skip
    found, output = _checked(content, arrays)
    beside = [content[key] for key in ("modules", "names", "rounded")]
    reading.need({len(found)} == set(map(len, beside)), "a graph misses names of nodes")
    return Graph(tuple(map(_node, found.values(), *beside)), output)


def _checked(content: Any, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, reading.Node], str]:
    """The nodes as the checker has them, and the name of the output."""
    bare = {"module": "", "output": content["output"], "nodes": content["nodes"]}
    found, output = reading.graph(bare | {"normalisation": None}, arrays)
    nodes.check_shapes(found)
    return found, output


def _node(
    node: reading.Node, module: str, names: Mapping[str, Any], rounded: Mapping[str, Any]
) -> Node:
    attributes = {name: _exact(name, value) for name, value in node.attributes.items()}
    constants = {}
    for use, weight in node.constants.items():
        value = torch.from_numpy(weight.values.copy())
        if use == "index":
            attributes["index"] = value
        else:
            name, near = names.get(use), rounded.get(use, -1)
            reading.need(isinstance(name, str), f"{use} of {node.name!r} has no name")
            reading.need(
                reading.is_number(near) and near >= 0, f"{use} of {node.name!r} has no rounding"
            )
            constants[use] = Constant(value, weight.factor, str(name), rounded=float(near))
    return Node(node.name, node.kind, node.inputs, node.shape, attributes, constants, module)


def _attributes(node: Node) -> dict[str, Any]:
    """A node's attributes as JSON: exact numbers as strings, tensors elsewhere."""
    given, expected = node.attributes, reading.ATTRIBUTES.get(node.kind, {})
    return {name: _plain(name, given.get(name, {})) for name in expected}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: None if v is None else str(Fraction(v)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, v) for v in value]
    if isinstance(value, str | bool):
        return value
    return str(Fraction(value)) if name in _FRACTIONS else int(value)


def _exact(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: None if v is None else Fraction(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_exact(name, v) for v in value]
    return Fraction(value) if name in _FRACTIONS else value
