"""One node by itself: whether its shape is that of what it computes, and its Lipschitz constant.

All numbers are exact fractions, rounded up once when they become doubles.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from verification.checker.kinds import Array, numbers
from verification.checker.reading import Node, Wrong, agree
from verification.checker.values import biased, value, windows
from verification.checker.work import cost_of, spend, total, work_of


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


LARGEST_WORK = 1e12
"""Products of one evaluation of a graph, above which the checker refuses."""


def _zeros(values: Array, factor: Fraction) -> Array:
    return np.zeros(values.shape)


def check_shapes(graph: Mapping[str, Node]) -> None:
    """Raise Wrong unless every node's shape is what it computes from its inputs and constants."""
    work = sum(work_of(node, graph) for node in graph.values())
    agree(work < LARGEST_WORK, f"a graph needs {work:.0e} operations, too many to check")
    for node in graph.values():
        spend(cost_of(node, graph))
        kinds = {use: w.values.dtype.kind for use, w in node.constants.items()}
        agree(all(k == "f" or use == "index" for use, k in kinds.items()), f"{node.name}: integers")
        if node.kind in ("input", "unknown"):
            agree(node.kind != "input" or not node.inputs, f"{node.name} has inputs")
            continue
        each = {name: np.zeros((1, *graph[name].shape)) for name in node.inputs}
        zeros = [each[name] for name in node.inputs]
        if node.kind == "activation":
            agree(len(zeros) == 1, f"{node.name} has {len(zeros)} inputs")
            parameters(node)
            found = biased(
                node, zeros[0], {"bias": numbers(node, _zeros).get("slope", zeros[0][0])}
            )
        else:
            with np.errstate(all="ignore"):  # quotients of zeros
                found = value(node, numbers(node, _zeros), zeros)
        shape = found.shape[1:]
        agree(shape == node.shape, f"{node.name} has shape {shape}, not {node.shape}")


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
"""Least and greatest difference quotient, rounded outwards, for all `parameters`."""
PARAMETERS = {"leaky_relu": {"negative_slope"}, "clamp": {"low", "high"}, "elu": {"alpha"},
              "celu": {"alpha"}, "softplus": {"beta"}, "softshrink": {"lambd"}}  # fmt: skip
KNOWN = {*_FIXED, *PARAMETERS, "prelu", "selu"}
"""All functions: any other may be no number somewhere."""


def parameters(node: Node) -> dict[str, Fraction]:
    """The numbers of an activation. Raises Wrong unless they are those its function has, which is
    a known one: all of them, where a clamp may lack a limit, in the range where its slopes are."""
    function, stated = node.attributes["function"], node.attributes["parameters"]
    agree(function in KNOWN, f"{node.name}: nothing is known of {function!r}")
    names = PARAMETERS.get(function, set())
    given = {k: Fraction(v) for k, v in stated.items() if v is not None}
    all_there = set(stated) <= names if function == "clamp" else set(stated) == set(given) == names
    agree(all_there, f"{node.name} has other parameters than {function}")
    bends = function not in ("celu", "softplus") or min(given.values()) > 0
    agree(bends and given.get("lambd", 0) >= 0, f"{node.name}: the slopes of {function} {given}")
    slope = node.constants.get("slope")
    agree((slope is not None) == (function == "prelu"), f"{node.name}: the slopes of a prelu")
    agree(slope is None or slope.values.size > 0, f"{node.name} has no slopes")
    return given


def slopes(node: Node) -> tuple[Fraction, Fraction]:
    """An interval that holds all difference quotients of an activation's function."""
    function, one = node.attributes["function"], Fraction(1)
    given = parameters(node)
    if function in _FIXED:
        low, high = _FIXED[function]
        return Fraction(low), Fraction(high)
    if function == "clamp":
        inside = len(given) < 2 or given["low"] < given["high"]
        return (Fraction(0), Fraction(inside)) if given else (one, one)
    if function == "prelu":
        slope = node.constants["slope"]
        values = slope.values.astype(np.float64)
        ends = [slope.factor * Fraction(float(v)) for v in (values.min(), values.max())]
    elif function == "leaky_relu":
        ends = [given["negative_slope"]]
    elif function == "elu":
        ends = [Fraction(0), given["alpha"]]
    else:
        ends = [Fraction(0), *_SELU]
        one = _SELU[0]
    return min(*ends, one), max(*ends, one)


def largest_entry(values: np.ndarray) -> Fraction:
    """max |v|, exactly."""
    return Fraction(float(np.abs(values.astype(np.float64)).max())) if values.size else Fraction(0)


def _copies(node: Node) -> Fraction:
    used = node.constants["index"].values.reshape(-1)
    used = used[used >= 0]
    return root_up(Fraction(int(np.unique(used, return_counts=True)[1].max()) if used.size else 0))


def _pooled(node: Node) -> list[Array]:
    """By dimension, the windows as rows of 0 and 1 of as many entries as they reach."""
    ends = [max((stop for _, stop in along), default=0) for along in node.attributes["windows"]]
    reach = dict(zip(node.attributes["dims"], ends, strict=True))
    shape = tuple(reach.get(dim, 1) for dim in range(len(node.shape)))
    return [matrix for _, matrix in windows(node, shape)]


def _overlaps(node: Node) -> Fraction:
    """The most windows an entry is in."""
    return root_up(Fraction(math.prod(int(m.sum(0).max(initial=0)) for m in _pooled(node))))


def _sums(node: Node) -> Fraction:
    """A Kronecker product of matrices S, one a dimension: |S|^2 <= largest row sum of |S S'|."""
    square = Fraction(1)
    for matrix, weights in zip(_pooled(node), node.attributes["weights"], strict=True):
        agree(len(matrix) <= 512, f"{node.name}: too many windows")
        sizes = [abs(Fraction(w)) for w in weights]
        rows = (
            size * total(int(n) * other for n, other in zip(row, sizes, strict=True) if n)
            for size, row in zip(sizes, matrix @ matrix.T, strict=True)
        )
        square *= max(rows, default=Fraction(0))
    return root_up(square)


def _log_softmax(node: Node) -> Fraction:
    """|I - 1 p'| = sqrt(n) |p| for probabilities p: a projection along 1, which is 0 for n = 1."""
    count = node.shape[node.attributes["dim"]]
    return root_up(Fraction(count)) if count > 1 else Fraction(0)


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
    "sort": ("sorted", lambda n: Fraction(1)),
    "softmax": ("softmax", lambda n: _HALF),
    "log_softmax": ("logsoftmax", _log_softmax),
    "logsumexp": ("logsumexp", lambda n: Fraction(1)),
    "norm": ("length", lambda n: Fraction(1)),
    "normalise": ("normalise", _normalised),
}  # fmt: skip
"""By kind of a node with one input, the law's name and its constant from the input: the reasons
are in docs/certificates.md. Linear maps are in `norms`."""
