"""Lipschitz constants on a ball: what a graph does near one input, where most slopes are fixed.

For x, y with |x - x0|, |y - x0| <= r, each value z of the graph satisfies

    z(x) - z(y) = A (x - y) + d,    |d| <= ε |x - y|,

with one matrix A of ball arithmetic for all such x, y and one number ε. Linear nodes map A
exactly and ε by their norms. A neuron stays within (|A_i| + ε) r of its value at x0, so the
difference quotients of its activation there lie in some [l_i, u_i]; with their means m and half
widths ρ,

    A -> diag(m) A,    ε -> |diag(ρ) A| + max(max(|l_i|, |u_i|)) ε.

A ReLU whose sign cannot change in the ball has ρ = 0: where that is so of all, A is the derivative
and ε is 0. Steps x - h Wᵀσ(Wx + b) get I - h Wᵀ diag(m) W with it, and need no recognition. Other
nodes forget A: their own constant times |A| + ε becomes ε. The constant is |A| + ε at the output,
or the global one where that is less.

A has a row for each entry of the input: `ENTRIES` bounds its size, beyond it the global constant
is returned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnn.operators.bounds import of_matrix
from dsnn.operators.rounding import UNIT, sqrt_up, up
from verification import lipschitz
from verification.balls import FLOOR, SLACK, Ball, between, point
from verification.balls_graph import Jet, NotEnclosed, advance, enclose, linear
from verification.constant import root_sum_square, round_up, weighted_sum
from verification.exact import LINEAR
from verification.graph import Graph, Node
from verification.lipschitz import Derivation
from verification.norms import Spectra
from verification.radius import certified_radius
from verification.slopes import slope_range

ENTRIES = 2**21
"""Of the matrix A of one node."""
BISECTIONS = 12


@dataclass(frozen=True)
class Near:
    """A as a batch, (entries of the input, *shape), and ε."""

    matrix: Ball
    rest: float


def local_constant(graph: Graph, x0: Tensor, r: float, spectra: Spectra | None = None) -> float:
    """L with |f(x) - f(y)| <= L |x - y| for |x - x0|, |y - x0| <= r; x0 is one example.

    Raises ValueError on a radius that is negative or not finite.
    """
    if not 0 <= r < math.inf:
        raise ValueError(f"a radius is finite and at least 0, not {r}")
    derivation = Derivation(graph, spectra or Spectra())
    everywhere = derivation.between(graph.input.name, graph.output).upper
    largest = max(math.prod(node.shape) for node in graph)
    if math.prod(graph.input.shape) * largest > ENTRIES:
        return everywhere
    try:
        return min(everywhere, _total(_output(derivation, x0, r)))
    except (NotEnclosed, ArithmeticError):
        return everywhere


def certified_radius_local(
    graph: Graph, x0: Tensor, label: int, spectra: Spectra | None = None
) -> float:
    """A radius within which `label` stays the largest of the outputs: the larger of the global one
    [T4], and the largest found by bisection with margin > sqrt(2) L(r) r; 0 where neither is."""
    spectra = spectra or Spectra()
    try:
        scores = enclose(graph, x0).value
    except NotEnclosed:
        return 0.0
    others = scores.high.flatten().clone()
    others[label] = -math.inf
    margin = math.nextafter(float(scores.low.flatten()[label]) - float(others.max()), -math.inf)
    everywhere = Derivation(graph, spectra).between(graph.input.name, graph.output).upper
    low = certified_radius(margin, 0.0, everywhere)
    if not margin > 0:
        return 0.0

    def holds(r: float) -> bool:
        return r < certified_radius(margin, 0.0, local_constant(graph, x0, r, spectra))

    high = certified_radius(margin, 0.0, local_constant(graph, x0, 0.0, spectra))
    return _largest(holds, low, min(high, 1024 * low) if low else high)


def _largest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """A point between that holds, by bisection from `low`, which does."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _output(derivation: Derivation, x0: Tensor, r: float) -> Near:
    graph, n = derivation.graph, math.prod(x0.shape)
    none = torch.zeros((0, *x0.shape), dtype=torch.float64)
    jets = {graph.input.name: Jet(point(x0[None]), point(none))}
    unit = torch.eye(n, dtype=torch.float64).reshape(n, *x0.shape)
    near = {graph.input.name: Near(point(unit), 0.0)}
    for node in graph.nodes[1:]:
        before = [jets[name] for name in node.inputs]
        jets[node.name] = advance(node, before)
        near[node.name] = _node(derivation, node, [near[k] for k in node.inputs], before, n, r)
    return near[graph.output]


