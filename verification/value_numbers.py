"""Entries of a graph that are the same number: moved, copied, or computed twice from the same.

Two entries with one number are equal for every input. Entrywise functions of equal entries are
equal, and sums, products and extremes do not mind their order.
"""

from fractions import Fraction
from typing import Any

import numpy as np

from verification.graph import Graph, Node

ZERO = -1
"""The number of an entry that is 0."""
_COMMUTES = ("product", "maximum", "minimum")


def value_numbers(graph: Graph) -> dict[str, np.ndarray]:
    """By node, an array of its shape with the number of each entry."""
    table: dict[Any, int] = {}
    found: dict[str, np.ndarray] = {}
    for node in graph:
        inputs = [found[name] for name in node.inputs]
        found[node.name] = _numbers(node, inputs, table)
    return found


def _numbers(node: Node, inputs: list[np.ndarray], table: dict[Any, int]) -> np.ndarray:
    a = node.attributes
    if node.kind == "reshape":
        return inputs[0].reshape(node.shape)
    if node.kind == "gather":
        index = a["index"].numpy().reshape(node.shape)
        return np.where(index < 0, ZERO, inputs[0].flatten()[np.maximum(index, 0)])
    if node.kind == "concat":
        return np.concatenate(inputs, a["dim"] % len(node.shape))
    if node.kind == "combine" and a["coefficients"] == [Fraction(1)] and not node.constants:
        return inputs[0]
    if _is_entrywise(node):
        label = (node.kind, a.get("function"), tuple(sorted(a.get("parameters", {}).items())))
        columns = [np.broadcast_to(x, node.shape).flatten().tolist() for x in inputs]
        rows = zip(*columns, strict=True)
        keys = (sorted(row) if node.kind in _COMMUTES else row for row in rows)
        numbers = [table.setdefault((label, *key), len(table)) for key in keys]
        return np.array(numbers, dtype=np.int64).reshape(node.shape)
    size = int(np.prod(node.shape, dtype=np.int64))
    numbers = [table.setdefault((_label(node, inputs), k), len(table)) for k in range(size)]
    return np.array(numbers, dtype=np.int64).reshape(node.shape)


def _is_entrywise(node: Node) -> bool:
    known = ("activation", "product", "quotient", "maximum", "minimum")
    return node.kind in known and not node.constants


def _label(node: Node, inputs: list[np.ndarray]) -> Any:
    """Equal only for nodes that compute the same: the name, unless there are no constants."""
    if node.constants or node.kind in ("input", "constant", "unknown"):
        return node.name
    return (node.kind, repr(sorted(node.attributes.items())), tuple(x.tobytes() for x in inputs))
