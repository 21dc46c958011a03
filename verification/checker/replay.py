"""Witnesses, replayed: the graph evaluated in float64 with a bound on the l2 error of each value.

The error of a value is that of its inputs times the node's Lipschitz constant, plus the rounding
of the node itself. Functions that float64 does not round correctly are evaluated in balls.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verification.checker import norms
from verification.checker.chain import MAPS, Chain
from verification.checker.nodes import OWN, agree, largest_entry
from verification.checker.norms import DOWN, UP, U, gamma
from verification.checker.reading import Node, Unreadable, Weight, Wrong

Array = np.ndarray
FLOOR = 2.0**-480
"""Added to every error: covers underflow."""


@dataclass(frozen=True)
class Value:
    """A float64 array and a bound on its l2 distance to the exact value."""

    array: Array
    error: float


def moved(chain: Chain, output: str, x: Value, y: Value) -> float:
    """Lower bound of |f(x) - f(y)|, where f is the graph."""
    images = [evaluate(chain, output, value) for value in (x, y)]
    computed = _norm(images[0].array - images[1].array) / UP
    computed = computed * (1 - 3 * gamma(images[0].array.size + 8)) * DOWN
    return max(0.0, computed - (images[0].error + images[1].error) * UP - FLOOR)


def distance(x: Array, y: Array) -> float:
    """Upper bound on |x - y|."""
    return _norm(x - y) * (1 + 4 * U) * UP


def normalised(pixels: Array, mean: list[float], std: list[float]) -> Value:
    """(pixels - mean) / std along the first dimension."""
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    agree(pixels.shape[:1] == (len(mean),), "the witness has other channels than the statistics")
    array = (pixels - np.reshape(mean, shape)) / np.reshape(std, shape)
    return Value(array, 4 * U * _norm(array) * UP + FLOOR)


def evaluate(chain: Chain, output: str, example: Value) -> Value:
    """The value of node `output`. Raises Wrong where a node has no evaluation here."""
    graph = chain.graph
    last_use = {name: node.name for node in graph.values() for name in node.inputs}
    values: dict[str, Value] = {}
    with np.errstate(all="ignore"):
        for node in graph.values():
            inputs = [values[name] for name in node.inputs]
            value = example if node.kind == "input" else _value(chain, node, inputs)
            agree(value.array.shape == node.shape, f"the witness does not fit {node.name}")
            finite = bool(np.isfinite(value.array).all()) and math.isfinite(value.error)
            agree(finite, f"replaying the witness overflows at {node.name}")
            values[node.name] = value
            if node.name == output:
                return value
            for name in node.inputs:
                if last_use[name] == node.name:
                    values.pop(name, None)
    raise Wrong("the output is not computed")


def _value(chain: Chain, node: Node, x: list[Value]) -> Value:
    if node.kind in MAPS:
        return _linear(chain, node, x[0])
    if node.kind not in RULES:
        raise Wrong(f"a {node.kind} ({node.name}) cannot be replayed here")
    return RULES[node.kind](node, x)


def _norm(array: Array) -> float:
    """Upper bound on the l2 norm."""
    flat = array.reshape(-1)
    return math.sqrt(float(flat @ flat)) * (1 + gamma(flat.size + 8)) * UP + FLOOR


def _constant(weight: Weight | None, shape: tuple[int, ...]) -> Value:
    """A constant broadcast to `shape`; 0 where there is none."""
    if weight is None:
        return Value(np.zeros(shape), 0.0)
    array = np.broadcast_to(weight.values.astype(np.float64) * float(weight.factor), shape)
    return Value(array, 3 * U * _norm(array) + FLOOR)


def _sum(x: Value, y: Value) -> Value:
    array = x.array + y.array
    return Value(array, (x.error + y.error + U * _norm(array)) * UP)


def _linear(chain: Chain, node: Node, x: Value) -> Value:
    """|A x - computed| <= |A| |x error| + gamma(terms) | |A| |x| |, with | |A| | by row and column
    sums."""
    weight, bias = node.constants["weight"], node.constants.get("bias")
    op = norms.operator(node, chain.extent(node))
    work = op.kernel[0].size * float(max(op.counts()))
    agree(work < norms.LARGEST_WORK, f"replaying {node.name} takes too long")
    factor = float(abs(weight.factor)) * UP
    norm = factor * chain.spectra.of(node, chain.extent(node), "largest")
    sizes = np.abs(op.kernel)
    rough = factor * math.sqrt(
        float(sizes.sum((2, 3, 4)).max()) * float(sizes.sum((1, 3, 4)).max()) * op.copies()
    )
    array = apply(op, node, x.array) * float(weight.factor)
    terms = op.kernel[0].size + op.copies() + 8
    error = norm * x.error + gamma(terms) * rough * _norm(x.array) + 4 * U * _norm(array)
    shape = node.shape if node.kind == "linear" else (node.shape[0],)
    added = _constant(bias, shape).array
    if node.kind != "linear":
        added = added.reshape(-1, *(1,) * (len(node.shape) - 1))
    added = np.broadcast_to(added, node.shape)
    return _sum(Value(array, error * UP + FLOOR), Value(added, 3 * U * _norm(added)))


def apply(op: norms.Operator, node: Node, x: Array) -> Array:
    """A x or A'x, tap by tap."""
    if node.kind == "linear":
        return x @ op.kernel[0, :, :, 0, 0].T
    g, m, n, k, l = op.kernel.shape
    (h, w), (oh, ow), (s, r), (d, e) = op.extent, op.outputs, op.stride, op.dilation
    taps = [(a, b, np.s_[:, :, a * d :: s, b * e :: r]) for a in range(k) for b in range(l)]
    (top, bottom), (left, right) = op.padding
    if not op.transposed:
        pads = ((0, 0), (0, 0), (top, bottom), (left, right))
        padded = np.pad(x.reshape(g, n, h, w), pads, "wrap" if op.circular else "constant")
        total = np.zeros((g, m, oh * ow))
        for a, b, window in taps:
            part = padded[window][:, :, :oh, :ow].reshape(g, n, oh * ow)
            total += np.ascontiguousarray(op.kernel[:, :, :, a, b]) @ part
        return total.reshape(node.shape)
    padded = np.zeros((g, n, h + top + bottom, w + left + right))
    for a, b, window in taps:
        tap = np.ascontiguousarray(op.kernel[:, :, :, a, b].transpose(0, 2, 1))
        part = tap @ x.reshape(g, m, oh * ow)
        padded[window][:, :, :oh, :ow] += part.reshape(g, n, oh, ow)
    if not op.circular:
        return padded[:, :, top : top + h, left : left + w].reshape(node.shape)
    for axis, before, extent in ((2, top, h), (3, left, w)):  # each copy back to its origin
        folded = np.zeros((*padded.shape[:axis], extent, *padded.shape[axis + 1 :]))
        moved, source = np.moveaxis(folded, axis, 0), np.moveaxis(padded, axis, 0)
        for i in range(len(source)):
            moved[(i - before) % extent] += source[i]
        padded = folded
    return padded.reshape(node.shape)


