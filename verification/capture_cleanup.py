"""What is done to a graph once all operators are translated: nothing that changes its meaning."""

import math
from dataclasses import replace
from fractions import Fraction

from verification.capture_folds import folded
from verification.graph import Constant, Graph, Node


def cleaned(graph: Graph, *, flat: bool = True) -> Graph:
    """Circular adjoints recognised, sums of sums flattened unless they are to stay as executed,
    and only what the output depends on."""
    graph = _needed(folded(graph))
    return _needed(_flattened(graph)) if flat else graph


def _needed(graph: Graph) -> Graph:
    kept, nodes = {graph.output, graph.input.name}, []
    for node in reversed(graph.nodes):
        if node.name in kept:
            kept.update(node.inputs)
            nodes.append(node)
    return Graph(tuple(reversed(nodes)), graph.output)


def _flattened(graph: Graph) -> Graph:
    """Each combination of a combination that nothing else reads, as one; so for one that merely
    scales. At most one of the two has a bias, so that biases are never added up."""
    users = graph.users()
    nodes: dict[str, Node] = {}
    for node in graph:
        if node.kind == "combine":
            node = _absorbing(node, nodes, users)
        nodes[node.name] = node
    return Graph(tuple(nodes.values()), graph.output)


def _absorbing(node: Node, nodes: dict[str, Node], users: dict[str, list[Node]]) -> Node:
    terms: dict[str, Fraction] = {}
    bias = node.constants.get("bias")
    for coefficient, name in zip(node.attributes["coefficients"], node.inputs, strict=True):
        inner = nodes[name]
        own = inner.constants.get("bias")
        alone = len(users[name]) == 1 or (len(inner.inputs) == 1 and own is None)
        if inner.kind != "combine" or not alone or (own is not None and bias is not None):
            terms[name] = terms.get(name, Fraction(0)) + coefficient
            continue
        if own is not None:
            bias = Constant(own.value, coefficient * own.factor, own.name, math.inf, own.rounded)
        for c, source in zip(inner.attributes["coefficients"], inner.inputs, strict=True):
            terms[source] = terms.get(source, Fraction(0)) + coefficient * c
    constants = {} if bias is None else {"bias": bias}
    attributes = {"coefficients": list(terms.values())}
    return replace(node, inputs=tuple(terms), attributes=attributes, constants=constants)
