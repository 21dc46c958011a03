"""mass-preserving: the functional 1ᵀ pulled back through the graph [T14].

A linear node pulls a functional l on its output back to Aᵀl, exactly; a sort, one that does not
mind the order, to itself. What remains of it at another nonlinear node must vanish: exactly, or up
to a multiple of |x|_1 where the value there grows no faster. At the input it must be 1 again, and
the constants met on the way must add up to 0.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from dsnn.operators.rounding import gamma, up
from verification.activations import FUNCTIONS, SLOPES
from verification.balls_graph import float64
from verification.exact import LINEAR, RUN, Exact, added, backward, constant, exact, ones, zeros
from verification.graph import ROUNDED, Graph, Node
from verification.judgement import Open, Proof
from verification.properties_constants import has_constants
from verification.value_numbers import value_numbers
from verification.wording import at_most


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on |1ᵀf(x) - 1ᵀx| / |x|_1 over all x."""
    functionals, offset = pulled_back(graph)
    if offset:
        return Open(f"the constants of the graph add {float(offset):.3g} to the sum")
    at_input = functionals.pop(graph.input.name, zeros(graph.input.shape))
    gap = added([at_input, Exact(ones(graph.input.shape).ints, Fraction(-1))]).largest()
    left = _left(graph, functionals)
    total = _up(gap)
    growth = _growth(graph) if left else {}
    for name, largest in left.items():
        bound = growth[name]
        if math.isinf(bound):
            node = graph[name]
            what = node.attributes.get("operator", node.attributes.get("function", node.kind))
            return Open(f"the sum of the output depends on {what} ({name})")
        total += up(_up(largest) * bound) if bound else 0.0
    if total == 0:
        text = "1ᵀf(x) = 1ᵀx: the sum cancels at every nonlinearity, in exact arithmetic"
        return Proof(0.0, "T14", text)
    total = up(total)
    text = f"1ᵀf(x) is 1ᵀx up to {at_most(total)} |x|_1, from the rounding of the constants"
    return Proof(total, "T14", text)


def _up(value: Fraction) -> float:
    return up(float(value)) if value else 0.0


def pulled_back(graph: Graph) -> tuple[dict[str, Exact], Fraction]:
    """By name of the input and of every nonlinear node, the functional l on its value for which
    1ᵀf = sum of l(value) + offset; and the offset."""
    reached: dict[str, list[Exact]] = {graph.output: [ones(graph[graph.output].shape)]}
    kept: dict[str, Exact] = {}
    offset = Fraction(0)
    for node in reversed(graph.nodes):
        if node.name not in reached:
            continue
        functional = added(reached.pop(node.name))
        if functional.zero:
            continue
        if node.kind == "constant":
            offset += _paired(functional, constant(node.constants["value"]))
        elif node.kind in LINEAR and not _is_rounded(node):
            if "bias" in node.constants:
                offset += _paired(functional, _bias(node))
            shapes = [graph[name].shape for name in node.inputs]
            parts = backward(node, functional, shapes)
            for name, part in zip(node.inputs, parts, strict=True):
                reached.setdefault(name, []).append(part)
        elif node.kind == "sort" and _is_even(functional, node.attributes["dim"]):
            reached.setdefault(node.inputs[0], []).append(functional)
        else:
            kept[node.name] = functional
    return kept, offset


def _is_even(functional: Exact, dim: int) -> bool:
    """Whether entries that are sorted together count alike, so that their order does not."""
    return bool((functional.ints == functional.ints.take([0], dim)).all())


def _is_rounded(node: Node) -> bool:
    """Whether its constants are not exact: then nothing cancels through it."""
    return any(constant.rounded for constant in node.constants.values())


def _bias(node: Node) -> Exact:
    bias = constant(node.constants["bias"])
    if node.kind in ("conv", "adjoint"):
        return bias.reshape((-1, *[1] * (len(node.shape) - 1)))
    return bias


