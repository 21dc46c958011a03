"""A graph as a chain of segments between states, each linear but for its nonlinear nodes.

A state is a set of exactly n entries (n those of the input) that determine everything computed
after it; the input is one, the output another, and a step of a flow usually ends in one, even where
its halves are separate values. Within a segment every entry is a linear form, plus a constant, in
the entries of its state and of the outputs of the nonlinear nodes in between, its atoms.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from verification.exact import LINEAR, MOVES
from verification.graph import Graph, Node
from verification.node_matrices import matrices
from verification.sparse import Matrix, exactly, nothing, stacked
from verification.value_numbers import ZERO, value_numbers


@dataclass(frozen=True)
class Atom:
    """A nonlinear node: its inputs as forms, and the columns [start, stop) of its outputs."""

    node: Node
    inputs: tuple[Matrix, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Segment:
    """`output` is the form of the next state in the columns [state | atoms]; the state has
    `states` columns. `name` is that of the last node computed."""

    states: int
    atoms: tuple[Atom, ...]
    output: Matrix
    name: str

    @property
    def linear(self) -> Matrix:
        """P, the dependence of the next state on this one."""
        return self.output[:, : self.states]

    @property
    def nonlinear(self) -> Matrix:
        """B, its dependence on the atoms."""
        return self.output[:, self.states :]


def whole(graph: Graph) -> Segment:
    """The graph as one segment. Raises ArithmeticError when its matrices are too large."""
    return next(_segments(graph, cut=False))


def chain(graph: Graph) -> list[Segment]:
    """The graph cut at every state. The first state is the input, in order; the last the output,
    in order, so that the input must have as many entries as the output."""
    return list(_segments(graph, cut=True))


def _segments(graph: Graph, cut: bool) -> Iterator[Segment]:
    graph = _reachable(graph)
    numbers = value_numbers(graph)
    n = numbers[graph.input.name].size
    state = numbers[graph.input.name].flatten()
    ends = _states(graph, numbers, n) if cut else []
    position = 1
    for end, entries in [*ends, (len(graph.nodes), numbers[graph.output].flatten())]:
        nodes = graph.nodes[position:end]
        if nodes or end == len(graph.nodes):
            yield _segment(graph, nodes, numbers, state, entries)
        position, state = end, entries


def _reachable(graph: Graph) -> Graph:
    """Without the nodes that the output does not depend on, but with the input."""
    needed = {graph.output}
    kept = []
    for node in reversed(graph.nodes):
        if node.name in needed or node.kind == "input":
            kept.append(node)
            needed.update(node.inputs)
    return Graph(tuple(reversed(kept)), graph.output)


def _states(graph: Graph, numbers: dict[str, np.ndarray], n: int) -> list[tuple[int, np.ndarray]]:
    """Positions after which exactly n entries are still needed, and their numbers. Of several with
    the same entries the first; none where the entries are the output's."""
    count = 1 + max((int(x.max()) for x in numbers.values() if x.size), default=0)
    born = np.full(count, len(graph.nodes))
    last = np.full(count, -1)
    for position, node in enumerate(graph.nodes):
        own = numbers[node.name].flatten()
        own = own[own != ZERO]
        if node.kind == "constant":
            born[own] = len(graph.nodes)
        else:
            np.minimum.at(born, own, position)
        if node.kind not in MOVES:
            for name in node.inputs:
                used = numbers[name].flatten()
                last[used[used != ZERO]] = position
    final = numbers[graph.output].flatten()
    last[final[final != ZERO]] = len(graph.nodes)
    found: list[tuple[int, np.ndarray]] = []
    seen = {np.unique(final).tobytes(), np.sort(numbers[graph.input.name].flatten()).tobytes()}
    for position in range(1, len(graph.nodes) - 1):
        live = np.flatnonzero((born <= position) & (last > position))
        if len(live) == n and live.tobytes() not in seen:
            seen.add(live.tobytes())
            found.append((position + 1, _in_order(live, numbers, graph, position)))
    return found


def _in_order(
    live: np.ndarray, numbers: dict[str, np.ndarray], graph: Graph, position: int
) -> np.ndarray:
    """The order of a single node that holds them all, if there is one."""
    for node in graph.nodes:
        own = numbers[node.name].flatten()
        if len(own) == len(live) and np.array_equal(np.sort(own), live):
            return own
    return live


def _segment(
    graph: Graph,
    nodes: tuple[Node, ...],
    numbers: dict[str, np.ndarray],
    state: np.ndarray,
    entries: np.ndarray,
) -> Segment:
    inner = [node for node in nodes if node.kind not in (*LINEAR, "constant")]
    sizes = [numbers[node.name].size for node in inner]
    starts = dict(zip((node.name for node in inner), np.cumsum([len(state), *sizes]), strict=False))
    width = len(state) + sum(sizes)
    rows = _Rows(state, width)
    atoms = []
    for node in nodes:
        inputs = [numbers[name].flatten() for name in node.inputs]
        own = numbers[node.name].flatten()
        if node.kind == "constant":
            rows.add(own, nothing(len(own), width))
        elif node.name in starts:
            start = int(starts[node.name])
            forms = tuple(rows.of(x) for x in inputs)
            atoms.append(Atom(node, forms, start, start + len(own)))
            rows.add(own, _units(np.arange(start, start + len(own)), width))
        elif node.kind not in MOVES:
            shapes = [numbers[name].shape for name in node.inputs]
            total = nothing(len(own), width)
            for matrix, x in zip(matrices(node, shapes), inputs, strict=True):
                total = total + matrix @ rows.of(x)
            rows.add(own, total)
    return Segment(
        len(state), tuple(atoms), rows.of(entries), nodes[-1].name if nodes else graph.output
    )


def _units(columns: np.ndarray, width: int) -> Matrix:
    ones = np.ones(len(columns))
    return exactly(
        scipy.sparse.csr_matrix((ones, (np.arange(len(columns)), columns)), (len(columns), width))
    )


class _Rows:
    """The linear forms of entries, by their numbers."""

    def __init__(self, state: np.ndarray, width: int):
        self.width = width
        self.all = stacked([nothing(1, width), _units(np.arange(len(state)), width)])
        self.row: dict[int, int] = {ZERO: 0}
        self.row.update({int(number): 1 + k for k, number in enumerate(state)})

    def add(self, numbers: np.ndarray, forms: Matrix) -> None:
        first = self.all.shape[0]
        self.all = stacked([self.all, forms])
        for k, number in enumerate(numbers.tolist()):
            self.row.setdefault(number, first + k)

    def of(self, numbers: np.ndarray) -> Matrix:
        return self.all[np.array([self.row[number] for number in numbers.tolist()], dtype=np.int64)]
