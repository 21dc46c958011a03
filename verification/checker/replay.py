"""Witnesses, replayed: a graph evaluated at points, with a bound on every error.

In float64 a value carries a bound on its l2 distance to the exact one: that of its inputs times
the node's Lipschitz constant, plus the rounding of the node itself, which is that of its sums of
absolute values. Graphs with other nodes, and all that needs a derivative, are evaluated in balls.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verification.checker import kinds
from verification.checker.activations import PIECEWISE
from verification.checker.chain import MAPS, Chain
from verification.checker.kinds import Array, numbers, objects, plain
from verification.checker.nodes import OWN, root_up, round_up
from verification.checker.norms import DOWN, UP, U, gamma
from verification.checker.reading import Node, Wrong, agree
from verification.checker.segments import shifted, symplectic_form
from verification.checker.values import LINEAR, value
from verification.checker.work import OBJECT, cost_of, spend, stored, total, work_of

FLOOR = 2.0**-480
"""Added to every error: covers underflow."""
SMALLEST = Fraction(1, 2**900)
"""Numbers with a factor may not be smaller, nor a factor larger than its inverse."""
PRECISION = 192
"""Bits of the balls."""
LARGEST_JACOBIAN = 128
"""Inputs up to which the checker computes a whole Jacobian."""
LARGEST_WORK = 2e9
"""Products in balls, above which the checker refuses."""
LARGEST_ENTRIES = 2**24
"""Balls of all nodes."""
IN_FLOAT64 = (*LINEAR, "constant", "window_max", "sort", "activation", "maximum",
              "minimum")  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A float64 array and a bound on its l2 distance to the exact value."""

    array: Array
    error: float


def run(chain: Chain, output: str, example: Any, step: Callable[[Node, list[Any]], Any]) -> Any:
    """The value of node `output`, by `step` from (node, values of its inputs)."""
    graph = chain.graph
    last_use = {name: node.name for node in graph.values() for name in node.inputs}
    found: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        for node in graph.values():
            inputs = [found[name] for name in node.inputs]
            found[node.name] = example if node.kind == "input" else step(node, inputs)
            if node.name == output:
                return found[output]
            for name in node.inputs:
                if last_use[name] == node.name:
                    found.pop(name, None)
    raise Wrong("the output is not computed")


# In float64. ---------------------------------------------------------------------------------


def evaluate(chain: Chain, output: str, example: Value) -> Value:
    """The value of node `output`. Raises Wrong where a node has no evaluation here."""
    shape = next(iter(chain.graph.values())).shape
    agree(example.array.shape == shape, "the witness does not fit the input")

    def step(node: Node, inputs: list[Value]) -> Value:
        agree(node.kind in IN_FLOAT64, f"a {node.kind} ({node.name}) is not replayed in float64")
        found = _value(chain, node, inputs)
        finite = bool(np.isfinite(found.array).all()) and math.isfinite(found.error)
        agree(finite, f"replaying the witness overflows at {node.name}")
        return found

    return run(chain, output, example, step)


def _value(chain: Chain, node: Node, x: list[Value]) -> Value:
    spend(2 * cost_of(node, chain.graph))
    carried = _carried(chain, node, x)
    if node.kind == "activation" and node.attributes["function"] not in PIECEWISE:
        array, error = _in_balls(node, x[0].array)
        return Value(array, (carried + error) * UP + FLOOR)
    given, inputs = numbers(node, _doubles), [v.array[None] for v in x]
    array = np.broadcast_to(value(node, given, inputs)[0], node.shape)
    if node.kind in LINEAR or node.kind == "constant":
        sizes = value(node, _sizes(given), [np.abs(v) for v in inputs])
        rounding = gamma(_terms(node)) * norm(sizes) * 1.02
    else:
        rounding = 4 * U * norm(array)
    return Value(array, (carried + rounding) * UP + FLOOR)


def _carried(chain: Chain, node: Node, x: list[Value]) -> float:
    """What becomes of the errors of the inputs, exactly and rounded up: nothing underflows."""
    errors = [Fraction(v.error) for v in x]
    if node.kind in MAPS:
        norm_of_map = chain.spectra.of(node, chain.extent(node), "largest")
        agree(math.isfinite(norm_of_map), f"the norm of {node.name} overflows")
        return round_up(abs(node.constants["weight"].factor) * Fraction(norm_of_map) * errors[0])
    if node.kind == "combine":
        sizes = [abs(Fraction(c)) for c in node.attributes["coefficients"]]
        return round_up(total(c * e for c, e in zip(sizes, errors, strict=True)))
    if node.kind == "concat":
        return round_up(root_up(total(e * e for e in errors)))
    if node.kind in ("maximum", "minimum"):  # an entry that is broadcast occurs as often
        copies = [Fraction(math.prod(node.shape), max(1, v.array.size)) for v in x]
        square = sum((c * e * e for c, e in zip(copies, errors, strict=True)), Fraction(0))
        return round_up(root_up(square))
    return round_up(OWN[node.kind][1](node) * errors[0]) if x else 0.0


