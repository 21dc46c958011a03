"""A graph in which numbers stand before products, not inside them: (c x) y becomes c (x y).

So that -y1 y2 and y1 y2 are seen to be multiples of one product.
"""

from dataclasses import replace
from fractions import Fraction

from verification.graph import Graph, Node

_MULTILINEAR = ("product", "matmul")


def pulled_scalars(graph: Graph) -> Graph:
    """The same function; nodes are added, none of the old names changes its value."""
    nodes: list[Node] = []
    known: dict[str, Node] = {}
    for node in graph:
        factor, inputs = Fraction(1), []
        for k, name in enumerate(node.inputs):
            number, source = Fraction(1), name
            if node.kind in _MULTILINEAR or (node.kind == "quotient" and k == 0):
                number, source = _scaled(known, name)
            factor *= number
            inputs.append(source)
        if factor != 1:
            inner = replace(node, name=f"{node.name}.plain", inputs=tuple(inputs))
            nodes.append(inner)
            known[inner.name] = inner
            attributes = {"coefficients": [factor]}
            node = Node(
                node.name, "combine", (inner.name,), node.shape, attributes, {}, node.module
            )
        nodes.append(node)
        known[node.name] = node
    return Graph(tuple(nodes), graph.output)


def _scaled(known: dict[str, Node], name: str) -> tuple[Fraction, str]:
    """A node as a number times another."""
    factor = Fraction(1)
    while (node := known[name]).kind == "combine" and len(node.inputs) == 1 and not node.constants:
        factor *= Fraction(node.attributes["coefficients"][0])
        name = node.inputs[0]
    return factor, name