def _paired(functional: Exact, value: Exact) -> Fraction:
    product = functional.ints * np.broadcast_to(value.ints, functional.ints.shape)
    return Exact(product, functional.scale * value.scale).total()


def _left(graph: Graph, functionals: dict[str, Exact]) -> dict[str, Fraction]:
    """By nonlinear node, the largest coefficient that is left when those of equal entries, in
    this node or in others, are added."""
    numbers = value_numbers(graph)
    totals: dict[int, Fraction] = {}
    owner: dict[int, str] = {}
    for name, functional in functionals.items():
        for number, value in zip(
            numbers[name].flatten().tolist(), functional.fractions(), strict=True
        ):
            totals[number] = totals.get(number, Fraction(0)) + value
            owner[number] = name
    left: dict[str, Fraction] = {}
    for number, value in totals.items():
        if value:
            name = owner[number]
            left[name] = max(left.get(name, Fraction(0)), abs(value))
    return left


def _growth(graph: Graph) -> dict[str, float]:
    """By node, a c with |value|_1 <= c |x|_1 for all x; inf where none is known."""
    found: dict[str, float] = {}
    for node in graph:
        if node.kind == "input":
            found[node.name] = 1.0
            continue
        before = [found[name] for name in node.inputs]
        shapes = [graph[name].shape for name in node.inputs]
        found[node.name] = up(_grows(node, before, shapes))
    return found


def _grows(node: Node, before: list[float], shapes: list[tuple[int, ...]]) -> float:
    if node.kind in LINEAR:
        if has_constants(node, "bias"):
            return math.inf
        total = sum(map(_times, _one_norms(node, shapes), before))
        return total * (1 + 2 * ROUNDED) if _is_rounded(node) else total
    if node.kind == "activation" and _vanishes(node):
        return _times(_steepest(node), before[0])
    return before[0] if node.kind == "sort" else math.inf


def _times(norm: float, bound: float) -> float:
    """0 also where nothing is known of what is multiplied by 0."""
    return norm * bound if norm and bound else 0.0


def _one_norms(node: Node, shapes: list[tuple[int, ...]]) -> Iterable[float]:
    """Upper bounds of the largest column sum of absolute values, for each input."""
    if "weight" in node.constants and node.kind != "scale":
        size = float64(node.constants["weight"]).abs()
        x = torch.zeros((1, *shapes[0]), dtype=torch.float64, requires_grad=True)
        y = RUN[node.kind](node, [x], {"weight": size})
        (sums,) = torch.autograd.grad(y.sum(), x)
        return [up(float(sums.max()) * (1 + gamma(9 * size.numel() + 8)))]
    return [_up(part.largest()) for part in _backward_of_sizes(node, shapes)]


def _backward_of_sizes(node: Node, shapes: list[tuple[int, ...]]) -> list[Exact]:
    """Column sums of absolute values of a node whose numbers are few."""
    a: dict[str, Any] = dict(node.attributes)
    if "coefficients" in a:
        a["coefficients"] = [abs(c) for c in a["coefficients"]]
    if "weights" in a:
        a["weights"] = [[abs(w) for w in along] for along in a["weights"]]
    constants = {}
    if node.kind == "scale":
        value = node.constants["weight"]
        constants = {"weight": replace(value, value=value.value.abs(), factor=abs(value.factor))}
    plain = replace(node, attributes=a, constants=constants)
    return backward(plain, ones(node.shape), shapes)


def _vanishes(node: Node) -> bool:
    """Whether f(0) = 0."""
    name = node.attributes["function"]
    if name == "prelu":
        return True
    zero = torch.zeros((), dtype=torch.float64)
    return bool(FUNCTIONS[name](zero, **node.attributes["parameters"]) == 0)


def _steepest(node: Node) -> float:
    name = node.attributes["function"]
    if name == "prelu":
        return max(
            1.0, _up(exact(float64(node.constants["slope"])).largest() * Fraction(1 + 2**-50))
        )
    return _up(max(map(abs, SLOPES[name](**node.attributes["parameters"]))))
