"""A graph as a chain of graphs: cut at every node that all paths to the output go through."""

import itertools
from dataclasses import replace

from verification.graph import Graph, Node


def segments(graph: Graph) -> list[Graph]:
    """Graphs whose composition, first to last, is `graph`; each cannot be cut further."""
    position = {node.name: k for k, node in enumerate(graph)}
    before: dict[str, str | None] = {}
    for node in graph:
        above = [name for name in node.inputs if name in before]
        if node.kind != "input" and not above:
            continue
        common: str | None = above[0] if above else None
        for name in above[1:]:
            common = _meet(before, position, common, name)
        before[node.name] = common
    cuts = [graph.output]
    while (cut := before[cuts[-1]]) is not None:
        cuts.append(cut)
    cuts.reverse()
    return [between(graph, a, b) for a, b in itertools.pairwise(cuts)]


def _meet(
    before: dict[str, str | None], position: dict[str, int], a: str | None, b: str | None
) -> str | None:
    """The last node that dominates both."""
    while a != b:
        assert a is not None
        assert b is not None
        if position[a] > position[b]:
            a = before[a]
        else:
            b = before[b]
    return a


def between(graph: Graph, start: str, end: str) -> Graph:
    """What `end` computes from `start`."""
    by_name = graph.by_name
    needed, pending = {start}, [end]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending.extend(by_name[name].inputs)
    first = Node(start, "input", (), by_name[start].shape)
    rest = [node for node in graph if node.name in needed and node.name != start]
    return Graph((first, *rest), end)


def joined(graphs: list[Graph]) -> Graph:
    """The composition of consecutive segments."""
    nodes = list(graphs[0].nodes)
    for graph in graphs[1:]:
        nodes += graph.nodes[1:]
    return replace(graphs[-1], nodes=tuple(nodes))
