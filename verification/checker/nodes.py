"""What one node computes: the shape of its value, and its own Lipschitz constant in l2.

All numbers are exact fractions, rounded up once when they become doubles.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from verification.checker.reading import Node, Wrong

Shape = tuple[int, ...]


def agree(condition: bool, text: str) -> None:
    """Raise Wrong unless the condition holds."""
    if not condition:
        raise Wrong(text)


def round_up(value: Fraction) -> float:
    """The least double at or above a nonnegative fraction."""
    try:
        rounded = float(value)
    except OverflowError as error:
        raise Wrong("a bound is too large for a double") from error
    return rounded if Fraction(rounded) >= value else math.nextafter(rounded, math.inf)


def root_up(square: Fraction) -> Fraction:
    """A fraction at or above the square root: the root itself where that is rational, else above
    it by less than 2^-120 of it."""
    top, bottom = square.numerator, square.denominator
    exact = Fraction(math.isqrt(top), math.isqrt(bottom))
    if exact * exact == square:
        return exact
    scale = 1 << max(0, 128 + (bottom.bit_length() - top.bit_length()) // 2)
    return Fraction(math.isqrt(top * scale * scale // bottom) + 1, scale)


# Shapes. -----------------------------------------------------------------------------------


def outputs(node: Node, extent: Shape) -> Shape:
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
    if at["circular"]:
        agree(
            all(max(p) <= n for p, n in zip(at["padding"], extent, strict=True)),
            f"{node.name} is padded by more than its input",
        )
    return tuple((n - s) // t + 1 for n, s, t in zip(room, spans, at["stride"], strict=True))


def _convolution(node: Node, x: Shape) -> Shape:
    weight, groups = node.constants["weight"].values, node.attributes["groups"]
    agree(weight.ndim in (3, 4) and weight.ndim == len(x) + 1, f"{node.name}: kernel of other rank")
    agree(weight.shape[0] % groups == 0, f"{node.name}: {groups} groups do not divide its channels")
    channels = (weight.shape[1] * groups, weight.shape[0])
    if node.kind == "conv":
        agree(x[0] == channels[0], f"{node.name} has {x[0]} input channels, not {channels[0]}")
        return (channels[1], *outputs(node, x[1:]))
    extent = tuple(node.attributes["extent"])
    agree(len(extent) + 2 == weight.ndim, f"{node.name}: an extent of another dimension")
    agree(x == (channels[1], *outputs(node, extent)), f"{node.name}: its input has another shape")
    return (channels[0], *extent)


def _windows(node: Node, x: Shape) -> Shape:
    at, shape = node.attributes, list(x)
    agree(len(set(at["dims"])) == len(at["dims"]) == len(at["windows"]), f"{node.name}: windows")
    for dim, windows in zip(at["dims"], at["windows"], strict=True):
        agree(dim < len(x), f"{node.name} has no dimension {dim}")
        least = 1 if node.kind == "window_max" else 0
        for start, stop in windows:
            agree(start + least <= stop <= x[dim], f"{node.name}: a window [{start}, {stop})")
        shape[dim] = len(windows)
    if node.kind == "window_sum":
        lengths = [len(windows) for windows in at["windows"]]
        agree([len(w) for w in at["weights"]] == lengths, f"{node.name}: windows without weights")
    return tuple(shape)


def _gather(node: Node, x: Shape) -> Shape:
    index = node.constants["index"]
    agree(index.values.dtype.kind == "i" and index.factor == 1, f"{node.name}: index of fractions")
    inside = index.values.size == 0 or (
        index.values.min() >= -1 and index.values.max() < math.prod(x)
    )
    agree(bool(inside), f"{node.name} reads outside of its input")
    return index.values.shape


def _reduced(node: Node, x: Shape) -> Shape:
    dims = node.attributes["dims"]
    agree(all(dim < len(x) for dim in dims), f"{node.name} reduces a dimension it has not")
    kept = node.kind == "normalise"
    return tuple(n if kept or dim not in dims else 1 for dim, n in enumerate(x))


def _joined(node: Node, *x: Shape) -> Shape:
    dim = node.attributes["dim"]
    agree(bool(x) and all(dim < len(shape) for shape in x), f"{node.name} has no dimension {dim}")
    total = sum(shape[dim] for shape in x)
    joined = [(*shape[:dim], total, *shape[dim + 1 :]) for shape in x]
    agree(len(set(joined)) == 1, f"{node.name} joins values that do not fit")
    return joined[0]


def _same(node: Node, *x: Shape) -> Shape:
    agree(bool(x) and len(set(x)) == 1, f"the inputs of {node.name} are of different shapes")
    if node.kind == "combine":
        agree(len(node.attributes["coefficients"]) == len(x), f"{node.name} lacks coefficients")
    if node.kind == "softmax":
        agree(node.attributes["dim"] < len(x[0]), f"{node.name}: no such dimension")
    return x[0]


def _broadcast(node: Node, *x: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*x)
    except ValueError as error:
        raise Wrong(f"the inputs of {node.name} do not fit") from error


def _linear(node: Node, x: Shape) -> Shape:
    weight = node.constants["weight"].values
    agree(weight.ndim == 2 and x[-1:] == weight.shape[1:], f"{node.name}: weight does not fit")
    return (*x[:-1], weight.shape[0])


def _reshaped(node: Node, x: Shape) -> Shape:
    agree(math.prod(x) == math.prod(node.shape), f"{node.name} has another number of entries")
    return node.shape


SHAPES: dict[str, tuple[int | None, Callable[..., Shape]]] = {
    "input": (0, lambda node: node.shape),
    "constant": (0, lambda node: node.constants["value"].values.shape),
    "linear": (1, _linear),
    "conv": (1, _convolution),
    "adjoint": (1, _convolution),
    "scale": (1, _same),
    "gather": (1, _gather),
    "reshape": (1, _reshaped),
    "combine": (None, _same),
    "concat": (None, _joined),
    "window_sum": (1, _windows),
    "window_max": (1, _windows),
    "activation": (1, _same),
    "maximum": (2, _broadcast),
    "minimum": (2, _broadcast),
    "softmax": (1, _same),
    "norm": (1, _reduced),
    "normalise": (1, _reduced),
    "product": (2, _broadcast),
    "quotient": (2, _broadcast),
    "matmul": (2, lambda node, *x: node.shape),
    "unknown": (None, lambda node, *x: node.shape),
}
"""By kind, the number of inputs and the shape of the value."""
NEEDED = {"constant": "value", "linear": "weight", "conv": "weight", "adjoint": "weight",
          "scale": "weight", "gather": "index"}  # fmt: skip


def check_shapes(graph: Mapping[str, Node]) -> None:
    """Raise Wrong unless every node's shape is what it computes from its inputs and constants."""
    for node in graph.values():
        count, rule = SHAPES[node.kind]
        agree(count in (None, len(node.inputs)), f"{node.name} has {len(node.inputs)} inputs")
        need = NEEDED.get(node.kind)
        agree(need is None or need in node.constants, f"{node.name} has no {need}")
        shape = rule(node, *(graph[name].shape for name in node.inputs))
        agree(shape == node.shape, f"{node.name} has shape {shape}, not {node.shape}")
        for use, weight in node.constants.items():
            agree(weight.values.dtype.kind == "f" or use == "index", f"{node.name}: integers")
            if use in ("bias", "slope") or node.kind == "scale":
                place = (shape[0],) if node.kind in ("conv", "adjoint") else shape
                agree(
                    _broadcast(node, weight.values.shape, place) == place,
                    f"the {use} of {node.name} does not fit",
                )


