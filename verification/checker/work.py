"""How much work a certificate may take: estimates from sizes and from lengths of numbers, which are
the same on every machine.

A costly step says what it costs before it is taken. The unit is about a nanosecond.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction

from verification.checker.reading import Node, need

LARGEST = 2e13
"""Units for a whole certificate: hours, where honest ones take seconds, or minutes for norms that
are proved by banded factorisations."""
CALL = 1e4
"""Of one step in Python, with the NumPy calls that it makes."""
OBJECT = 1e3
"""Of making one number that is exact, or a ball."""

_left: ContextVar[list[float] | None] = ContextVar("left", default=None)


@contextmanager
def limited() -> Iterator[None]:
    """All that is spent inside is at most LARGEST."""
    token = _left.set([LARGEST])
    try:
        yield
    finally:
        _left.reset(token)


def spend(cost: float) -> None:
    """Raise Unreadable where all costs together become too large."""
    left = _left.get()
    if left is not None:
        left[0] -= cost
        need(left[0] >= 0, "too much work: its checks would take hours")


def price(bits: float) -> float:
    """Of a product, or a sum, of fractions of so many bits in python-flint."""
    return 300 * (1 + (bits / 500) ** 1.5)


def counted(value: Fraction) -> Fraction:
    """A fraction that was computed in Python, and paid for."""
    bits = value.numerator.bit_length() + value.denominator.bit_length()
    spend(2e3 + (bits / 50) ** 2)
    return value


def total(terms: Iterable[Fraction]) -> Fraction:
    """Their sum, each addition paid for: denominators may multiply."""
    found = Fraction(0)
    for term in terms:
        found = counted(found + term)
    return found


def common(denominators: Iterable[int]) -> int:
    """Bits of their least common multiple."""
    found = 1
    for each in set(denominators):
        found = math.lcm(found, each)
        spend(100 + found.bit_length() * each.bit_length() / 2500)
    return found.bit_length()


def work_of(node: Node, graph: Mapping[str, Node]) -> float:
    """Products of one evaluation, about, and entries that it reads."""
    shapes = [graph[name].shape for name in node.inputs] or [node.shape]
    first, size = shapes[0], math.prod(node.shape)
    work = max(size, sum(math.prod(shape) for shape in shapes))
    if node.kind == "matmul":
        work = max(work, size * math.prod(first[-1:]))
    elif node.kind in ("linear", "conv", "adjoint") and "weight" in node.constants:
        places = {"linear": first[:-1], "conv": node.shape[1:], "adjoint": first[1:]}
        work = max(work, node.constants["weight"].values.size * math.prod(places[node.kind]))
    elif node.kind in ("window_sum", "window_max"):
        extents = dict(enumerate(first))
        for dim, along in zip(node.attributes["dims"], node.attributes["windows"], strict=False):
            work += math.prod(extents.values()) * len(along)
            extents[dim] = len(along)
    return float(work)


def stored(node: Node) -> int:
    """Entries of its constants."""
    return sum(weight.values.size for weight in node.constants.values())


def cost_of(node: Node, graph: Mapping[str, Node]) -> float:
    """Of one evaluation in float64, with that of its numbers, windows and taps."""
    cost = 10 * work_of(node, graph) + CALL * (2 + len(node.inputs)) + 5 * stored(node)
    if node.kind in ("conv", "adjoint") and "weight" in node.constants:
        cost += 2 * CALL * math.prod(node.constants["weight"].values.shape[2:])
    if "windows" in node.attributes and node.inputs:
        extents = dict(enumerate(graph[node.inputs[0]].shape))
        for dim, along in zip(node.attributes["dims"], node.attributes["windows"], strict=False):
            cost += len(along) * (CALL + 100 * extents.get(dim, 0))
    return cost
