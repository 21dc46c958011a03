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
    table = _Table()
    found: dict[str, np.ndarray] = {}
    for node in graph:
        inputs = [found[name] for name in node.inputs]
        found[node.name] = _numbers(node, inputs, table)
    return found


class _Table(dict[Any, int]):
    """Numbers given so far, by what they stand for; the first of a run for a whole node."""

    next = 0

    def number(self, key: Any) -> int:
        if key not in self:
            self[key] = self.next
            self.next += 1
        return self[key]


def _numbers(node: Node, inputs: list[np.ndarray], table: "_Table") -> np.ndarray:
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
        numbers = [table.number((label, *key)) for key in keys]
        return np.array(numbers, dtype=np.int64).reshape(node.shape)
    label = _label(node, inputs)
    size = int(np.prod(node.shape, dtype=np.int64))
    if label not in table:
        table[label] = table.next
        table.next += size
    return np.arange(table[label], table[label] + size).reshape(node.shape)


def _is_entrywise(node: Node) -> bool:
    known = ("activation", "product", "quotient", "maximum", "minimum")
    return node.kind in known and not node.constants


def _label(node: Node, inputs: list[np.ndarray]) -> Any:
    """Equal only for nodes that compute the same: the name, unless there are no constants. What
    dimensions mean depends on the shapes."""
    if node.constants or node.kind in ("input", "constant", "unknown"):
        return node.name
    about = (node.kind, node.shape, repr(sorted(node.attributes.items())))
    return (*about, *((x.shape, x.tobytes()) for x in inputs))
