"""Which nodes of a graph depend on its input, and through which nodes they do."""

from verification.graph import Graph, Node

PARTIAL = ("unknown", "quotient", "normalise")
"""Kinds of nodes that may have no value at some inputs."""


class Flow:
    """The dominator tree of a graph: `dominator[n]` is the last node other than n that every path
    from the input to n passes, so that n is a function of it."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: dict[str, Node] = graph.by_name
        self.place = {node.name: k for k, node in enumerate(graph)}
        self.dominator: dict[str, str] = {}
        self._depth = {graph.input.name: 0}
        for node in graph.nodes[1:]:
            before = [name for name in node.inputs if name in self._depth]
            if node.kind == "unknown" and not before:  # nothing is known of what it reads either
                before = [graph.input.name]
            if before:
                parent = before[0]
                for name in before[1:]:
                    parent = self._common(parent, name)
                self.dominator[node.name] = parent
                self._depth[node.name] = self._depth[parent] + 1

    def depends(self, name: str) -> bool:
        """Whether the node is a function of the input, and not a constant."""
        return name in self._depth

    def path(self, start: str, end: str) -> list[str]:
        """The dominators of `end` after `start`, in order, and `end`. Raises ValueError where
        `start` does not dominate it."""
        found = []
        while end != start:
            if end not in self.dominator:
                raise ValueError(f"{start} does not dominate it")
            found.append(end)
            end = self.dominator[end]
        return found[::-1]

    def total(self, start: str, end: str) -> bool:
        """Whether `end` is a finite number wherever its dominator `start` is, as far as kinds of
        nodes tell."""
        return not any(node.kind in PARTIAL for node in self.part(start, end))

    def part(self, start: str, end: str) -> Graph:
        """What computes `end` from its dominator `start`, as a graph whose input that is."""
        nodes, needed = [], {end}
        for node in reversed(self.graph.nodes):
            if node.name in needed and node.name != start:
                nodes.append(node)
                needed.update(node.inputs)
        return Graph((Node(start, "input", (), self.nodes[start].shape), *reversed(nodes)), end)

    def _common(self, a: str, b: str) -> str:
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            a = self.dominator[a]
        return a
