"""A graph and its Jacobian at a point, in ball arithmetic: what a refutation rests on.

`enclose` carries the value of every node and its derivatives along given directions forward
through the graph. What it returns holds in real arithmetic on the stored constants.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dsnn.operators.rounding import gamma
from verification.balls import Ball, between, computed, entrywise, point
from verification.balls_activations import activation
from verification.exact import LINEAR, MOVES, RUN
from verification.graph import Constant, Graph, Node

SMALLEST = 2.0**-900
"""Numbers with a factor may not be smaller: what float64 makes of them is no relative error."""


class NotEnclosed(ArithmeticError):
    """A node without a rule here, or a value that is not finite."""


@dataclass(frozen=True)
class Jet:
    """value (1, *shape) and the derivatives along k directions (k, *shape)."""

    value: Ball
    along: Ball


def enclose(graph: Graph, x: Tensor, directions: Tensor | None = None) -> Jet:
    """f(x) and J(x) d for each direction d of (k, *shape). x (*shape) and the directions are taken
    as they are stored. Raises NotEnclosed."""
    if directions is None:
        directions = x.new_zeros((0, *x.shape))
    jets = {graph.input.name: Jet(point(x[None]), point(directions))}
    for node in graph.nodes[1:]:
        jets[node.name] = advance(node, [jets[name] for name in node.inputs])
    found = jets[graph.output]
    if not all(
        bool(b.rad.isfinite().all() and b.mid.isfinite().all()) for b in (found.value, found.along)
    ):
        raise NotEnclosed("a value is not finite")
    return found


def float64(constant: Constant) -> Tensor:
    """The constant within 3 roundings. Raises NotEnclosed where it underflows."""
    value, factor = constant.value.detach().to("cpu", torch.float64), constant.factor
    if factor == 1:
        return value
    found = value * float(factor)
    if factor and (abs(factor) < SMALLEST or bool(((value != 0) & (found.abs() < SMALLEST)).any())):
        raise NotEnclosed("a constant is too small for float64")
    return found


def advance(node: Node, inputs: list[Jet]) -> Jet:
    """The value of a node and its derivatives, of those of its inputs. Raises NotEnclosed."""
    if node.kind == "constant":
        value = float64(node.constants["value"]).expand(node.shape)[None]
        # No direction is known here: one that broadcasts.
        nothing = torch.zeros_like(value)
        return Jet(computed(value, gamma(3) * value.abs()), point(nothing))
    if node.kind in LINEAR:
        values, tangents = (
            _alike([jet.value for jet in inputs]),
            _alike([jet.along for jet in inputs]),
        )
        return Jet(_biased(node, linear(node, values)), linear(node, tangents))
    rule = _RULES.get(node.kind)
    if rule is None:
        raise NotEnclosed(f"no rule for {node.attributes.get('operator', node.kind)}")
    return rule(node, inputs)


def _alike(balls: list[Ball]) -> list[Ball]:
    batch = max((b.mid.shape[0] for b in balls), default=1)
    if any(b.mid.shape[0] == 0 for b in balls):
        batch = 0
    return [
        b.move(lambda t: t[:1].expand(batch, *t.shape[1:]) if len(t) != batch else t) for b in balls
    ]


def linear(node: Node, inputs: list[Ball]) -> Ball:
    """The linear part of a linear node on batches."""
    mids, rads = [x.mid for x in inputs], [x.rad for x in inputs]
    if node.kind in MOVES:
        return Ball(RUN[node.kind](node, mids, {}), RUN[node.kind](node, rads, {}))
    if any(c and abs(c) < SMALLEST for c in node.attributes.get("coefficients", ())):
        raise NotEnclosed("a coefficient is too small for float64")
    weights = {k: float64(c) for k, c in node.constants.items() if k == "weight"}
    sizes = {k: w.abs() for k, w in weights.items()}
    above = _absolute(node)
    error = gamma(_terms(node, inputs) + 16)  # of the weight 3, and 8 if it is `rounded`
    mid = RUN[node.kind](node, mids, weights)
    spread = RUN[node.kind](above, rads, sizes) * (1 + error)
    rounding = RUN[node.kind](above, [m.abs() for m in mids], sizes) * (error * (1 + error))
    return computed(mid, spread + rounding)


def _absolute(node: Node) -> Node:
    """The node with the absolute values of the numbers in its attributes."""
    a = dict(node.attributes)
    if "coefficients" in a:
        a["coefficients"] = [abs(c) for c in a["coefficients"]]
    if "weights" in a:
        a["weights"] = [[abs(w) for w in along] for along in a["weights"]]
    return replace(node, attributes=a)


def _terms(node: Node, inputs: list[Ball]) -> int:
    if node.kind == "window_sum":
        shape = inputs[0].mid.shape[1:]
        return sum(shape[d] for d in node.attributes["dims"]) + 4 * len(shape)
    if node.kind in ("linear", "conv"):
        return node.constants["weight"].value[0].numel()
    if node.kind == "adjoint":
        weight = node.constants["weight"].value
        return 9 * weight.shape[0] * weight[0, 0].numel()
    return 2 * len(inputs)


def _biased(node: Node, y: Ball) -> Ball:
    if "bias" not in node.constants:
        return y
    constant = node.constants["bias"]
    bias = float64(constant)
    rounded = constant.rounded * abs(float(constant.factor))
    if node.kind in ("conv", "adjoint"):
        bias = bias.reshape(-1, *[1] * (len(node.shape) - 1))
    return y + computed(bias, gamma(3) * bias.abs() + rounded)


def _activation(node: Node, inputs: list[Jet]) -> Jet:
    (x,), a = inputs, node.attributes
    slope = float64(node.constants["slope"]) if "slope" in node.constants else None
    try:
        value, derivative = activation(a["function"], a["parameters"], x.value, slope)
    except KeyError:
        raise NotEnclosed(f"no rule for the activation {a['function']}") from None
    return Jet(value, derivative * x.along)


def _broadcast(jet: Jet, ndim: int) -> Jet:
    def shaped(t: Tensor) -> Tensor:
        return t.reshape(t.shape[0], *[1] * (1 + ndim - t.ndim), *t.shape[1:])

    return Jet(jet.value.move(shaped), jet.along.move(shaped))


def _product(node: Node, inputs: list[Jet]) -> Jet:
    x, y = (_broadcast(jet, len(node.shape)) for jet in inputs)
    return Jet(x.value * y.value, x.along * y.value + x.value * y.along)


def _quotient(node: Node, inputs: list[Jet]) -> Jet:
    x, y = (_broadcast(jet, len(node.shape)) for jet in inputs)
    inverse = y.value.inverse()
    value = x.value * inverse
    return Jet(value, (x.along - value * y.along) * inverse)


def _matmul(node: Node, inputs: list[Jet]) -> Jet:
    x, y = inputs
    return Jet(
        _matrices(x.value, y.value), _matrices(x.along, y.value) + _matrices(x.value, y.along)
    )


def _matrices(x: Ball, y: Ball) -> Ball:
    error = gamma(x.mid.shape[-1] + 8)
    carried = x.mid.abs() @ y.rad + x.rad @ (y.mid.abs() + y.rad)
    rounding = x.mid.abs() @ y.mid.abs()
    return computed(x.mid @ y.mid, (carried + error * rounding) * (1 + error))


def _norm(node: Node, inputs: list[Jet]) -> Jet:
    (x,), dims = inputs, [1 + d for d in node.attributes["dims"]]
    value = (x.value * x.value).sum(dims).root()
    return Jet(value, (x.value * x.along).sum(dims) * value.inverse())


def _normalise(node: Node, inputs: list[Jet]) -> Jet:
    (x,), dims = inputs, [1 + d for d in node.attributes["dims"]]
    count = 1
    for dim in dims:
        count *= x.value.mid.shape[dim]

    def mean(ball: Ball) -> Ball:
        return ball.sum(dims) * point(torch.tensor(float(count))).inverse()

    epsilon = torch.tensor(float(node.attributes["epsilon"]), dtype=torch.float64)
    centred, moved = x.value - mean(x.value), x.along - mean(x.along)
    variance = mean(centred * centred) + computed(epsilon, gamma(1) * epsilon)
    inverse = variance.root().inverse()
    value = centred * inverse
    return Jet(value, (moved - value * mean(value * moved)) * inverse)


def _softmax(node: Node, inputs: list[Jet]) -> Jet:
    (x,) = inputs
    dims = [1 + d for d in node.attributes.get("dims", [node.attributes.get("dim")])]
    largest = point(x.value.mid.amax(dims, keepdim=True))
    powers, _ = entrywise(lambda t: (t.exp(), t.exp()), x.value - largest)
    total = powers.sum(dims)
    weights = powers * total.inverse()
    mean = (weights * x.along).sum(dims)
    if node.kind == "softmax":
        return Jet(weights, weights * (x.along - mean))
    logarithm = entrywise(lambda t: (t.log(), t.log()), total)[0] + largest
    if node.kind == "logsumexp":
        return Jet(logarithm, mean)
    return Jet(x.value - logarithm, x.along - mean)


Pick = Callable[[Tensor], Tensor]


def _extreme(stacked: Jet, dim: int) -> Jet:
    """The maximum along a dimension, kept as size 1."""
    return _picked(stacked, dim, lambda t: t.amax(dim, keepdim=True))


def _picked(stacked: Jet, dim: int, pick: Pick) -> Jet:
    """The entry of some rank along a dimension, which `pick` takes from numbers, kept as size 1;
    derivatives of all entries that may be it."""
    value, along = stacked.value, stacked.along
    low, high, best = pick(value.low), pick(value.high), pick(value.mid)
    may = (value.high >= low) & (value.low <= high)
    least = torch.where(may, along.low, torch.inf).amin(dim, keepdim=True)
    most = torch.where(may, along.high, -torch.inf).amax(dim, keepdim=True)
    sure = may.sum(dim, keepdim=True) == 1
    only = along.move(lambda t: torch.where(may, t, 0.0).sum(dim, keepdim=True))
    hull = between(least, most)
    chosen = Ball(torch.where(sure, only.mid, hull.mid), torch.where(sure, only.rad, hull.rad))
    return Jet(computed(best, torch.maximum(high - best, best - low)), chosen)


def _window_max(node: Node, inputs: list[Jet]) -> Jet:
    (x,) = inputs
    for dim, windows in zip(node.attributes["dims"], node.attributes["windows"], strict=True):
        parts = []
        for start, stop in windows:
            cut = lambda t: t.narrow(1 + dim, start, stop - start)  # noqa: B023, E731
            parts.append(_extreme(Jet(x.value.move(cut), x.along.move(cut)), 1 + dim))
        x = _joined(parts, 1 + dim)
    return x


def _sort(node: Node, inputs: list[Jet]) -> Jet:
    (x,), dim = inputs, 1 + node.attributes["dim"]
    if not bool(x.value.mid.isfinite().all()):
        raise NotEnclosed("a value is not finite")
    ranks = range(node.shape[dim - 1])
    pick = lambda t, k: t.sort(dim).values.narrow(dim, k, 1)  # noqa: E731
    return _joined([_picked(x, dim, partial(pick, k=k)) for k in ranks], dim)


def _joined(parts: list[Jet], dim: int) -> Jet:
    def cat(balls: list[Ball]) -> Ball:
        return Ball(torch.cat([b.mid for b in balls], dim), torch.cat([b.rad for b in balls], dim))

    return Jet(cat([p.value for p in parts]), cat([p.along for p in parts]))


def _maximum(node: Node, inputs: list[Jet]) -> Jet:
    sign = 1 if node.kind == "maximum" else -1
    signed = [jet if sign > 0 else Jet(-jet.value, -jet.along) for jet in inputs]
    wide = [_broadcast(jet, len(node.shape)) for jet in signed]
    along = _alike([jet.along for jet in wide])
    stacked = _joined(
        [
            Jet(jet.value.move(lambda t: t[..., None]), a.move(lambda t: t[..., None]))
            for jet, a in zip(wide, along, strict=True)
        ],
        -1,
    )
    found = _extreme(stacked, -1)
    value, moved = found.value.move(lambda t: t[..., 0]), found.along.move(lambda t: t[..., 0])
    return Jet(value, moved) if sign > 0 else Jet(-value, -moved)


_RULES: dict[str, Callable[[Node, list[Jet]], Any]] = {
    "activation": _activation,
    "product": _product,
    "quotient": _quotient,
    "matmul": _matmul,
    "norm": _norm,
    "normalise": _normalise,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "logsumexp": _softmax,
    "window_max": _window_max,
    "sort": _sort,
    "maximum": _maximum,
    "minimum": _maximum,
}