def _doubles(values: Array, factor: Fraction) -> Array:
    """In float64, each within 2 roundings: refuses what underflows."""
    if factor in (0, 1):
        return plain(values, factor)
    agree(SMALLEST <= abs(factor) <= 1 / SMALLEST, "a factor is too small or large to replay")
    found = plain(values, factor)
    tiny = (values != 0) & (np.abs(found) < float(SMALLEST))
    agree(not tiny.any(), "a constant is too small to replay")
    return found


def _sizes(given: Any) -> Any:
    """Absolute values of all numbers of a node but an index."""
    if isinstance(given, dict):
        return {use: v if use == "index" else _sizes(v) for use, v in given.items()}
    if isinstance(given, list):
        return [_sizes(v) for v in given]
    return None if given is None else abs(given)


def _terms(node: Node) -> int:
    """A bound on the roundings in one entry of a linear node, those of its numbers included."""
    terms = 12 + len(node.inputs)
    for along in node.attributes.get("windows", ()):
        terms += 4 + max((stop - start for start, stop in along), default=0)
    if node.kind in MAPS:
        weight = node.constants["weight"].values
        # The adjoint of a circular convolution may add an entry three times along a dimension.
        terms += 9 * weight.size // weight.shape[node.kind == "adjoint"] if weight.size else 0
    return terms


def _in_balls(node: Node, x: Array) -> tuple[Array, float]:
    """The values of an activation, and an l2 bound on their error."""
    agree(x.size <= 2**20, "too many entries to evaluate in balls")
    spend(5e3 * x.size)
    found = value(node, numbers(node, kinds.balls), [kinds.balls(x)[None]])
    array = np.array([float(ball.mid()) for ball in found.flat]).reshape(x.shape)
    radii = np.array([float(ball.rad()) for ball in found.flat])
    return array, norm(radii) * UP + 2 * U * norm(array)


def norm(array: Array) -> float:
    """Upper bound on the l2 norm."""
    flat = array.reshape(-1)
    return math.sqrt(float(flat @ flat)) * (1 + gamma(flat.size + 8)) * UP + FLOOR


def distance(x: Array, y: Array) -> float:
    """Upper bound on |x - y|."""
    return norm(x - y) * (1 + 4 * U) * UP


def normalised(pixels: Array, mean: list[float], std: list[float]) -> Value:
    """(pixels - mean) / std along the first dimension."""
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    agree(pixels.shape[:1] == (len(mean),), "the witness has other channels than the statistics")
    array = (pixels - np.reshape(mean, shape)) / np.reshape(std, shape)
    return Value(array, 4 * U * norm(array) * UP + FLOOR)


def moved(chain: Chain, output: str, x: Value, y: Value) -> float:
    """Lower bound of |f(x) - f(y)|, where f is the graph."""
    if any(node.kind not in (*IN_FLOAT64, "input") for node in chain.graph.values()):
        with kinds.flint_context(PRECISION):
            difference = np.subtract(*(_ball_image(chain, output, v) for v in (x, y)))
            return lower(length(difference))
    images = [evaluate(chain, output, v) for v in (x, y)]
    computed = norm(images[0].array - images[1].array) / UP
    agree(math.isfinite(computed), "replaying the witness overflows at the end")
    computed = computed * (1 - 3 * gamma(images[0].array.size + 8)) * DOWN
    return max(0.0, computed - (images[0].error + images[1].error) * UP - FLOOR)


# In balls. -----------------------------------------------------------------------------------


def _ball_image(chain: Chain, output: str, x: Value) -> Array:
    kinds.affordable(x.array)
    around = [kinds.flint.arb(v, x.error) for v in x.array.flat]
    return image(chain, output, objects(around, (1, *x.array.shape)))


def image(chain: Chain, output: str, x: Array) -> Array:
    """The value of node `output` at balls, with or without derivatives, (B, *shape)."""
    graph = chain.graph
    agree(x.shape[1:] == next(iter(graph.values())).shape, "the point does not fit the input")
    slow = 30 if x.size and isinstance(x.flat[0], kinds.flint.arb_series) else 1
    products = sum(work_of(node, graph) for node in graph.values()) * len(x) * slow
    agree(products < LARGEST_WORK, "the graph is too large to evaluate in balls")
    entries = sum(math.prod(node.shape) for node in graph.values()) * len(x)
    agree(entries <= LARGEST_ENTRIES, "the graph is too large to hold in balls")
    spend(300 * products + 10 * OBJECT * entries)
    spend(sum(cost_of(node, graph) + OBJECT * stored(node) for node in graph.values()))
    found = run(chain, output, x, lambda node, v: value(node, numbers(node, kinds.balls), v))
    return np.broadcast_to(found, (len(x), *found.shape[1:]))


def length(x: Array) -> Any:
    """The l2 norm of balls."""
    return kinds.flint.arb((x * x).sum()).nonnegative_part().sqrt()


