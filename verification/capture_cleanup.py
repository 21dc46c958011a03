"""What is done to a graph once all operators are translated: nothing that changes its meaning."""

import math
from dataclasses import replace
from fractions import Fraction

from verification.capture_folds import folded
from verification.graph import Constant, Graph, Node


def cleaned(graph: Graph, *, flat: bool = True) -> Graph:
    """Circular adjoints recognised, sums of sums flattened unless they are to stay as executed,
    and only what the output depends on."""
    graph = _needed(_apart(folded(graph)))
    return _needed(_flattened(graph)) if flat else graph


def _needed(graph: Graph) -> Graph:
    kept, nodes = {graph.output, graph.input.name}, []
    for node in reversed(graph.nodes):
        if node.name in kept:
            kept.update(node.inputs)
            nodes.append(node)
    return Graph(tuple(reversed(nodes)), graph.output)


def _apart(graph: Graph) -> Graph:
    """Activations of a concatenation of multiples of one node, as of x and -x, as a concatenation
    of activations: so that all of it is seen as one function of that node."""
    users, nodes = graph.users(), {}
    for node in graph:
        joined = nodes[node.inputs[0]] if node.kind == "activation" else None
        if joined and not node.constants and joined.kind == "concat" and _repeats(joined, nodes):
            alone = len(users[joined.name]) == 1 and joined.name != graph.output
            node = _distributed(node, joined, nodes) if alone else node
        nodes[node.name] = node
    return Graph(tuple(nodes.values()), graph.output)


def _repeats(node: Node, nodes: dict[str, Node]) -> bool:
    sources = []
    for name in node.inputs:
        inner = nodes[name]
        plain = inner.kind == "combine" and len(inner.inputs) == 1 and not inner.constants
        sources.append(inner.inputs[0] if plain else name)
    return len(set(sources)) < len(sources)


def _distributed(node: Node, joined: Node, nodes: dict[str, Node]) -> Node:
    parts = [
        replace(node, name=f"{node.name}.part{k}", inputs=(name,), shape=nodes[name].shape)
        for k, name in enumerate(joined.inputs)
    ]
    nodes.update((part.name, part) for part in parts)
    return replace(joined, name=node.name, inputs=tuple(part.name for part in parts))


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