# Lipschitz constants. ----------------------------------------------------------------------

_HALF = Fraction(1, 2)
_SELU = (Fraction(1.0507009873554805), Fraction(1.0507009873554805) * Fraction(1.6732632423543772))
_FIXED = {
    "relu": ("0", "1"), "celu": ("0", "1"), "softplus": ("0", "1"), "softsign": ("0", "1"),
    "softshrink": ("0", "1"), "tanh": ("0", "1"), "atan": ("0", "1"), "logsigmoid": ("0", "1"),
    "sigmoid": ("0", "1/4"), "hardsigmoid": ("0", "1/6"), "hardswish": ("-1/2", "3/2"),
    "abs": ("-1", "1"), "sin": ("-1", "1"), "cos": ("-1", "1"), "erf": ("0", "1.128380"),
    "gelu": ("-0.128905", "1.128905"), "gelu_tanh": ("-0.128994", "1.128994"),
    "silu": ("-0.099840", "1.099840"), "mish": ("-0.112527", "1.088499"),
}  # fmt: skip
"""Least and greatest difference quotient, rounded outwards, whatever the parameters."""
PARAMETERS = {"leaky_relu": {"negative_slope"}, "clamp": {"low", "high"}, "elu": {"alpha"},
              "celu": {"alpha"}, "softplus": {"beta"}, "softshrink": {"lambd"}}  # fmt: skip