def _scale(node: Node, x: list[Value]) -> Value:
    weight = node.constants["weight"]
    largest = float(largest_entry(weight.values) * abs(weight.factor)) * UP
    array = _constant(weight, node.shape).array * x[0].array
    carried = largest * x[0].error + 6 * U * _norm(array)
    bias = _constant(node.constants.get("bias"), node.shape)
    return _sum(Value(array, carried * UP + FLOOR), bias)


def _gather(node: Node, x: list[Value]) -> Value:
    index = node.constants["index"].values
    flat = np.append(x[0].array.reshape(-1), 0.0)
    return Value(flat[index], x[0].error * _own(node))


def _combine(node: Node, x: list[Value]) -> Value:
    total = _constant(node.constants.get("bias"), node.shape)
    for text, value in zip(node.attributes["coefficients"], x, strict=True):
        c = float(Fraction(text))
        array = c * value.array
        error = abs(c) * UP * value.error + 3 * U * _norm(array)
        total = _sum(total, Value(array, error * UP + FLOOR))
    return total


def _concat(node: Node, x: list[Value]) -> Value:
    array = np.concatenate([value.array for value in x], node.attributes["dim"])
    return Value(array, math.hypot(*(value.error for value in x)) * UP)


def _windows(node: Node, x: list[Value]) -> Value:
    array, terms, at = x[0].array, 8, node.attributes
    sizes = np.abs(array)
    for k, dim in enumerate(at["dims"]):
        windows = at["windows"][k]
        terms += max((stop - start for start, stop in windows), default=0) + 2
        weights = [float(Fraction(w)) for w in at["weights"][k]] if "weights" in at else None
        positive = None if weights is None else [abs(w) for w in weights]
        array, sizes = _along(array, dim, windows, weights), _along(sizes, dim, windows, positive)
    rounding = 0.0 if node.kind == "window_max" else gamma(terms) * _norm(sizes)
    return Value(array, (_own(node) * x[0].error + rounding) * UP + FLOOR)


