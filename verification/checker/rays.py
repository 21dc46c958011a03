"""Entries that follow one entry of an earlier node each, along two rays: multiples of it by one
number where it is positive, by another where it is negative.

All that one entry moves has two speeds, the roots of the sums of squares of those numbers. The
largest of all speeds is the Lipschitz constant; where each is 1, the norm is kept.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verification.checker.kinds import Array, numbers, plain
from verification.checker.reading import Node, agree
from verification.checker.values import value
from verification.checker.work import CALL, OBJECT, counted, spend

LARGEST = 2**20
"""Entries of a node that are followed."""


@dataclass(frozen=True)
class Rays:
    """By entry, with one example in front: the `label` of what it follows, 0 for nothing, and its
    values where that is 1 and where that is -1."""

    label: Array
    above: Array
    below: Array


def squares(graph: dict[str, Node], start: str, end: str) -> list[Fraction]:
    """The squares of both speeds of every entry of `start`. Raises Wrong where the value of `end`
    is of another form."""
    shape = graph[start].shape
    agree(math.prod(shape) <= LARGEST, f"{start} is too large to follow its entries")
    label = 1 + np.arange(np.prod(shape, dtype=np.int64)).reshape(1, *shape)
    one = np.full(label.shape, Fraction(1), object)
    found = {start: Rays(label, one, -one)}
    for node in graph.values():
        if node.name in found or not node.inputs or not all(i in found for i in node.inputs):
            continue
        rays = _moved(node, [found[name] for name in node.inputs])
        if rays is not None:
            found[node.name] = rays
    agree(end in found, f"{end} follows no single entries of {start}")
    last = found[end]
    totals = []
    for side in (last.above, last.below):
        total = [Fraction(0)] * (label.size + 1)
        for k, speed in zip(last.label.reshape(-1), side.reshape(-1), strict=True):
            total[k] = counted(total[k] + counted(speed * speed))
        totals += total[1:]
    return totals


def _paid(values: Array) -> Array:
    return np.asarray(np.frompyfunc(counted, 1, 1)(values), object)


def _moved(node: Node, x: list[Rays]) -> Rays | None:
    size = max(rays.label.size for rays in x)
    if size > LARGEST or int(np.prod(node.shape, dtype=np.int64)) > LARGEST:
        return None
    spend(CALL + OBJECT * sum(rays.label.size for rays in x))
    if node.kind in ("gather", "reshape", "concat"):
        given = numbers(node, plain)
        parts = [[r.label for r in x], [r.above for r in x], [r.below for r in x]]
        return Rays(*(value(node, given, part) for part in parts))
    label, at = x[0].label, node.attributes
    if node.kind == "combine" and not node.constants:
        if not all(np.array_equal(rays.label, label) for rays in x):
            return None
        factors = [Fraction(c) for c in at["coefficients"]]
        agree(len(factors) == len(x), f"{node.name} lacks coefficients")
        above: Array = np.zeros(label.shape, object)
        below: Array = np.zeros(label.shape, object)
        for c, rays in zip(factors, x, strict=True):
            above = _paid(above + c * rays.above)
            below = _paid(below + c * rays.below)
        return Rays(label, above, below)
    if node.kind == "activation" and at["function"] in ("relu", "abs", "leaky_relu"):
        slope = Fraction(at["parameters"].get("negative_slope", 0))
        slope = Fraction(-1) if at["function"] == "abs" else slope
        bent = (np.where(side > 0, side, slope * side) for side in (x[0].above, x[0].below))
        return Rays(label, *map(_paid, bent))
    return None