def _node(
    derivation: Derivation, node: Node, inputs: list[Near], jets: list[Jet], n: int, r: float
) -> Near:
    if node.kind == "constant":
        return Near(point(torch.zeros((n, *node.shape), dtype=torch.float64)), 0.0)
    if node.kind in LINEAR:
        matrix = linear(node, [x.matrix for x in inputs])
        return Near(matrix, _rest(derivation, node, [x.rest for x in inputs]))
    if node.kind == "activation":
        return _activation(node, inputs[0], jets[0].value, r)
    totals = [_total(x) for x in inputs]
    forgotten = point(torch.zeros((n, *node.shape), dtype=torch.float64))
    return Near(forgotten, _rest(derivation, node, totals))


def _rest(derivation: Derivation, node: Node, sizes: list[float]) -> float:
    """What a node makes of changes of these sizes in its inputs, at most."""
    if not any(sizes):
        return 0.0
    if node.kind == "combine":
        terms = zip(node.attributes["coefficients"], sizes, strict=True)
        return weighted_sum((c, [size]) for c, size in terms)
    shapes = {derivation.flow.nodes[name].shape for name in node.inputs}
    if node.kind == "concat" or (node.kind in ("maximum", "minimum") and shapes == {node.shape}):
        return root_sum_square(sizes)
    if len(sizes) != 1 or node.kind not in lipschitz.RULES:
        return math.inf
    lines = lipschitz.RULES[node.kind](derivation, node.inputs[0], node)
    return up(min(line.upper for line in lines) * sizes[0])


def _activation(node: Node, x: Near, value: Ball, r: float) -> Near:
    reach = _reach(x, r)
    low, high = _slopes(node, value + Ball(torch.zeros_like(reach), reach))
    slopes = between(low, high)
    half = slopes.rad[0]
    mean = point(slopes.mid)
    most = up(float(torch.maximum(low.abs(), high.abs()).max()))
    spread = x.matrix * point(half[None])
    return Near(mean * x.matrix, up(_norm(spread) + most * x.rest))


def _reach(x: Near, r: float) -> Tensor:
    """(|A_i| + ε) r for each neuron i, rounded up, with a batch in front."""
    largest = x.matrix.mid.abs() + x.matrix.rad
    rows = largest.square().sum(0, keepdim=True).sqrt() * (1 + UNIT * (len(largest) + 8)) + FLOOR
    return (rows + x.rest) * r * SLACK + FLOOR


def _slopes(node: Node, z: Ball) -> tuple[Tensor, Tensor]:
    """Least and largest difference quotients of the activation on [z.low, z.high]."""
    name, found = node.attributes["function"], slope_range(node)
    if found is None:
        raise NotEnclosed(f"no slopes known for {name}")
    low, high = (
        torch.full_like(z.mid, -round_up(-end) if end < 0 else round_up(end)) for end in found
    )
    # Each end was rounded away from 0.
    low, high = low - low.abs() * 2.0**-50, high + high.abs() * 2.0**-50
    one = torch.ones_like(low)
    if name == "relu":
        return torch.where(z.low >= 0, one, 0.0), torch.where(z.high <= 0, 0.0 * one, one)
    if name == "leaky_relu":
        left = float(node.attributes["parameters"]["negative_slope"])
        below = (left - abs(left) * 2.0**-50, left + abs(left) * 2.0**-50)
        low = torch.where(z.low >= 0, one, torch.where(z.high <= 0, below[0] * one, low))
        high = torch.where(z.low >= 0, one, torch.where(z.high <= 0, below[1] * one, high))
    if name == "abs":
        low = torch.where(z.low >= 0, one, -one)
        high = torch.where(z.high <= 0, -one, one)
    return low, high


def _norm(matrix: Ball) -> float:
    """An upper bound on the norm of a matrix held as a batch of its columns."""
    flat, rad = matrix.mid.flatten(1), matrix.rad.flatten(1)
    beyond = float(rad.square().sum()) * (1 + 2 * UNIT * (rad.numel() + 8))
    if not (math.isfinite(beyond) and bool(flat.isfinite().all())):
        return math.inf
    return up(of_matrix(flat).norm[1] + sqrt_up(beyond) + FLOOR)


def _total(x: Near) -> float:
    return up(_norm(x.matrix) + x.rest)
