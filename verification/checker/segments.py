"""A graph between two of its states, in exact fractions.

Between two cuts of a graph, where exactly as many entries are needed as the input has, the state
y after is P x + B s + c, with x the state before and s = σ(A x + N s), ... the outputs of the
nonlinear nodes in between. P, B, A and N are the graph's own values at a basis.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from verification.checker import kinds
from verification.checker.kinds import Array, fractions, numbers, times, without_bias
from verification.checker.nodes import root_up
from verification.checker.reading import Node, agree
from verification.checker.values import LINEAR, biased, value
from verification.checker.work import (
    CALL,
    OBJECT,
    common,
    cost_of,
    price,
    spend,
    stored,
    total,
    work_of,
)

Graph = dict[str, Node]
LARGEST_STATE, LARGEST_FORM, LARGEST_FORMS = 256, 2**21, 2**25
"""Entries of a state, of the form of one node, and of those of all nodes."""
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
        text = json.dumps(about, sort_keys=True)
        spend(CALL + 50 * len(text))
        name = known.setdefault(text, node.name)
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
            fresh = f"{node.name}, plain"
            while fresh in graph or fresh in found:
                fresh += "'"
            inner = add(replace(plain, name=fresh))
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


def moving(graph: Graph) -> set[str]:
    """The nodes that depend on the input. Wrong where nothing is known of one."""
    spend(sum(1e3 + 100 * len(node.inputs) for node in graph.values()))
    found: set[str] = set()
    for node in graph.values():
        agree(node.kind != "unknown", f"nothing is known of {node.name}")
        if node.kind == "input" or any(name in found for name in node.inputs):
            found.add(node.name)
    return found


def state_size(graph: Graph, state: list[str]) -> int:
    """Entries of a state."""
    return sum(math.prod(graph[name].shape) for name in state)


def cuts(graph: Graph) -> list[list[str]]:
    """The states, from the input to the output."""
    names, moves = list(graph), moving(graph)
    spend(200 * len(names) ** 2)
    last = {name: k for k, node in enumerate(graph.values()) for name in node.inputs}
    states, n = [[names[0]]], state_size(graph, names[:1])
    for k in range(1, len(names) - 1):
        live = [name for name in names[: k + 1] if name in moves and last.get(name, 0) > k]
        if live != states[-1] and state_size(graph, live) == n:
            states.append(live)
    return [*states, names[-1:]]


def segment(graph: Graph, before: list[str], after: list[str]) -> Segment:
    """The graph between two states."""
    order, moves = list(graph), moving(graph)
    inside, pending = set(after) - set(before), list(set(after) - set(before))
    while pending:
        for name in set(graph[pending.pop()].inputs) - set(before) - inside:
            inside.add(name)
            pending.append(name)
    nodes = [graph[name] for name in order if name in inside]
    agree(all(node.kind != "input" for node in nodes), "a state leaves something out")
    atoms = [node for node in nodes if node.kind not in (*LINEAR, "constant")]
    n, count = state_size(graph, before), sum(math.prod(node.shape) for node in atoms)
    agree(n <= LARGEST_STATE, f"a state of {n} entries is too large to follow exactly")
    width = n + count + 1  # and the constants
    affordable(graph, nodes, width)
    spend(100 * width * (n + count))
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
        agree(node.name in moves or node.kind in ("constant", *LINEAR), "a constant is computed")
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


def affordable(graph: Graph, nodes: Iterable[Node], width: int) -> None:
    """Wrong where following so many columns through the nodes takes too long, or too much room."""
    nodes = list(nodes)
    work = sum(work_of(node, graph) for node in nodes) * width
    agree(work < LARGEST_WORK, f"{work:.0e} exact products are too many")
    entries = sum(math.prod(node.shape) for node in nodes) * width
    agree(entries <= LARGEST_FORMS, f"{entries} exact numbers are too many")
    spend(sum(cost_of(node, graph) + OBJECT * stored(node) for node in nodes))
    spend(work * price(sum(length(node) for node in nodes)))


def length(node: Node) -> float:
    """Bits by which the numbers of a node lengthen those that it is applied to, at most: those of
    the largest one, of a common denominator, and of the number of terms."""
    about, spread = node.attributes, 0.0
    exact = [Fraction(c) for c in about.get("coefficients", ())]
    exact += [Fraction(w) for along in about.get("weights", ()) for w in along]
    for use, weight in node.constants.items():
        exact.append(weight.factor)
        sizes = np.abs(weight.values[weight.values != 0]) if use != "index" else np.zeros(0)
        if sizes.size:
            low, high = (math.frexp(float(size))[1] for size in (sizes.min(), sizes.max()))
            spread += max(high, 0) + max(53 - low, 0)
    largest = max((c.numerator.bit_length() for c in exact), default=0)
    terms = stored(node) + len(node.inputs)
    return spread + largest + common(c.denominator for c in exact) + terms.bit_length()


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


def whole(graph: Graph) -> Segment:
    """The graph from its input to its output."""
    return segment(graph, list(graph)[:1], list(graph)[-1:])


def exact(value: Any) -> Fraction:
    """An entry, which flint holds or NumPy."""
    return Fraction(int(value.p), int(value.q)) if hasattr(value, "p") else Fraction(int(value))


def largest_sum(matrix: Array) -> Fraction:
    """The largest row sum of absolute values, which bounds the norm of a symmetric matrix."""
    return max((total(abs(exact(v)) for v in row) for row in matrix), default=Fraction(0))


def bits(*arrays: Array) -> int:
    """Of the longest numbers of each, and of their common denominators, together."""
    spend(sum(500 * array.size for array in arrays))
    found = [[exact(v) for v in array.flat] for array in arrays]
    longest = sum(max((abs(v.numerator) for v in each), default=0).bit_length() for each in found)
    return longest + sum(common(v.denominator for v in each) for each in found)


def multiplied(a: Array, b: Array) -> Array:
    """The product of two matrices, paid for: python-flint's of matrices are faster."""
    spend(a.size * b.shape[1] * price(bits(a, b)) / 20)
    return times(a, b)


def is_zero(array: Array) -> bool:
    return not np.not_equal(array, 0).any()


def rational(array: Array) -> Any:
    return kinds.flint.fmpq_mat(len(array), array.shape[1], list(array.flat))


def size_of(matrix: Array) -> Fraction:
    """An upper bound on the norm: that of Frobenius, or from the largest row and column sums."""
    if is_zero(matrix):
        return Fraction(0)
    frobenius = total(exact(v) ** 2 for v in matrix.flat)
    return root_up(min(frobenius, largest_sum(matrix) * largest_sum(matrix.T)))


def shifted(rank: int) -> tuple[int, ...]:
    """The axes that are shifted: the last one, or the last two of an image."""
    return (-2, -1) if rank >= 3 else (-1,)


def symplectic_form(shape: tuple[int, ...], dim: int) -> Array:
    """S with S (q, p) = (p, -q) for the halves along dimension `dim`, as integers."""
    agree(-len(shape) <= dim < len(shape) and shape[dim] % 2 == 0, "there are no halves")
    basis = np.eye(math.prod(shape), dtype=np.int64).reshape(-1, *shape)
    axis = dim % len(shape) + 1
    q, p = np.split(basis, 2, axis)
    return np.concatenate([p, -q], axis).reshape(len(basis), -1).T.astype(object)
