"""Equalities that hold by structure, in exact fractions.

Between two cuts of a graph, where exactly as many entries are needed as the input has, the state
y after is P x + B s + c, with x the state before and s = σ(A x + N s), ... the outputs of the
nonlinear nodes in between. P, B, A and N are the graph's own values at a basis. A proof returns an
upper bound on the defect, 0 where the property holds exactly; Wrong says that none is known here.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from verification.checker import kinds
from verification.checker.kinds import Array, fractions, numbers, objects, times, without_bias
from verification.checker.nodes import root_up, slopes
from verification.checker.reading import Node, Wrong, agree
from verification.checker.values import (
    LINEAR,
    biased,
    pulled,
    shifted,
    symplectic_form,
    value,
    work_of,
)

Graph = dict[str, Node]
LARGEST_STATE, LARGEST_FORM = 256, 2**21
"""Entries of a state, and of the form of one node."""
LARGEST_WORK = 2e8
"""Exact products of a proof, about."""
ENTRYWISE = ("activation", "product", "quotient", "maximum", "minimum")


@dataclass(frozen=True)
class Segment:
    """P (m, n), B (m, k), the arguments A (k, n) and N (k, k) of the nonlinear entries, where an
    entry of a node that is not an activation of one stands for all that it may depend on, the
    constants c (m,), and the nonlinear nodes."""

    linear: Array
    nonlinear: Array
    of_state: Array
    of_atoms: Array
    constant: Array
    atoms: list[Node]


def simplified(graph: Graph, output: str) -> Graph:
    """What the output depends on, and the input; nodes that compute the same, once; (c x) y as
    c (x y)."""
    known: dict[str, str] = {}
    same: dict[str, str] = {}
    found: Graph = {}

    def add(node: Node) -> str:
        constants = {use: [w.key, str(w.factor)] for use, w in node.constants.items()}
        own = node.name if node.kind in ("input", "unknown") else None
        about = [node.kind, node.inputs, dict(node.attributes), constants, node.shape, own]
        name = known.setdefault(json.dumps(about, sort_keys=True), node.name)
        found.setdefault(name, node)
        return name

    for node in graph.values():
        number, inputs = Fraction(1), [same[name] for name in node.inputs]
        for k in range(len(inputs) if node.kind in ("product", "matmul") else 0):
            source = found[inputs[k]]
            if source.kind == "combine" and len(source.inputs) == 1 and not source.constants:
                number *= Fraction(source.attributes["coefficients"][0])
                inputs[k] = source.inputs[0]
        plain = replace(node, inputs=tuple(inputs))
        if number != 1:
            inner = add(replace(plain, name=f"{node.name}, plain"))
            about = {"coefficients": [str(number)]}
            plain = Node(node.name, "combine", (inner,), node.shape, about, {})
        same[node.name] = add(plain)
    needed, start = {same[output]}, next(iter(graph))
    for name in reversed(found):
        if name in needed:
            needed.update(found[name].inputs)
    kept = {name: node for name, node in found.items() if name in needed or name == start}
    kept[same[output]] = kept.pop(same[output])  # the last, so that it is the last state
    return kept


def _moving(graph: Graph) -> set[str]:
    found: set[str] = set()
    for node in graph.values():
        agree(node.kind != "unknown", f"nothing is known of {node.name}")
        if node.kind == "input" or any(name in found for name in node.inputs):
            found.add(node.name)
    return found


def _size(graph: Graph, state: list[str]) -> int:
    return sum(math.prod(graph[name].shape) for name in state)


def cuts(graph: Graph) -> list[list[str]]:
    """The states, from the input to the output."""
    names, moving = list(graph), _moving(graph)
    last = {name: k for k, node in enumerate(graph.values()) for name in node.inputs}
    states, n = [[names[0]]], _size(graph, names[:1])
    for k in range(1, len(names) - 1):
        live = [name for name in names[: k + 1] if name in moving and last.get(name, 0) > k]
        if live != states[-1] and _size(graph, live) == n:
            states.append(live)
    return [*states, names[-1:]]


def segment(graph: Graph, before: list[str], after: list[str]) -> Segment:
    """The graph between two states."""
    order, moving = list(graph), _moving(graph)
    inside, pending = set(after) - set(before), list(set(after) - set(before))
    while pending:
        for name in set(graph[pending.pop()].inputs) - set(before) - inside:
            inside.add(name)
            pending.append(name)
    nodes = [graph[name] for name in order if name in inside]
    agree(all(node.kind != "input" for node in nodes), "a state leaves something out")
    atoms = [node for node in nodes if node.kind not in (*LINEAR, "constant")]
    n, count = _size(graph, before), sum(math.prod(node.shape) for node in atoms)
    agree(n <= LARGEST_STATE, f"a state of {n} entries is too large to follow exactly")
    width = n + count + 1  # and the constants
    _affordable(nodes, width)
    forms: dict[str, Array] = {}
    place = 0

    def units(node: Node) -> Array:
        nonlocal place
        size = math.prod(node.shape)
        form = np.zeros((width, size), object)
        form[np.arange(place, place + size), np.arange(size)] = kinds.flint.fmpq(1)
        place += size
        return form.reshape(width, *node.shape)

    for name in before:
        forms[name] = units(graph[name])
    rows = []
    for node in nodes:
        agree(node.name in moving or node.kind in ("constant", *LINEAR), "a constant is computed")
        inputs = [forms[name] for name in node.inputs]
        size = width * math.prod(node.shape)
        agree(size <= LARGEST_FORM, f"{node.name} is too large to follow exactly")
        if node.kind in LINEAR or node.kind == "constant":
            given = numbers(node, fractions)
            if node.kind == "constant":
                form = np.zeros((width, *node.shape), object)
                form[-1] = given["value"]
            else:
                form = value(node, without_bias(given), inputs)
                form[-1:] = biased(node, form[-1:], given)
        else:
            arguments = _arguments(node, inputs)
            rows.append(arguments)
            form = units(node)
        forms[node.name] = form
    end = np.concatenate([forms[name].reshape(width, -1) for name in after], 1).T
    arguments = np.concatenate(rows, 1).T if rows else np.zeros((0, width), object)
    return Segment(
        end[:, :n], end[:, n:-1], arguments[:, :n], arguments[:, n:-1], end[:, -1], atoms
    )  # fmt: skip


def _affordable(nodes: Iterable[Node], width: int) -> None:
    work = sum(work_of(node) for node in nodes) * width
    agree(work < LARGEST_WORK, f"{work:.0e} exact products are too many")


def _arguments(node: Node, inputs: list[Array]) -> Array:
    """The argument of every entry of an activation; of another node, a 1 for every column that an
    entry may depend on."""
    width = len(inputs[0])
    if node.kind == "activation":
        return inputs[0].reshape(width, -1)
    found = np.zeros((width, *node.shape), np.int64)
    for form in inputs:
        used = np.not_equal(form, 0)
        if node.kind not in ENTRYWISE:
            used = used.reshape(width, -1).any(1)
        ones = len(node.shape) + 1 - used.ndim
        found |= used.reshape(width, *(1,) * ones, *used.shape[1:])
    return found.reshape(width, -1).astype(object)


def _whole(graph: Graph) -> Segment:
    return segment(graph, list(graph)[:1], list(graph)[-1:])


def _exact(value: Any) -> Fraction:
    return Fraction(int(value.p), int(value.q)) if hasattr(value, "p") else Fraction(int(value))


def _largest_sum(matrix: Array) -> Fraction:
    """The largest row sum of absolute values, which bounds the norm of a symmetric matrix."""
    return max((sum((abs(_exact(v)) for v in row), Fraction(0)) for row in matrix),
               default=Fraction(0))  # fmt: skip


def _is_zero(array: Array) -> bool:
    return not np.not_equal(array, 0).any()


def _matrix(array: Array) -> Any:
    return kinds.flint.fmpq_mat(len(array), array.shape[1], list(array.flat))


# LipSDP. -------------------------------------------------------------------------------------


def semidefinite(graph: Graph, output: str, stated: Mapping[str, Fraction | None]) -> Fraction:
    """A bound on the square of the Lipschitz constant, `square` + `slack` g, from multipliers
    t_0, t_1, ... >= 0 of the units: where P + slack I is positive definite for

        P = square [I 0; 0 0] - OᵀO - sym((E - low A)ᵀ T (high A - E)),

    O z is the output, A z the units' arguments and E z the units for z = (x, units), and |z|² <=
    g |x|². (w - low v)(high v - w) >= 0 for the units w of slopes in [low, high] at v = A z, so
    0 <= zᵀ P z + slack |z|² gives the bound. [Fazlyab et al. 2019, LipSDP-Neuron]"""
    kinds.library()
    found = _whole(simplified(graph, output))
    agree(all(node.kind == "activation" for node in found.atoms), "a node is no activation")
    (count, n), exact = found.of_state.shape, kinds.flint.fmpq
    names = {"square", "slack", *(f"t_{k}" for k in range(count))}
    numbers_of = {k: v for k, v in stated.items() if v is not None and v >= 0}
    agree(set(stated) == set(numbers_of) == names and count + n <= 200, "its multipliers")
    given = {k: exact(v.numerator, v.denominator) for k, v in numbers_of.items()}
    arguments = np.concatenate([found.of_state, found.of_atoms], 1)
    maps = np.concatenate([found.linear, found.nonlinear], 1)
    own = np.concatenate([np.zeros((count, n), object), _identity(count)], 1)
    low, high, growth, first = [], [], Fraction(1), 0
    for node in found.atoms:
        ends, size = slopes(node), math.prod(node.shape)
        low += [exact(ends[0].numerator, ends[0].denominator)] * size
        high += [exact(ends[1].numerator, ends[1].denominator)] * size
        steepest = max(map(abs, ends)) * _size_of(arguments[first : first + size])
        growth, first = growth * (1 + steepest**2), first + size
    below = own - objects(low, (-1, 1)) * arguments
    above = objects([given[f"t_{k}"] for k in range(count)], (-1, 1)) * (
        objects(high, (-1, 1)) * arguments - own
    )
    mixed = times(below.T, above)
    matrix = _identity(n + count) * given["slack"] - times(maps.T, maps) - (mixed + mixed.T) / 2
    matrix[:n, :n] = matrix[:n, :n] + _identity(n) * given["square"]
    agree(_positive(matrix), "its matrix is not shown to be positive definite")
    return numbers_of["square"] + numbers_of["slack"] * growth


def _identity(n: int) -> Array:
    return np.eye(n, dtype=np.int64).astype(object)


def _positive(matrix: Array) -> bool:
    """Whether a symmetric matrix is positive definite: by elimination in balls."""
    with kinds.flint_context(400):
        rest: Any = np.frompyfunc(kinds.flint.arb, 1, 1)(matrix)
        while len(rest):
            if not rest[0, 0] > 0:
                return False
            rest = rest[1:, 1:] - np.outer(rest[1:, 0], rest[0, 1:]) / rest[0, 0]
    return True


def _inverse(array: Array) -> Any:
    used = int(np.count_nonzero(np.not_equal(array, 0)))
    agree(used <= 2**14, f"an inverse with {used} entries takes too long")
    return _matrix(array).inv()


# The properties. -----------------------------------------------------------------------------


def _orthogonal(graph: Graph, dim: int) -> Fraction:
    """JᵀJ = I for an affine map."""
    kinds = {node.kind for node in graph.values()} - {"input", "constant", *LINEAR}
    agree(not kinds, f"it is not affine: {', '.join(sorted(kinds))}")
    found = _whole(graph)
    gram = times(found.linear.T, found.linear)
    return _largest_sum(gram - np.eye(len(gram), dtype=np.int64).astype(object))


def _norm(graph: Graph, dim: int) -> Fraction:
    """A linear isometry: | |Ax| - |x| | <= |AᵀA - I| |x| [T15]."""
    defect = _orthogonal(graph, dim)
    agree(_is_zero(_whole(graph).constant), "a bias moves the origin")
    return defect


def _size_of(matrix: Array) -> Fraction:
    """An upper bound on the norm: that of Frobenius, or from the largest row and column sums."""
    if _is_zero(matrix):
        return Fraction(0)
    frobenius = sum((_exact(v) ** 2 for v in matrix.flat), Fraction(0))
    return root_up(min(frobenius, _largest_sum(matrix) * _largest_sum(matrix.T)))


def _asymmetry(columns: Array, rows: Array, steepest: Fraction) -> Fraction:
    """An upper bound on |BDA - (BDA)ᵀ| for every diagonal D of at most `steepest`: BDA is the sum
    of d_i b_i a_iᵀ, so with b_i = c_i a_i + r_i it is that of RDA."""
    rest = columns.T.copy()
    for k, row in enumerate(rows):
        used = np.flatnonzero(np.not_equal(row, 0))
        if used.size:
            rest[k] = rest[k] - row * (rest[k][used[0]] / row[used[0]])
        else:
            rest[k] = rest[k] * 0  # the argument does not move, nor does its activation
    left = _size_of(rest)
    return 2 * left * _size_of(rows) * steepest if left else left


def _steepest(found: Segment) -> Fraction:
    """The largest slope of a segment with one layer of activations between states of one size."""
    agree(all(node.kind == "activation" for node in found.atoms), "a node is no activation")
    agree(_is_zero(found.of_atoms), "activations of activations")
    agree(len(found.linear) == found.linear.shape[1], "the state changes its size")
    return max((max(map(abs, slopes(node))) for node in found.atoms), default=Fraction(0))


def _gradient(graph: Graph, dim: int) -> Fraction:
    """J = P + B D A = Jᵀ [T2']."""
    found = _whole(graph)
    shear = _asymmetry(found.nonlinear, found.of_state, _steepest(found))
    return _size_of(found.linear - found.linear.T) + shear


def _symplectic(graph: Graph, dim: int) -> Fraction:
    """JᵀS'J = S on every segment, S' being P⁻ᵀSP⁻¹ but at the end [T13]: what is off is
    PᵀS'P - S, M - Mᵀ with M = PᵀS'B D A, and AᵀD BᵀS'B D A. The defect of a segment grows by
    |J|² of those before it."""
    states = cuts(graph)
    shapes = {graph[name].shape for state in (states[0], states[-1]) for name in state}
    agree(len(shapes) == 1, "the shape is not kept")
    canonical = form = symplectic_form(graph[states[0][0]].shape, dim)
    total, growth = Fraction(0), Fraction(1)
    for k, (before, after) in enumerate(pairwise(states)):
        found = segment(graph, before, after)
        steepest = _steepest(found)
        next_form = canonical
        if k < len(states) - 2:
            inverse = _inverse(found.linear)
            carried = inverse.transpose() * _matrix(form) * inverse
            next_form = objects(carried.entries(), form.shape)
        pushed = times(found.linear.T, next_form)
        reach = _size_of(found.of_state) * steepest
        itself = _size_of(times(times(found.nonlinear.T, next_form), found.nonlinear))
        defect = _size_of(times(pushed, found.linear) - form) + itself * reach**2
        defect += _asymmetry(times(pushed, found.nonlinear), found.of_state, steepest)
        total += growth * defect
        growth *= (_size_of(found.linear) + _size_of(found.nonlinear) * reach) ** 2
        form = next_form
    return total


def _volume(graph: Graph, dim: int) -> Fraction:
    """det J = det P on every segment whose new state does not feed back into its own nonlinear
    entries [T12]: no cycle runs through N and A P⁻¹ B."""
    states, total = cuts(graph), Fraction(1)
    for before, after in pairwise(states):
        found = segment(graph, before, after)
        agree(len(found.linear) == found.linear.shape[1], "the state changes its size")
        matrix = _matrix(found.linear)
        determinant = abs(_exact(matrix.det()))
        agree(determinant != 0, "its linear part is singular")
        total *= determinant
        if found.nonlinear.size:
            back = objects((_inverse(found.linear) * _matrix(found.nonlinear)).entries(),
                           found.nonlinear.shape)  # fmt: skip
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
    """1ᵀ pulled back through the graph vanishes at every nonlinear node, is 1ᵀ at the input, and
    the constants on the way add up to 0 [T14]."""
    _moving(graph)
    _affordable(graph.values(), 1)
    names = list(graph)
    reached: dict[str, Array] = {names[-1]: _ones(graph[names[-1]].shape)}
    offset = kinds.flint.fmpq(0)
    for node in reversed(graph.values()):
        if node.name not in reached or node.kind == "input":
            continue
        functional = reached.pop(node.name)
        if _is_zero(functional):
            continue
        agree(node.kind in LINEAR or node.kind == "constant", f"the sum depends on {node.name}")
        given = numbers(node, fractions)
        if node.kind == "constant":
            offset += (functional * given["value"]).sum()
            continue
        offset += (functional * biased(node, functional * 0, given)).sum()
        shapes = [graph[name].shape for name in node.inputs]
        for name, part in zip(node.inputs, pulled(node, given, functional, shapes), strict=True):
            reached[name] = reached[name] + part if name in reached else part
    agree(offset == 0, "the constants add to the sum")
    at_input = reached.get(names[0], np.zeros((1, *graph[names[0]].shape), object))
    gaps = (at_input - _ones(graph[names[0]].shape)).flat
    return max((abs(_exact(v)) for v in gaps), default=Fraction(0))


def _ones(shape: tuple[int, ...]) -> Array:
    return fractions(np.ones((1, *shape)))


def _shift(graph: Graph, dim: int) -> Fraction:
    """Every value is shifted along with the input, or does not change [T16]."""
    start, end = next(iter(graph.values())), next(reversed(graph.values()))
    agree("unknown" not in {node.kind for node in graph.values()}, "an operator is unknown")
    for axis in shifted(len(start.shape)):
        n, moves = start.shape[axis], {start.name: True}
        for node in list(graph.values())[1:]:
            whole = _reduces(node, graph, axis)
            if node.kind != "constant" and (whole or not any(moves[i] for i in node.inputs)):
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
    """Whether it takes the sum, the largest or the norm of all along an axis."""
    if node.kind not in ("window_sum", "window_max", "norm"):
        return False
    shape, at = graph[node.inputs[0]].shape, node.attributes
    place = len(shape) + axis
    if place not in at["dims"]:
        return False
    return node.kind == "norm" or at["windows"][at["dims"].index(place)] == [[0, shape[place]]]


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
    if node.kind in ("window_sum", "window_max", "norm"):
        return place >= 0 and place not in at["dims"]
    if node.kind in ("softmax", "normalise"):
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
        return theorem, proof(simplified(graph, output), dim)
    except Wrong as reason:
        return str(reason)
    except ArithmeticError:
        return "its linear part is singular"
