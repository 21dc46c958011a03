"""The Lipschitz constant of a graph from a semidefinite matrix, in exact fractions (LipSDP)."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from verification.checker import kinds
from verification.checker.kinds import Array, objects
from verification.checker.nodes import slopes
from verification.checker.reading import agree
from verification.checker.segments import Graph, multiplied, simplified, size_of, whole
from verification.checker.work import spend


def semidefinite(graph: Graph, output: str, stated: Mapping[str, Fraction | None]) -> Fraction:
    """A bound on the square of the Lipschitz constant, `square` + `slack` g, from multipliers
    t_0, t_1, ... >= 0 of the units: where P + slack I is positive definite for

        P = square [I 0; 0 0] - OᵀO - sym((E - low A)ᵀ T (high A - E)),

    O z is the output, A z the units' arguments and E z the units for z = (x, units), and |z|² <=
    g |x|². (w - low v)(high v - w) >= 0 for the units w of slopes in [low, high] at v = A z, so
    0 <= zᵀ P z + slack |z|² gives the bound. [Fazlyab et al. 2019, LipSDP-Neuron]"""
    kinds.library()
    found = whole(simplified(graph, output))
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
        steepest = max(map(abs, ends)) * size_of(arguments[first : first + size])
        growth, first = growth * (1 + steepest**2), first + size
    below = own - objects(low, (-1, 1)) * arguments
    above = objects([given[f"t_{k}"] for k in range(count)], (-1, 1)) * (
        objects(high, (-1, 1)) * arguments - own
    )
    mixed = multiplied(below.T, above)
    matrix = (
        _identity(n + count) * given["slack"]
        - multiplied(maps.T, maps)
        - (mixed + mixed.T) * exact(1, 2)
    )
    matrix[:n, :n] = matrix[:n, :n] + _identity(n) * given["square"]
    agree(_positive(matrix), "its matrix is not shown to be positive definite")
    return numbers_of["square"] + numbers_of["slack"] * growth


def _identity(n: int) -> Array:
    return np.eye(n, dtype=np.int64).astype(object)


def _positive(matrix: Array) -> bool:
    """Whether a symmetric matrix is positive definite: by elimination in balls."""
    spend(1e3 * len(matrix) ** 3)
    with kinds.flint_context(400):
        rest: Any = np.frompyfunc(kinds.flint.arb, 1, 1)(matrix)
        while len(rest):
            if not rest[0, 0] > 0:
                return False
            rest = rest[1:, 1:] - np.outer(rest[1:, 0], rest[0, 1:]) / rest[0, 0]
    return True
