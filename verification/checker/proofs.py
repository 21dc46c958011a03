"""Equalities that hold by structure, in exact fractions, segment by segment.

A proof returns an upper bound on the defect, 0 where the property holds exactly; Wrong says that
none is known here. P, B, A and N are those of a segment.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np

from verification.checker import kinds
from verification.checker.kinds import Array, fractions, numbers, objects
from verification.checker.nodes import slopes
from verification.checker.rays import squares
from verification.checker.reading import Node, Wrong, agree
from verification.checker.segments import (
    ENTRYWISE,
    LARGEST_STATE,
    Graph,
    Segment,
    affordable,
    bits,
    cuts,
    exact,
    is_zero,
    largest_sum,
    moving,
    multiplied,
    rational,
    segment,
    shifted,
    simplified,
    size_of,
    state_size,
    symplectic_form,
    whole,
)
from verification.checker.values import LINEAR, biased, pulled, value
from verification.checker.work import OBJECT, cost_of, counted, price, spend


def _orthogonal(graph: Graph, dim: int) -> Fraction:
    """JᵀJ = I for an affine map."""
    kinds = {node.kind for node in graph.values()} - {"input", "constant", *LINEAR}
    agree(not kinds, f"it is not affine: {', '.join(sorted(kinds))}")
    found = whole(graph)
    gram = multiplied(found.linear.T, found.linear)
    return largest_sum(gram - np.eye(len(gram), dtype=np.int64).astype(object))


def _norm(graph: Graph, dim: int) -> Fraction:
    """Linear isometries, of which | |Ax| - |x| | <= |AᵀA - I| |x|, and between them what sorts
    entries, changes their signs, or splits them by it [T15]."""
    names, total = list(graph), Fraction(0)
    moves, start = moving(graph), names[0]
    last = {name: k for k, node in enumerate(graph.values()) for name in node.inputs}
    before, alive = start, {start}
    for k, name in enumerate(names):
        alive = {n for n in alive | {name} if n in moves and last.get(n, len(names)) > k}
        if k == 0 or alive != {name}:
            continue
        if _keeps(graph, before, name):
            total, start = _grown(graph, start, before, total, dim), name
        before = name
    return _grown(graph, start, names[-1], total, dim)


def _keeps(graph: Graph, start: str, end: str) -> bool:
    """Whether `end` is nonlinear in `start` and has its norm by the signs and places of entries."""
    if graph[end].kind == "sort":
        return graph[end].inputs == (start,)
    piece = _between(graph, start, end)
    if not any(node.kind == "activation" for node in piece.values()):
        return False
    try:
        return set(squares(piece, start, end)) == {1}
    except Wrong:
        return False


def _grown(graph: Graph, start: str, end: str, total: Fraction, dim: int) -> Fraction:
    """The defect of what has `total` followed by the linear piece from `start` to `end`."""
    if start == end:
        return total
    piece = _between(graph, start, end)
    defect = _orthogonal(piece, dim)
    agree(is_zero(whole(piece).constant), "a bias moves the origin")
    return total + defect + total * defect


def _between(graph: Graph, start: str, end: str) -> Graph:
    """What computes the value of `end` from that of `start` alone. Wrong where nothing does."""
    needed, inside = {end}, {}
    for name, node in reversed(graph.items()):
        if name in needed and name != start:
            agree(node.kind != "input", f"{end} is no function of {start}")
            inside[name] = node
            needed.update(node.inputs)
    first = Node(start, "input", (), graph[start].shape)
    return {start: first, **dict(reversed(inside.items()))}


def _asymmetry(columns: Array, rows: Array, steepest: Fraction) -> Fraction:
    """An upper bound on |BDA - (BDA)ᵀ| for every diagonal D of at most `steepest`: BDA is the sum
    of d_i b_i a_iᵀ, so with b_i = c_i a_i + r_i it is that of RDA."""
    spend(rows.size * price(2 * bits(columns, rows)))
    rest = columns.T.copy()
    for k, row in enumerate(rows):
        used = np.flatnonzero(np.not_equal(row, 0))
        if used.size:
            rest[k] = rest[k] - row * (rest[k][used[0]] / row[used[0]])
        else:
            rest[k] = rest[k] * 0  # the argument does not move, nor does its activation
    left = size_of(rest)
    return 2 * left * size_of(rows) * steepest if left else left


def _steepest(found: Segment) -> Fraction:
    """The largest slope of a segment with one layer of activations between states of one size."""
    agree(all(node.kind == "activation" for node in found.atoms), "a node is no activation")
    agree(is_zero(found.of_atoms), "activations of activations")
    agree(len(found.linear) == found.linear.shape[1], "the state changes its size")
    return max((max(map(abs, slopes(node))) for node in found.atoms), default=Fraction(0))


def _gradient(graph: Graph, dim: int) -> Fraction:
    """J = P + B D A = Jᵀ [T2']."""
    found = whole(graph)
    shear = _asymmetry(found.nonlinear, found.of_state, _steepest(found))
    return size_of(found.linear - found.linear.T) + shear


def _symplectic(graph: Graph, dim: int) -> Fraction:
    """JᵀS'J = S on every segment, S' being P⁻ᵀSP⁻¹ but at the end [T13]: what is off is
    PᵀS'P - S, M - Mᵀ with M = PᵀS'B D A, and AᵀD BᵀS'B D A. The defect of a segment grows by
    |J|² of those before it."""
    states = cuts(graph)
    shapes = {graph[name].shape for state in (states[0], states[-1]) for name in state}
    agree(len(shapes) == 1, "the shape is not kept")
    agree(state_size(graph, states[0]) <= LARGEST_STATE, "a state is too large to follow exactly")
    canonical = form = symplectic_form(graph[states[0][0]].shape, dim)
    total, growth = Fraction(0), Fraction(1)
    for k, (before, after) in enumerate(pairwise(states)):
        found = segment(graph, before, after)
        steepest = _steepest(found)
        next_form = canonical
        if k < len(states) - 2:
            inverse = _inverse(found.linear)
            next_form = multiplied(multiplied(inverse.T, form), inverse)
        pushed = multiplied(found.linear.T, next_form)
        reach = size_of(found.of_state) * steepest
        itself = size_of(multiplied(multiplied(found.nonlinear.T, next_form), found.nonlinear))
        defect = size_of(multiplied(pushed, found.linear) - form) + itself * reach**2
        defect += _asymmetry(multiplied(pushed, found.nonlinear), found.of_state, steepest)
        total = counted(total + growth * defect)
        growth = counted(growth * (size_of(found.linear) + size_of(found.nonlinear) * reach) ** 2)
        form = next_form
    return total


def _volume(graph: Graph, dim: int) -> Fraction:
    """det J = det P on every segment whose new state does not feed back into its own nonlinear
    entries [T12]: no cycle runs through N and A P⁻¹ B."""
    states, total = cuts(graph), Fraction(1)
    for before, after in pairwise(states):
        found = segment(graph, before, after)
        agree(len(found.linear) == found.linear.shape[1], "the state changes its size")
        spend(_elimination(found.linear))
        determinant = abs(exact(rational(found.linear).det()))
        agree(determinant != 0, "its linear part is singular")
        total = counted(total * determinant)
        if found.nonlinear.size:
            back = multiplied(_inverse(found.linear), found.nonlinear)
            spend(float(len(found.of_atoms)) ** 3)
            fed = np.not_equal(found.of_state, 0).astype(float) @ np.not_equal(back, 0)
            reads = (fed > 0) | np.not_equal(found.of_atoms, 0)
            agree(not _has_cycle(reads), "the new state feeds back into its own nonlinearity")
    return abs(total - 1)


def _has_cycle(reads: Array) -> bool:
    """Whether entries that read each other do so in a circle."""
    left = np.ones(len(reads), bool)
    while left.any():
        free = left & ~(reads & left).any(1)
        if not free.any():
            return True
        left &= ~free
    return False


def _mass(graph: Graph, dim: int) -> Fraction:
    """1ᵀ pulled back through the graph vanishes at every nonlinear node, or does not mind the order
    at one that sorts, is 1ᵀ at the input, and the constants on the way add up to 0 [T14]."""
    moving(graph)
    affordable(graph, graph.values(), 1)
    names = list(graph)
    spend(6 * OBJECT * sum(math.prod(graph[name].shape) for name in (names[0], names[-1])))
    reached: dict[str, Array] = {names[-1]: _ones(graph[names[-1]].shape)}
    offset = kinds.flint.fmpq(0)
    for node in reversed(graph.values()):
        if node.name not in reached or node.kind == "input":
            continue
        functional = reached.pop(node.name)
        if is_zero(functional):
            continue
        if node.kind == "sort":
            along = functional.take([0], 1 + node.attributes["dim"])
            agree(bool((functional == along).all()), f"the sum depends on {node.name}")
            parts = [functional]
        elif node.kind == "constant":
            offset += (functional * numbers(node, fractions)["value"]).sum()
            continue
        else:
            agree(node.kind in LINEAR, f"the sum depends on {node.name}")
            given = numbers(node, fractions)
            offset += (functional * biased(node, functional * 0, given)).sum()
            shapes = [graph[name].shape for name in node.inputs]
            parts = pulled(node, given, functional, shapes)
        for name, part in zip(node.inputs, parts, strict=True):
            reached[name] = reached[name] + part if name in reached else part
    agree(offset == 0, "the constants add to the sum")
    at_input = reached.get(names[0], np.zeros((1, *graph[names[0]].shape), object))
    gaps = (at_input - _ones(graph[names[0]].shape)).flat
    return max((abs(exact(v)) for v in gaps), default=Fraction(0))


def _ones(shape: tuple[int, ...]) -> Array:
    return fractions(np.ones((1, *shape)))


def _shift(graph: Graph, dim: int) -> Fraction:
    """Every value is shifted along with the input, or does not change [T16]."""
    spend(20 * sum(cost_of(node, graph) for node in graph.values()))
    start, end = next(iter(graph.values())), next(reversed(graph.values()))
    agree("unknown" not in {node.kind for node in graph.values()}, "an operator is unknown")
    agree(start.shape != (), "one number has no dimension that is shifted")
    for axis in shifted(len(start.shape)):
        n, moves = start.shape[axis], {start.name: True}
        for node in list(graph.values())[1:]:
            entire = _reduces(node, graph, axis)
            if node.kind != "constant" and (entire or not any(moves[i] for i in node.inputs)):
                moves[node.name] = False
                continue
            for name in node.inputs:
                size = (1, *graph[name].shape)[axis] if len(graph[name].shape) >= -axis else 1
                fits = size == n if moves[name] else size == 1 and node.kind in ENTRYWISE
                agree(fits, f"{name} does not move with {node.name}")
            along = len(node.shape) >= -axis and node.shape[axis] == n
            moves[node.name] = along and _commutes(node, graph, axis)
            agree(moves[node.name] or node.kind == "constant",
                  f"{node.kind} ({node.name}) does not commute with a shift")  # fmt: skip
        agree(moves[end.name], "the output does not move")
    return Fraction(0)


def _reduces(node: Node, graph: Graph, axis: int) -> bool:
    """Whether it takes the sum, the largest or the norm of all along an axis, or sorts them."""
    if node.kind not in ("window_sum", "window_max", "norm", "logsumexp", "sort"):
        return False
    shape, at = graph[node.inputs[0]].shape, node.attributes
    place = len(shape) + axis
    if node.kind == "sort":
        return place == at["dim"]
    if place not in at["dims"]:
        return False
    return node.kind in ("norm", "logsumexp") or at["windows"][at["dims"].index(place)] == [
        [0, shape[place]]
    ]


def _commutes(node: Node, graph: Graph, axis: int) -> bool:
    """Whether a node commutes with shifts of an axis of all its inputs."""
    at, place = node.attributes, len(node.shape) + axis
    if node.kind in ("conv", "adjoint"):
        k = len(at["stride"]) + axis
        if k < 0:  # the channels
            return False
        size = node.constants["weight"].values.shape[axis]
        same = at["stride"][k] == 1 and sum(at["padding"][k]) == at["dilation"][k] * (size - 1)
        return same and (at["circular"] or not any(at["padding"][k]))
    if node.kind == "linear":
        weight = node.constants["weight"].values
        around = np.roll(weight, (1, 1), (0, 1))
        return _flat(node, axis, "bias") and (axis < -1 or np.array_equal(weight, around))
    if node.kind in ("gather", "reshape", "concat"):
        shapes = [graph[name].shape for name in node.inputs]
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
        labels = [np.arange(first + 1, first + 1 + math.prod(shape)).reshape(1, *shape)
                  for first, shape in zip(ends, shapes, strict=False)]  # fmt: skip
        rolled = value(node, numbers(node, fractions), [np.roll(v, 1, axis) for v in labels])
        return np.array_equal(
            rolled, np.roll(value(node, numbers(node, fractions), labels), 1, axis)
        )
    if node.kind in ("window_sum", "window_max", "norm", "logsumexp"):
        return place >= 0 and place not in at["dims"]
    if node.kind in ("softmax", "log_softmax", "normalise", "sort"):
        return True
    return node.kind in ("constant", "scale", "combine", *ENTRYWISE) and _flat(node, axis)


def _flat(node: Node, axis: int, *uses: str) -> bool:
    """Whether the constants of a node do not change along an axis."""
    found = [w.values for use, w in node.constants.items() if not uses or use in uses]
    return all(v.ndim < -axis or bool((v == np.roll(v, 1, axis)).all()) for v in found)


PROOFS: dict[str, tuple[str, Callable[[Graph, int], Fraction]]] = {
    "orthogonal": ("orthogonal", _orthogonal),
    "gradient-field": ("T2'", _gradient),
    "norm-preserving": ("T15", _norm),
    "mass-preserving": ("T14", _mass),
    "volume-preserving": ("T12", _volume),
    "symplectic": ("T13", _symplectic),
    "equivariant:shift": ("T16", _shift),
}
"""By property, the theorem and its proof: (graph, dim) -> an upper bound on the defect."""


def prove(name: str, graph: Graph, output: str, dim: int) -> tuple[str, Fraction] | str:
    """The theorem and a bound on the defect; why there is none where no proof is known here."""
    theorem, proof = PROOFS[name]
    kinds.library()
    try:
        plain = simplified(graph, output)
        defect = proof(plain, dim)
        for node in plain.values():  # 0 times no number is none, nor do two of them cancel
            without = node.kind == "normalise" and Fraction(node.attributes["epsilon"]) <= 0
            without |= node.kind == "quotient" and not _has_no_zero(plain[node.inputs[1]])
            agree(not without, f"{node.name} may divide by 0")
        return theorem, defect
    except Wrong as reason:
        return str(reason)
    except ArithmeticError:
        return "its linear part is singular"


def _has_no_zero(node: Node) -> bool:
    """Whether it is a constant without an entry 0."""
    if node.kind != "constant":
        return False
    weight = node.constants["value"]
    return bool(weight.factor) and bool((weight.values != 0).all())


def _elimination(array: Array) -> float:
    """The cost of a determinant or an inverse, whose numbers are as long as all of a row."""
    return float(len(array)) ** 4 * (bits(array) + 64) / 12


def _inverse(array: Array) -> Array:
    used = int(np.count_nonzero(np.not_equal(array, 0)))
    agree(used <= 2**14, f"an inverse with {used} entries takes too long")
    spend(_elimination(array))
    return objects(rational(array).inv().entries(), array.shape)