def lower(ball: Any) -> float:
    """A double at or below a ball's absolute value; 0 where nothing is known of it."""
    least = ball.abs_lower() if ball.is_finite() else 0.0
    return max(0.0, math.nextafter(float(least), -math.inf))


def _upper(ball: Any) -> Any:
    agree(ball.is_finite(), "the point overflows")
    return ball.abs_upper()


def derivative(chain: Chain, output: str, x: Array, along: Array) -> Array:
    """J(x) d for every direction d of `along` (k, *shape), each flat: balls (k, m)."""
    series, arb = kinds.flint.arb_series, kinds.flint.arb
    pairs = zip(np.broadcast_to(x, along.shape).flat, along.flat, strict=True)
    jets = objects([series([arb(v), arb(d)], 2) for v, d in pairs], along.shape)
    found = image(chain, output, jets)
    slopes = [v[1] if isinstance(v, series) else arb(0) for v in found.flat]
    return objects(slopes, (len(found), found[:1].size))


def jacobian(chain: Chain, output: str, x: Array) -> Array:
    """J(x) as balls (m, n)."""
    agree(x.size <= LARGEST_JACOBIAN, f"{x.size} inputs are too many for a whole Jacobian")
    spend(1e3 * x.size**2 * (x.size + math.prod(chain.graph[output].shape)))
    return derivative(chain, output, x, np.eye(x.size).reshape(-1, *x.shape)).T


def _square_norm(matrix: Array) -> Any:
    """Upper bound on |J|^2 from |(J'J)^4| in the Frobenius norm."""
    power = kinds.times(matrix.T, matrix)
    for _ in range(2):
        power = kinds.times(power, power)
    return _upper(length(power).root(4))


def defect(chain: Chain, output: str, name: str, dim: int, x: Array, along: Array | None) -> float:
    """Lower bound on the defect of a property at the point x, along directions (k, *shape) where
    it is one of the Jacobian."""
    shape = next(iter(chain.graph.values())).shape
    agree(x.shape == shape, "the point does not fit the input")
    if name in DIRECTIONS:
        fits = along is not None and along.shape == (DIRECTIONS[name], *shape)
        agree(fits, "there are no such directions")
    else:
        agree(along is None, "directions that nothing needs")
    with kinds.flint_context(PRECISION):
        gap, scale = DEFECTS[name](chain, output, dim, x, along)
        return lower(gap / scale) if scale > 0 else 0.0


def _mass(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    at = kinds.balls(x)[None]
    return image(chain, output, at).sum() - at.sum(), np.abs(at).sum()


def _norm(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    at = kinds.balls(x)[None]
    return length(image(chain, output, at)) - length(at), length(at)


def _shift(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    at = kinds.balls(x)[None]
    here, gaps = image(chain, output, at), []
    for axis in shifted(x.ndim):
        gaps.append(length(image(chain, output, np.roll(at, 1, axis)) - np.roll(here, 1, axis)))
    return max(gaps, key=lower), length(here)


def _orthogonal(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    v, (image_of_v,) = kinds.balls(along), derivative(chain, output, x, along)
    return (image_of_v * image_of_v).sum() - (v * v).sum(), (v * v).sum()


def _gradient(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    whole = jacobian(chain, output, x)
    v, w = kinds.balls(along).reshape(2, -1)
    agree(whole.shape[0] == whole.shape[1], "the Jacobian is not square")
    gap = w @ (whole @ v) - v @ (whole @ w)
    return gap, _at_least_1(_square_norm(whole).sqrt()) * length(v) * length(w)


def _symplectic(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    whole = jacobian(chain, output, x)
    v, w = kinds.balls(along).reshape(2, -1)
    form = symplectic_form(x.shape, dim)
    agree(len(form) == len(whole), "the shape is not kept")
    gap = (whole @ w) @ (form @ (whole @ v)) - w @ (form @ v)
    return gap, _at_least_1(_square_norm(whole)) * length(v) * length(w)


def _at_least_1(ball: Any) -> Any:
    return ball.max(kinds.flint.arb(1))


def _volume(chain: Chain, output: str, dim: int, x: Array, along: Any) -> tuple[Any, Any]:
    whole = jacobian(chain, output, x)
    agree(whole.shape[0] == whole.shape[1], "the Jacobian is not square")
    matrix = kinds.flint.arb_mat(len(whole), len(whole), list(whole.flat))
    return abs(matrix.det()) - 1, kinds.flint.arb(1)


DEFECTS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "mass-preserving": _mass,
    "norm-preserving": _norm,
    "equivariant:shift": _shift,
    "orthogonal": _orthogonal,
    "gradient-field": _gradient,
    "symplectic": _symplectic,
    "volume-preserving": _volume,
}
"""By property, (defect, what it is measured against) at x."""
DIRECTIONS = {"orthogonal": 1, "gradient-field": 2, "symplectic": 2}
"""By property, how many directions show it."""
