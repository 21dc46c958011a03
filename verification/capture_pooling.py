"""Capture: pooling and reductions, as sums and maxima over windows of exact weights; sorting."""

from fractions import Fraction
from typing import Any

from verification.capture_builder import Builder, Unrecognised, Value
from verification.capture_elementwise import extreme
from verification.capture_rules import Call, rule, several

Windows = list[list[int]]


def _spatial(build: Builder, call: Call, count: int) -> tuple[Value, list[int], list[int]]:
    """The input, the last dimensions of its node, which are pooled, and their extents. Without
    channels, torch takes the examples of a batch for these, and pools each by itself."""
    x = call.data("input" if "input" in call.arguments else "self")
    if len(x.full) not in (count + 1, count + 2):
        raise Unrecognised(f"pooling of shape {x.full}")
    dims = [build.dim(x, d) for d in range(-count, 0)]
    return x, dims, list(x.full[-count:])


def _slides(call: Call, count: int) -> list[tuple[int, int, int]]:
    """(size, stride, padding) along each dimension."""
    size = several(call["kernel_size"], count)
    stride = several(call["stride"], count) if call.get("stride") else size
    return list(zip(size, stride, several(call["padding"], count), strict=True))


@rule("avg_pool1d", "avg_pool2d")
def _average(build: Builder, call: Call) -> Value:
    count = int(call.op[-2])
    x, dims, extents = _spatial(build, call, count)
    windows: list[Windows] = []
    weights: list[list[Fraction]] = []
    divisor = call.get("divisor_override")
    slides = _slides(call, count)
    for k, ((size, stride, padding), n) in enumerate(zip(slides, extents, strict=True)):
        windows.append([])
        weights.append([])
        for i in range(call.full[k - count]):
            start = i * stride - padding
            stop = min(start + size, n + padding)
            inside = [max(start, 0), min(stop, n)]
            share = stop - start if call["count_include_pad"] else inside[1] - inside[0]
            if divisor is not None:
                share = divisor if k == 0 else 1
            if share == 0 or inside[0] >= inside[1]:
                raise Unrecognised("an empty window")
            windows[-1].append(inside)
            weights[-1].append(Fraction(1, share))
    attributes = {"dims": dims, "windows": windows, "weights": weights}
    return build.emit("window_sum", [x], call.full, attributes)


@rule("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool1d_with_indices")
def _maximum(build: Builder, call: Call) -> Any:
    count = int(call.op[len("max_pool")])
    x, dims, extents = _spatial(build, call, count)
    if any(d != 1 for d in several(call["dilation"], count)):
        raise Unrecognised("dilated pooling")
    windows = []
    for k, ((size, stride, padding), n) in enumerate(
        zip(_slides(call, count), extents, strict=True)
    ):
        starts = [i * stride - padding for i in range(call.full[k - count])]
        windows.append([[max(s, 0), min(s + size, n)] for s in starts])
    if any(start >= stop for along in windows for start, stop in along):
        raise Unrecognised("an empty window")
    result = build.emit("window_max", [x], call.full, {"dims": dims, "windows": windows})
    return (result, None) if call.op.endswith("indices") else result


def _adaptive(extent: int, count: int) -> Windows:
    """The windows of adaptive pooling from `extent` to `count` entries: they overlap, and where
    count > extent they repeat entries."""
    return [[i * extent // count, -(-(i + 1) * extent // count)] for i in range(count)]


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_average(build: Builder, call: Call) -> Value:
    count = int(call.op[-2])
    x, dims, extents = _spatial(build, call, count)
    windows = [_adaptive(n, m) for n, m in zip(extents, call.full[-count:], strict=True)]
    weights = [[Fraction(1, stop - start) for start, stop in along] for along in windows]
    attributes = {"dims": dims, "windows": windows, "weights": weights}
    return build.emit("window_sum", [x], call.full, attributes)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_maximum(build: Builder, call: Call) -> Any:
    count = int(call.op[-2])
    x, dims, extents = _spatial(build, call, count)
    windows = [_adaptive(n, m) for n, m in zip(extents, call.full[-count:], strict=True)]
    return build.emit("window_max", [x], call.full, {"dims": dims, "windows": windows}), None


def _reduced(
    build: Builder, x: Value, dims: Any
) -> tuple[list[int], list[Windows], tuple[int, ...]]:
    """Windows over whole dimensions, and the full shape when these are kept as size 1."""
    dims = [dims] if isinstance(dims, int) else list(dims or range(len(x.full)))
    inner = [build.dim(x, d) for d in dims]
    around = [d % len(x.full) for d in dims]
    windows = [[[0, x.full[d]]] for d in around]
    full = tuple(1 if d in around else n for d, n in enumerate(x.full))
    return inner, windows, full


@rule("mean", "sum")
def _mean(build: Builder, call: Call) -> Value:
    x = call.data("self")
    inner, windows, full = _reduced(build, x, call.get("dim"))
    weights = [
        [Fraction(1, along[0][1]) if call.op == "mean" else Fraction(1)] for along in windows
    ]
    attributes = {"dims": inner, "windows": windows, "weights": weights}
    return build.reshaped(build.emit("window_sum", [x], full, attributes), call.full)


@rule("amax", "amin", "max", "min")
def _extreme(build: Builder, call: Call) -> Any:
    if call.get("other") is not None:
        return extreme(build, call)
    x = call.data("self")
    if call.get("dim") is None:
        raise Unrecognised("an extreme across the batch")
    inner, windows, full = _reduced(build, x, call["dim"])
    negate = call.op in ("amin", "min")
    if windows == [[[0, 2]]]:
        (dim,), k = [call["dim"]] if isinstance(call["dim"], int) else call["dim"], 1 - negate
        y = build.moved(_ordered(build, x, dim), lambda t: t.narrow(dim, k, 1))
    else:
        x = build.combine([(-1, x)], x.full) if negate else x
        y = build.emit("window_max", [x], full, {"dims": inner, "windows": windows})
        y = build.combine([(-1, y)], full) if negate else y
    result = build.reshaped(y, call.full)
    return result if call.op in ("amax", "amin") else (result, None)


def _ordered(build: Builder, x: Value, dim: int) -> Value:
    """The entries along a dimension in ascending order: one node, however often it is asked for,
    so that the largest and the smallest of two are seen to be these two, sorted."""
    place = build.dim(x, dim)
    if (x, place) not in build.ordered:
        build.ordered[x, place] = build.emit("sort", [x], x.full, {"dim": place})
    return build.ordered[x, place]


@rule("sort")
def _sort(build: Builder, call: Call) -> Any:
    x, dim = call.data("self"), call["dim"]
    y = _ordered(build, x, dim)
    return build.moved(y, lambda t: t.flip(dim)) if call["descending"] else y, None


@rule("topk", "kthvalue", "median")
def _ranked(build: Builder, call: Call) -> Any:
    """The entries of some ranks along a dimension, without their places."""
    x, dim = call.data("self"), call.get("dim")
    if dim is None:
        raise Unrecognised("a median across the batch")
    if not call.get("sorted", True):
        raise Unrecognised("entries in no order")
    y, n = _ordered(build, x, dim), x.full[dim]
    if call.op == "topk":
        k = call["k"]
        if call["largest"]:
            return build.moved(y, lambda t: t.narrow(dim, n - k, k).flip(dim)), None
        return build.moved(y, lambda t: t.narrow(dim, 0, k)), None
    rank = call["k"] - 1 if call.op == "kthvalue" else (n - 1) // 2
    return build.reshaped(build.moved(y, lambda t: t.narrow(dim, rank, 1)), call.full), None