def slopes(node: Node) -> tuple[Fraction, Fraction]:
    """An interval that holds all difference quotients of an activation's function."""
    function, one = node.attributes["function"], Fraction(1)
    given = {k: Fraction(v) for k, v in node.attributes["parameters"].items() if v is not None}
    agree(set(given) <= PARAMETERS.get(function, set()), f"{node.name} has other parameters")
    if function in _FIXED:
        low, high = _FIXED[function]
        return Fraction(low), Fraction(high)
    if function == "clamp":
        inside = len(given) < 2 or given["low"] < given["high"]
        return (Fraction(0), Fraction(inside)) if given else (one, one)
    if function == "prelu" and "slope" in node.constants:
        slope = node.constants["slope"]
        values = slope.values.astype(np.float64)
        ends = [slope.factor * Fraction(float(v)) for v in (values.min(), values.max())]
    elif function == "leaky_relu" and given:
        ends = [given["negative_slope"]]
    elif function == "elu" and given:
        ends = [Fraction(0), given["alpha"]]
    elif function == "selu":
        ends = [Fraction(0), *_SELU]
        one = _SELU[0]
    else:
        raise Wrong(f"the slopes of {function!r} are not known")
    return min(*ends, one), max(*ends, one)


def largest_entry(values: np.ndarray) -> Fraction:
    """max |v|, exactly."""
    return Fraction(float(np.abs(values.astype(np.float64)).max())) if values.size else Fraction(0)


def _copies(node: Node) -> Fraction:
    used = node.constants["index"].values.reshape(-1)
    used = used[used >= 0]
    return root_up(Fraction(int(np.unique(used, return_counts=True)[1].max()) if used.size else 0))


def _overlaps(node: Node) -> Fraction:
    """The most windows an entry is in."""
    product = 1
    for windows in node.attributes["windows"]:
        changes: Counter[int] = Counter()
        for start, stop in windows:
            changes[start] += 1
            changes[stop] -= 1
        level = most = 0
        for place in sorted(changes):
            level += changes[place]
            most = max(most, level)
        product *= most
    return root_up(Fraction(product))


def _sums(node: Node) -> Fraction:
    """A Kronecker product of matrices S, one a dimension: |S|^2 <= largest row sum of |S S'|."""
    square = Fraction(1)
    at = node.attributes
    agree(all(len(windows) <= 512 for windows in at["windows"]), f"{node.name}: too many windows")
    for windows, weights in zip(at["windows"], at["weights"], strict=True):
        rows = [(a, b, abs(Fraction(w))) for (a, b), w in zip(windows, weights, strict=True)]
        totals = [
            v * sum((w * max(0, min(b, d) - max(a, c)) for c, d, w in rows), Fraction(0))
            for a, b, v in rows
        ]
        square *= max(totals, default=Fraction(0))
    return root_up(square)


def _normalised(node: Node) -> Fraction:
    epsilon = Fraction(node.attributes["epsilon"])
    agree(epsilon > 0, f"{node.name} divides by a deviation that may be 0")
    return root_up(1 / epsilon)


OWN: dict[str, tuple[str, Callable[[Node], Fraction]]] = {
    "scale": ("scale", lambda n: abs(n.constants["weight"].factor)
              * largest_entry(n.constants["weight"].values)),
    "reshape": ("copies", lambda n: Fraction(1)),
    "gather": ("copies", _copies),
    "window_sum": ("windows", _sums),
    "window_max": ("overlap", _overlaps),
    "activation": ("slope", lambda n: max(map(abs, slopes(n)))),
    "softmax": ("softmax", lambda n: _HALF),
    "norm": ("length", lambda n: Fraction(1)),
    "normalise": ("normalise", _normalised),
}  # fmt: skip
"""By kind of a node with one input, the law's name and its constant from the input: the reasons
are in docs/certificates.md. Linear maps are in `norms`."""
