"""What a node computes, said once for every kind of number.

The first dimension of an array counts examples. The same rule gives a node's shape (at zeros), its
value at a witness, and its matrix (at a basis), so a graph has one meaning here; `pulled` has the
adjoints of the linear ones.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from verification.checker.activations import PIECEWISE, SMOOTH
from verification.checker.kinds import (
    Array,
    Numbers,
    each,
    larger,
    larger_one,
    objects,
    ordered,
    smaller,
    times,
    without_bias,
    without_integers,
)
from verification.checker.reading import Node, Wrong, agree

# Linear nodes. -------------------------------------------------------------------------------

LINEAR = (
    "linear", "conv", "adjoint", "scale", "combine", "window_sum", "gather", "reshape", "concat",
)  # fmt: skip
"""Kinds that are linear in their inputs, up to a bias."""
LARGEST_READ = 2**28
"""Entries that a convolution reads, or writes, for one tap."""


def _fits(node: Node, size: int) -> None:
    agree(size <= max(1, math.prod(node.shape)), f"{node.name} has another shape")


def biased(node: Node, y: Array, c: Numbers) -> Array:
    """y + bias, which must not make it larger."""
    if "bias" not in c:
        return y
    bias = c["bias"]
    if node.kind in ("conv", "adjoint"):
        bias = bias.reshape(-1, *(1,) * (y.ndim - 2))
    agree(_joint(node, bias.shape, y.shape[1:]) == y.shape[1:], f"a bias of {node.name}")
    return y + bias


def _joint(node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after broadcasting."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise Wrong(f"the inputs of {node.name} do not fit") from error


def _linear(node: Node, c: Numbers, x: Array) -> Array:
    weight = c["weight"]
    agree(weight.ndim == 2 and x.ndim > 1 and x.shape[-1] == weight.shape[1],
          f"{node.name}: its weight does not fit")  # fmt: skip
    _fits(node, math.prod(x.shape[1:-1]) * len(weight))
    y = times(x.reshape(1, -1, x.shape[-1]), weight.T)
    return biased(node, y.reshape(*x.shape[:-1], len(weight)), c)


def outputs(node: Node, extent: tuple[int, ...]) -> tuple[int, ...]:
    """The extent of a convolution's output for inputs of `extent`."""
    at, size = node.attributes, node.constants["weight"].values.shape[2:]
    dims = len(extent)
    lists = (at["stride"], at["padding"], at["dilation"])
    agree(dims in (1, 2) and len(size) == dims, f"{node.name} is no convolution in 1 or 2 dims")
    agree(all(len(v) == dims for v in lists), f"{node.name} has attributes of another dimension")
    agree(min(*at["stride"], *at["dilation"], *size) >= 1, f"{node.name} has a stride of 0")
    spans = [d * (k - 1) + 1 for d, k in zip(at["dilation"], size, strict=True)]
    room = [n + sum(p) for n, p in zip(extent, at["padding"], strict=True)]
    agree(math.prod(room) <= 2**22, f"{node.name} is padded to too large an image")
    wraps = all(max(p) <= n for p, n in zip(at["padding"], extent, strict=True))
    agree(wraps or not at["circular"], f"{node.name} is padded by more than its input")
    found = tuple((n - s) // t + 1 for n, s, t in zip(room, spans, at["stride"], strict=True))
    agree(min(found) >= 0, f"{node.name} is larger than its input")
    return found


def taps(node: Node, extent: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """For every tap and every output, the place in the flattened image that it reads, or the
    size of the image where that is padding; and the extent of the output."""
    at, dims = node.attributes, range(len(extent))
    size, after = node.constants["weight"].values.shape[2:], outputs(node, extent)
    agree(math.prod(size) * math.prod(after) <= 2**26, f"{node.name} has too many taps")
    flat, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for k in dims:
        steps = np.arange(after[k]) * at["stride"][k] - at["padding"][k][0]
        read = (np.arange(size[k]) * at["dilation"][k])[:, None] + steps
        read = read % extent[k] if at["circular"] and extent[k] else read
        here = (read >= 0) & (read < extent[k])
        flat = (flat[:, None, :, None] * extent[k] + read[None, :, None, :]).reshape(
            len(flat) * len(read), -1
        )
        inside = (inside[:, None, :, None] & here[None, :, None, :]).reshape(flat.shape)
    return np.where(inside, flat, math.prod(extent)), after


def _kernel(node: Node, weight: Array) -> Array:
    """The weight as (g, m, n, taps)."""
    groups = node.attributes["groups"]
    agree(weight.ndim in (3, 4) and weight.shape[0] % groups == 0, f"{node.name}: its kernel")
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _conv(node: Node, c: Numbers, x: Array) -> Array:
    kernel, extent = _kernel(node, c["weight"]), x.shape[2:]
    g, m, n, count = kernel.shape
    agree(x.shape[1] == g * n, f"{node.name} has {x.shape[1]} input channels, not {g * n}")
    places, after = taps(node, extent)
    _fits(node, g * m * places.shape[1])
    size = len(x) * g * n * places.shape[1]
    agree(size <= LARGEST_READ, f"{node.name} reads {size} entries at once")
    work = float(kernel.size) * places.shape[1]
    agree(work < 1e11, f"{node.name} takes too long")
    read = np.zeros((len(x), g, n, math.prod(extent) + 1), x.dtype)
    read[..., :-1] = x.reshape(len(x), g, n, -1)
    total = np.zeros((len(x), g, m, places.shape[1]), x.dtype)
    for t in range(count):
        total = total + times(kernel[..., t], read[..., places[t]])
    return biased(node, total.reshape(len(x), g * m, *after), c)


def _adjoint(node: Node, c: Numbers, y: Array) -> Array:
    kernel, extent = _kernel(node, c["weight"]), tuple(node.attributes["extent"])
    g, m, n, count = kernel.shape
    places, after = taps(node, extent)
    agree(y.shape[1:] == (g * m, *after), f"{node.name}: its input has another shape")
    _fits(node, g * n * math.prod(extent))
    agree(float(kernel.size) * places.shape[1] < 1e11, f"{node.name} takes too long")
    size = len(y) * g * n * places.shape[1]
    agree(size <= LARGEST_READ, f"{node.name} writes {size} entries at once")
    total = np.zeros((math.prod(extent) + 1, len(y), g, n), y.dtype)
    flat = y.reshape(len(y), g, m, -1)
    for t in range(count):
        part = times(kernel[..., t].transpose(0, 2, 1), flat)
        np.add.at(total, places[t], part.transpose(3, 0, 1, 2))
    x = total[:-1].transpose(1, 2, 3, 0)
    return biased(node, x.reshape(len(y), g * n, *extent), c)


def _scale(node: Node, c: Numbers, x: Array) -> Array:
    weight = c["weight"]
    agree(_joint(node, weight.shape, x.shape[1:]) == x.shape[1:], f"the weight of {node.name}")
    return biased(node, x * weight, c)


def _gather(node: Node, c: Numbers, x: Array) -> Array:
    index, w = c["index"], node.constants["index"]
    agree(index.dtype.kind == "i" and w.factor == 1, f"{node.name}: an index of fractions")
    flat = x.reshape(len(x), -1)
    inside = index.size == 0 or (index.min() >= -1 and index.max() < flat.shape[1])
    agree(bool(inside), f"{node.name} reads outside of its input")
    return np.concatenate([flat, np.zeros((len(x), 1), x.dtype)], 1)[:, index]


def _reshape(node: Node, c: Numbers, x: Array) -> Array:
    agree(math.prod(x.shape[1:]) == math.prod(node.shape), f"{node.name} has other entries")
    return x.reshape(len(x), *node.shape)


def _batched(x: tuple[Array, ...]) -> tuple[Array, ...]:
    """The inputs with as many examples each: a constant has one."""
    (count,) = np.broadcast_shapes(*(v.shape[:1] for v in x))
    return tuple(np.broadcast_to(v, (count, *v.shape[1:])) for v in x)


def _combine(node: Node, c: Numbers, *x: Array) -> Array:
    x = _batched(x)
    agree(len({v.shape for v in x}) == 1, f"the inputs of {node.name} are of different shapes")
    agree(len(c["coefficients"]) == len(x), f"{node.name} lacks coefficients")
    total = c["coefficients"][0] * x[0]
    for number, term in zip(c["coefficients"][1:], x[1:], strict=True):
        total = total + number * term
    return biased(node, total, c)


def _concat(node: Node, c: Numbers, *x: Array) -> Array:
    dim = node.attributes["dim"]
    shapes = {(*v.shape[1 : dim + 1], *v.shape[dim + 2 :]) for v in x}
    agree(len(shapes) == 1 and all(dim < v.ndim - 1 for v in x), f"{node.name}: parts do not fit")
    _fits(node, sum(math.prod(v.shape[1:]) for v in x))
    return np.concatenate(_batched(x), dim + 1)


def windows(node: Node, shape: tuple[int, ...]) -> list[tuple[int, Array]]:
    """By dimension, the windows as rows of a matrix of 0 and 1."""
    at, found = node.attributes, []
    agree(len(set(at["dims"])) == len(at["dims"]) == len(at["windows"]), f"{node.name}: windows")
    for dim, along in zip(at["dims"], at["windows"], strict=True):
        agree(dim < len(shape), f"{node.name} has no dimension {dim}")
        agree(len(along) * shape[dim] <= 2**22, f"{node.name}: too many windows")
        matrix = np.zeros((len(along), shape[dim]))
        for row, (start, stop) in zip(matrix, along, strict=True):
            agree(start <= stop <= shape[dim], f"{node.name}: a window [{start}, {stop})")
            row[start:stop] = 1
        found.append((dim, matrix))
    _fits(node, math.prod(_pooled(shape, found)))
    return found


def _pooled(shape: tuple[int, ...], along: list[tuple[int, Array]]) -> tuple[int, ...]:
    sizes = {dim: len(matrix) for dim, matrix in along}
    return tuple(sizes.get(dim, n) for dim, n in enumerate(shape))


def window_matrices(node: Node, c: Numbers, shape: tuple[int, ...]) -> list[tuple[int, Array]]:
    """By dimension, the matrix S of a window sum."""
    found = []
    agree(len(c["weights"]) == len(node.attributes["dims"]), f"{node.name}: weights")
    for (dim, matrix), weights in zip(windows(node, shape), c["weights"], strict=True):
        agree(len(weights) == len(matrix), f"{node.name}: windows without weights")
        whole = matrix.astype(np.int64).astype(object) * objects(weights, (-1, 1))
        floats = all(isinstance(w, float) for w in weights)
        found.append((dim, whole.astype(np.float64) if floats else whole))
    return found


def _along(x: Array, dim: int, matrix: Array) -> Array:
    """A matrix applied along a dimension."""
    moved = np.moveaxis(x, dim, -1)
    found = times(moved.reshape(1, -1, moved.shape[-1]), matrix.T)
    return np.moveaxis(found.reshape(*moved.shape[:-1], len(matrix)), -1, dim)


def _window_sum(node: Node, c: Numbers, x: Array) -> Array:
    for dim, matrix in window_matrices(node, c, x.shape[1:]):
        x = _along(x, dim + 1, matrix)
    return x


# Nonlinear nodes. ----------------------------------------------------------------------------


def _window_max(node: Node, c: Numbers, x: Array) -> Array:
    pick = np.maximum if x.dtype != object else np.frompyfunc(larger_one, 2, 1)
    for dim, matrix in windows(node, x.shape[1:]):
        agree(bool(matrix.any(1).all()), f"{node.name}: an empty window")
        parts = [pick.reduce(x.compress(row > 0, dim + 1), dim + 1) for row in matrix]
        x = np.stack(parts, dim + 1) if parts else x.take([], dim + 1)
    return x


def _activation(node: Node, c: Numbers, x: Array) -> Array:
    function, given = node.attributes["function"], c["parameters"]
    if function in PIECEWISE:
        return PIECEWISE[function](x, c, **given)
    agree(function in SMOOTH, f"{function} ({node.name}) has no value here")
    agree(x.dtype == object, f"{function} ({node.name}) needs balls")
    return np.frompyfunc(lambda b: SMOOTH[function](b, **given), 1, 1)(x)


def _sort(node: Node, c: Numbers, x: Array) -> Array:
    agree(node.attributes["dim"] < x.ndim - 1, f"{node.name} sorts along a dimension it has not")
    return ordered(x, node.attributes["dim"] + 1)


def _softmax(node: Node, c: Numbers, x: Array) -> Array:
    powers = each("exp", x)
    return powers / powers.sum(node.attributes["dim"] + 1, keepdims=True)


def _log_softmax(node: Node, c: Numbers, x: Array) -> Array:
    total = without_integers(each("exp", x).sum(node.attributes["dim"] + 1, keepdims=True))
    return x - each("log", total)


def _logsumexp(node: Node, c: Numbers, x: Array) -> Array:
    count = math.prod(x.shape[dim + 1] for dim in node.attributes["dims"] if dim < x.ndim - 1)
    agree(count > 0, f"{node.name} is the logarithm of an empty sum")
    return each("log", _sums(node, each("exp", x)))


def _sums(node: Node, x: Array) -> Array:
    dims = node.attributes["dims"]
    agree(all(dim < x.ndim - 1 for dim in dims), f"{node.name} reduces a dimension it has not")
    return without_integers(x.sum(tuple(dim + 1 for dim in dims), keepdims=True))


def _norm(node: Node, c: Numbers, x: Array) -> Array:
    return each("sqrt", _sums(node, x * x))


def _normalise(node: Node, c: Numbers, x: Array) -> Array:
    count = math.prod(x.shape[dim + 1] for dim in node.attributes["dims"] if dim < x.ndim - 1)
    x = x - _sums(node, x) / count
    return x / each("sqrt", _sums(node, x * x) / count + c["epsilon"])


def _broadcast(node: Node, x: Array, y: Array) -> tuple[Array, Array]:
    _fits(node, math.prod(_joint(node, x.shape[1:], y.shape[1:])))
    rank = max(x.ndim, y.ndim)
    first, second = (v.reshape(len(v), *(1,) * (rank - v.ndim), *v.shape[1:]) for v in (x, y))
    return first, second


def _matmul(node: Node, c: Numbers, x: Array, y: Array) -> Array:
    agree(min(x.ndim, y.ndim) > 2, f"{node.name} multiplies no matrices")
    leading = _joint(node, x.shape[1:-2], y.shape[1:-2])
    _fits(node, math.prod(leading) * x.shape[-2] * y.shape[-1])
    rank = max(x.ndim, y.ndim)
    return times(*(v.reshape(len(v), *(1,) * (rank - v.ndim), *v.shape[1:]) for v in (x, y)))


RULES: dict[str, tuple[int | None, Callable[..., Array]]] = {
    "constant": (0, lambda node, c: c["value"][None]),
    "linear": (1, _linear),
    "conv": (1, _conv),
    "adjoint": (1, _adjoint),
    "scale": (1, _scale),
    "gather": (1, _gather),
    "reshape": (1, _reshape),
    "combine": (None, _combine),
    "concat": (None, _concat),
    "window_sum": (1, _window_sum),
    "window_max": (1, _window_max),
    "activation": (1, _activation),
    "maximum": (2, lambda node, c, x, y: larger(*_broadcast(node, x, y))),
    "minimum": (2, lambda node, c, x, y: smaller(*_broadcast(node, x, y))),
    "sort": (1, _sort),
    "softmax": (1, _softmax),
    "log_softmax": (1, _log_softmax),
    "logsumexp": (1, _logsumexp),
    "norm": (1, _norm),
    "normalise": (1, _normalise),
    "product": (2, lambda node, c, x, y: np.multiply(*_broadcast(node, x, y))),
    "quotient": (2, lambda node, c, x, y: np.divide(*_broadcast(node, x, y))),
    "matmul": (2, _matmul),
}
"""By kind of node, the number of its inputs and its value from (node, its numbers, inputs)."""


def value(node: Node, given: Numbers, inputs: list[Array]) -> Array:
    """The value of a node. Raises Wrong where it has none."""
    count, rule = RULES.get(node.kind, (None, None))
    agree(rule is not None, f"nothing is known of {node.name} ({node.kind})")
    assert rule is not None
    agree(count in (None, len(inputs)), f"{node.name} has {len(inputs)} inputs")
    if node.kind not in LINEAR:
        inputs = [without_integers(x) for x in inputs]
    try:
        return rule(node, given, *inputs)
    except KeyError as error:
        raise Wrong(f"{node.name} has no {error}") from error
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise Wrong(f"the inputs of {node.name} do not fit") from error


def pulled(node: Node, c: Numbers, y: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """The adjoint of a linear node on y: for each input, of one of the `shapes`."""
    at, inner, c = node.attributes, shapes[0], without_bias(c)
    if node.kind == "linear":
        return [times(y.reshape(1, -1, y.shape[-1]), c["weight"]).reshape(-1, *inner)]
    if node.kind == "conv":
        turned = {**at, "extent": list(inner[1:])}
        return [_adjoint(replace(node, kind="adjoint", attributes=turned, shape=inner), c, y)]
    if node.kind == "adjoint":
        return [_conv(replace(node, kind="conv", shape=inner), c, y)]
    if node.kind == "scale":
        return [y * c["weight"]]
    if node.kind == "combine":
        return [k * y for k in c["coefficients"]]
    if node.kind == "window_sum":
        for dim, matrix in window_matrices(node, c, inner):
            y = _along(y, dim + 1, matrix.T)
        return [y]
    if node.kind == "reshape":
        return [y.reshape(-1, *inner)]
    if node.kind == "gather":
        found = np.zeros((math.prod(inner) + 1, len(y)), y.dtype)
        np.add.at(found, c["index"].reshape(-1), y.reshape(len(y), -1).T)
        return [found[:-1].T.reshape(-1, *inner)]
    agree(node.kind == "concat", f"{node.name} is not linear")
    ends = np.cumsum([shape[at["dim"]] for shape in shapes])[:-1]
    return np.split(y, ends, at["dim"] + 1)