def _along(x: Array, dim: int, windows: list[list[int]], weights: list[float] | None) -> Array:
    pieces = []
    for k, (start, stop) in enumerate(windows):
        part = x.take(range(start, stop), dim)
        pieces.append(part.max(dim) if weights is None else weights[k] * part.sum(dim))
    shape = (*x.shape[:dim], 0, *x.shape[dim + 1 :])
    return np.stack(pieces, dim) if pieces else np.zeros(shape)


def _own(node: Node) -> float:
    return float(OWN[node.kind][1](node)) * UP


def _extreme(node: Node, x: list[Value]) -> Value:
    pick = np.maximum if node.kind == "maximum" else np.minimum
    return Value(pick(x[0].array, x[1].array), math.hypot(x[0].error, x[1].error) * UP)


def _activation(node: Node, x: list[Value]) -> Value:
    function, given = node.attributes["function"], node.attributes["parameters"]
    parameters: dict[str, Any] = {
        k: None if v is None else float(Fraction(v)) for k, v in given.items()
    }
    if function == "prelu":
        parameters["negative_slope"] = _constant(node.constants["slope"], node.shape).array
        function = "leaky_relu"
    v, carried = x[0].array, _own(node) * x[0].error
    if function in PIECEWISE:
        array = PIECEWISE[function](v, **parameters)
        return Value(array, (carried + 4 * U * _norm(array)) * UP + FLOOR)
    if function not in SMOOTH or parameters:
        raise Wrong(f"a {function} ({node.name}) cannot be replayed here")
    array, error = _in_balls(SMOOTH[function], v)
    return Value(array, (carried + error) * UP + FLOOR)


PIECEWISE: dict[str, Callable[..., Array]] = {
    "relu": lambda v: np.maximum(v, 0.0),
    "leaky_relu": lambda v, negative_slope: np.where(v > 0, v, v * negative_slope),
    "clamp": lambda v, low=None, high=None: np.clip(
        v, -np.inf if low is None else low, np.inf if high is None else high
    ),
    "abs": np.abs,
}
"""Each entry with a relative error of at most 4 U."""
SMOOTH: dict[str, Callable] = {
    "tanh": lambda b: b.tanh(),
    "sigmoid": lambda b: 1 / (1 + (-b).exp()),
    "silu": lambda b: b / (1 + (-b).exp()),
    "gelu": lambda b: b * (1 + (b / b.__class__(2).sqrt()).erf()) / 2,
    "softplus": lambda b: b.exp().log1p(),
    "sin": lambda b: b.sin(),
    "cos": lambda b: b.cos(),
    "atan": lambda b: b.atan(),
    "erf": lambda b: b.erf(),
}
"""On python-flint's balls."""


def _in_balls(function: Callable, v: Array) -> tuple[Array, float]:
    """The function entry by entry, and an l2 bound on the error."""
    try:
        import flint
    except ImportError as error:
        raise Unreadable("a smooth activation is replayed with python-flint: install it") from error
    agree(v.size <= 2**20, "too many entries to evaluate in balls")
    found = [function(flint.arb(float(entry))) for entry in v.reshape(-1)]
    array = np.array([float(ball.mid()) for ball in found])
    radii = np.array([float(ball.rad()) for ball in found])
    error = _norm(radii) * UP + 2 * U * _norm(array)
    return array.reshape(v.shape), error


RULES: dict[str, Callable[[Node, list[Value]], Value]] = {
    "constant": lambda node, x: _constant(node.constants["value"], node.shape),
    "scale": _scale,
    "gather": _gather,
    "reshape": lambda node, x: Value(x[0].array.reshape(node.shape), x[0].error),
    "combine": _combine,
    "concat": _concat,
    "window_sum": _windows,
    "window_max": _windows,
    "activation": _activation,
    "maximum": _extreme,
    "minimum": _extreme,
}
"""By kind of node, except linear maps."""
