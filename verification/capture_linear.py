"""Capture: dense layers, convolutions, their adjoints, and normalisation layers."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from verification.capture_builder import Builder, Unrecognised, Value
from verification.capture_constants import Folded, moved, stored
from verification.capture_rules import Call, exact, rule, several
from verification.graph import ROUNDED

STATISTICS = 2.0**-19
"""Error of the scale, and of the shift relative to the sum of its terms, when float32 computes
them on the fly: 32 units, for a handful of roundings and a reciprocal square root. A variance below
0 may cancel against epsilon, which magnifies it."""
SMALLEST = 2.0**-1000
"""Below, a product of float64 numbers is not within few roundings of what it stands for."""


def _dense(build: Builder, x: Value, weight: Folded, bias: Folded | None, full: Any) -> Value:
    constants = {"weight": weight.constant}
    if bias is not None:
        constants["bias"] = bias.constant
    if weight.value.ndim != 2 or len(x.full) < 2 or (bias and bias.value.ndim > 1):
        raise Unrecognised(f"a weight of shape {tuple(weight.value.shape)}")
    return build.emit("linear", [x], full, constants=constants)


def _transposed(weight: Folded) -> Folded:
    value = weight.value.transpose(-1, -2)
    return moved(weight, value, weight.executed.transpose(-1, -2))


def _weight(call: Call, name: str) -> Folded:
    weight = call.constant(name)
    if weight is None:
        raise Unrecognised(f"no {name}")
    return weight


@rule("linear")
def _linear(build: Builder, call: Call) -> Value:
    x, weight = call.data("input"), _weight(call, "weight")
    return _dense(build, x, weight, call.constant("bias"), call.full)


@rule("addmm")
def _addmm(build: Builder, call: Call) -> Value:
    if (call.get("beta", 1), call.get("alpha", 1)) != (1, 1):
        raise Unrecognised("factors of addmm")
    weight = _transposed(_weight(call, "mat2"))
    return _dense(build, call.data("mat1"), weight, call.constant("self"), call.full)


@rule("mm", "matmul", "bmm", "mv", "linalg_matmul")
def _matmul(build: Builder, call: Call) -> Value:
    x, y = call["self"], next(call[k] for k in ("mat2", "vec", "other") if k in call.arguments)
    if isinstance(x, Value) and isinstance(y, Value):
        same = len(x.full) == len(y.full) >= 3 and x.full[:-2] == y.full[:-2]
        if not same or not build.is_plain(x):
            raise Unrecognised("a product of matrices across the batch")
        return build.emit("matmul", [x, y], call.full)
    if isinstance(x, Value) and y.value.ndim == 1:
        row = moved(y, y.value[None], y.executed[None])
        return build.reshaped(_dense(build, x, row, None, (*x.full[:-1], 1)), call.full)
    if isinstance(x, Value):
        return _dense(build, x, _transposed(_matrix(y)), None, call.full)
    if len(y.full) < 3:
        raise Unrecognised("a product from the left of the batch")
    swapped = build.moved(y, lambda t: t.transpose(-1, -2))
    full = (*swapped.full[:-1], x.value.shape[-2])
    product = _dense(build, swapped, _matrix(x), None, full)
    return build.moved(product, lambda t: t.transpose(-1, -2))


def _matrix(weight: Folded) -> Folded:
    if weight.value.ndim != 2:
        raise Unrecognised(f"a product with a constant of shape {tuple(weight.value.shape)}")
    return weight


LONGEST = 2048
"""Entries of which partial sums are taken by a matrix."""


@rule("cumsum")
def _cumsum(build: Builder, call: Call) -> Value:
    """By the triangular matrix of ones, along the last dimension."""
    x, dim = call.data("self"), call["dim"]
    build.dim(x, dim)
    if x.full[dim] > LONGEST:
        raise Unrecognised(f"partial sums of {x.full[dim]} entries")
    ones = torch.ones(x.full[dim], x.full[dim], dtype=call.dtype).tril()
    last = build.moved(x, lambda t: t.transpose(dim, -1))
    y = _dense(build, last, Folded(ones, ones), None, last.full)
    return build.moved(y, lambda t: t.transpose(dim, -1))


@rule("einsum")
def _einsum(build: Builder, call: Call) -> Value:
    """A sum of products with one constant: a matrix for each value of the letters that both and
    the result share, as a convolution of size 1 in groups, or one matrix where there are none."""
    sources, arrow, result = call["equation"].replace(" ", "").partition("->")
    letters, operands = sources.split(","), call["tensors"]
    data = [isinstance(operand, Value) for operand in operands]
    if len(operands) != 2 or not arrow or sum(data) != 1 or "." in sources:
        raise Unrecognised(f"the sum {call['equation']}")
    x, weight = operands[data.index(True)], operands[data.index(False)]
    ours, theirs = letters[data.index(True)], letters[data.index(False)]
    batch, rest = ours[0], ours[1:]
    shared = [k for k in rest if k in theirs and k in result]
    summed = [k for k in rest if k in theirs and k not in result]
    free = [k for k in rest if k not in theirs]
    new = [k for k in theirs if k not in ours]
    once = all(len(set(word)) == len(word) for word in (ours, theirs, result))
    if not (once and sorted(result) == sorted([batch, *shared, *free, *new])):
        raise Unrecognised(f"the sum {call['equation']}")
    if not build.is_plain(x) or result[0] != batch or batch in theirs:
        raise Unrecognised("across the batch")
    size = dict(zip(theirs, weight.value.shape, strict=True)) | dict(zip(ours, x.full, strict=True))
    if [size[k] for k in theirs] != list(weight.value.shape):
        raise Unrecognised("a sum that repeats entries")
    groups, inner, many, places = (
        math.prod(size[k] for k in word) for word in (shared, summed, new, free)
    )

    def ordered(t: Tensor, before: str, after: list[str], shape: tuple[int, ...]) -> Tensor:
        return t.permute([before.index(k) for k in after]).reshape(shape)

    kernel = [
        ordered(t, theirs, [*shared, *new, *summed], (groups * many, inner))
        for t in (weight.value, weight.executed)
    ]
    if shared:
        shape = (size[batch], groups * inner, places)
        moved_in = [batch, *shared, *summed, *free]
        flat = build.moved(x, lambda t: ordered(t, ours, moved_in, shape))
        matrix = moved(weight, kernel[0][..., None], kernel[1][..., None])
        about = {"stride": [1], "padding": [[0, 0]], "dilation": [1], "groups": groups}
        y = build.emit(
            "conv", [flat], (size[batch], groups * many, places), {**about, "circular": False},
            {"weight": matrix.constant},
        )  # fmt: skip
        after = [batch, *shared, *new, *free]
    else:
        shape = (size[batch], places, inner)
        flat = build.moved(x, lambda t: ordered(t, ours, [batch, *free, *summed], shape))
        y = _dense(build, flat, moved(weight, *kernel), None, (size[batch], places, many))
        after = [batch, *free, *new]
    sizes = [size[k] for k in after]
    return build.moved(y, lambda t: t.reshape(sizes).permute([after.index(k) for k in result]))


@rule("conv1d", "conv2d", "convolution")
def _conv(build: Builder, call: Call) -> Value:
    if call.get("transposed"):
        return _adjoint(build, call)
    x, weight, bias = call.data("input"), _weight(call, "weight"), call.constant("bias")
    size = list(weight.value.shape[2:])
    count = len(size)
    _check_images(build, x, count)
    stride, dilation = several(call["stride"], count), several(call["dilation"], count)
    if call["padding"] == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        padding = [[total // 2, total - total // 2] for total in totals]
    else:
        padding = _symmetric(0 if call["padding"] == "valid" else call["padding"], count)
    x, padding, circular = _with_pads(build, x, padding)
    attributes = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": call["groups"],
        "circular": circular,
    }
    constants = {"weight": weight.constant, **({"bias": bias.constant} if bias else {})}
    return build.emit("conv", [x], call.full, attributes, constants)


def _check_images(build: Builder, x: Value, dimensions: int) -> None:
    if len(x.full) != dimensions + 2 or dimensions > 2 or not build.is_plain(x):
        raise Unrecognised(f"a convolution of shape {x.full}")


def _symmetric(padding: Any, count: int) -> list[list[int]]:
    return [[p, p] for p in several(padding, count)]


def _with_pads(
    build: Builder, x: Value, padding: list[list[int]]
) -> tuple[Value, list[list[int]], bool]:
    """The convolution's own padding together with what was padded just before it."""
    padded = build.padded.get(x.name)
    if padded is None or any(padded.pads[0]) or (padded.circular and any(map(any, padding))):
        return x, padding, False
    before = zip(padding, padded.pads[1:], strict=True)
    both = [[own[0] + pad[0], own[1] + pad[1]] for own, pad in before]
    return padded.source, both, padded.circular


@rule("conv_transpose1d", "conv_transpose2d")
def _adjoint(build: Builder, call: Call) -> Value:
    x, weight, bias = call.data("input"), _weight(call, "weight"), call.constant("bias")
    count = weight.value.ndim - 2
    _check_images(build, x, count)
    stride = several(call["stride"], count)
    padding = _symmetric(call["padding"], count)
    for pads, s, extra in zip(padding, stride, several(call["output_padding"], count), strict=True):
        if extra >= s:  # else the convolution drops what does not fill its stride
            pads[1] -= extra
        if pads[1] < 0:
            raise Unrecognised("an output padding beyond the stride")
    attributes = {
        "stride": stride,
        "padding": padding,
        "dilation": several(call["dilation"], count),
        "groups": call["groups"],
        "circular": False,
        "extent": list(call.full[2:]),
    }
    constants = {"weight": weight.constant, **({"bias": bias.constant} if bias else {})}
    return build.emit("adjoint", [x], call.full, attributes, constants)


def _affine(
    build: Builder, x: Value, weight: Folded | None, bias: Folded | None, shape: tuple[int, ...]
) -> Value:
    """weight * x + bias with both reshaped to broadcast like `shape`."""
    constants = {}
    if weight is not None:
        constants["weight"] = build.aligned(_reshaped(weight, shape), x.full)
    if bias is not None:
        constants["bias"] = build.aligned(_reshaped(bias, shape), x.full)
    if not constants:
        return x
    if "weight" not in constants:
        return build.emit("combine", [x], x.full, {"coefficients": [Fraction(1)]}, constants)
    return build.emit("scale", [x], x.full, constants=constants)


def _reshaped(constant: Folded, shape: tuple[int, ...]) -> Folded:
    return replace(constant, value=constant.value.reshape(shape))


@rule("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def _batch_norm(build: Builder, call: Call) -> Any:
    """weight / sqrt(var + eps) and bias - mean * that, computed in float64 from the stored
    numbers: the constants of the graph, within 2^-50 of the exact ones, relatively (the second:
    relatively to |bias| + |mean * weight / sqrt(var + eps)|)."""
    x = call.data("input")
    mean, var = call.constant("running_mean"), call.constant("running_var")
    if call.get("training") or mean is None or var is None or len(x.full) < 2:
        raise Unrecognised("statistics of the batch")
    affine = _statistics(build, call, mean, var)
    shape = (1, -1, *[1] * (len(x.full) - 2))
    result = _affine(build, x, *affine, shape)
    return result if call.op == "batch_norm" else (result, None, None)


def _statistics(build: Builder, call: Call, mean: Folded, var: Folded) -> tuple[Folded, Folded]:
    """Scale and shift. The drift is that of statistics as stored, and float32 has to hold
    var + epsilon as exactly as any number."""
    weight, bias, epsilon = call.constant("weight"), call.constant("bias"), call["eps"]
    if build.executed:
        if any(given is not None and given.error for given in (mean, var, weight, bias)):
            raise Unrecognised("statistics that rounding has changed")
        if float((_float64(var) + epsilon).abs().min()) < 2.0**-100:
            raise Unrecognised("a variance that is nearly 0")
    if abs(var.factor) != 1 and bool((_float64(var) < 0).any()):
        raise Unrecognised("a computed variance below 0, whose rounding epsilon may lay bare")
    scale = (_float64(var) + epsilon).rsqrt()
    if weight is not None:
        scale = _normal(_float64(weight) / (_float64(var) + epsilon).sqrt(), _float64(weight))
    shift = -_float64(mean) * scale
    if bias is not None:
        shift = shift + _float64(bias)
    magnified = scale * (_float64(var).abs() + epsilon) / (_float64(var) + epsilon)
    terms = float((_float64(mean) * magnified).abs().max())
    terms += 0.0 if bias is None else float(_float64(bias).abs().max())
    drift = STATISTICS * float(magnified.abs().max())
    # The shift takes a product and a sum more; it is the bias itself where there is no mean.
    near = 2 * ROUNDED * terms
    kept = not mean.value.any() and (bias is None or abs(bias.factor) == 1)
    return (
        replace(stored(scale, ""), drift=drift, rounded=ROUNDED * float(scale.abs().max())),
        replace(stored(shift, ""), drift=STATISTICS * terms, rounded=0.0 if kept else near),
    )


def _float64(constant: Folded) -> torch.Tensor:
    """Within 2 roundings. Raises Unrecognised where float64 has not the magnitude."""
    value = constant.value.to(torch.float64)
    if abs(constant.factor) in (0, 1):
        return value * float(constant.factor)
    if abs(constant.factor) < SMALLEST:
        raise Unrecognised("a number that underflows")
    return _normal(value * float(constant.factor), value)


def _normal(found: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """A multiple of a tensor, if no entry of it underflows."""
    if bool(((found.abs() < SMALLEST) & (of != 0)).any()):
        raise Unrecognised("a product that underflows")
    return found


@rule("instance_norm")
def _instance_norm(build: Builder, call: Call) -> Value:
    x = call.data("input")
    shape = (1, -1, *[1] * (len(x.full) - 2))
    if len(x.full) < 3:
        raise Unrecognised(f"instance norm of shape {x.full}")
    if not call["use_input_stats"]:
        mean, var = call.constant("running_mean"), call.constant("running_var")
        if mean is None or var is None:
            raise Unrecognised("instance norm without statistics")
        return _affine(build, x, *_statistics(build, call, mean, var), shape)
    dims = [build.dim(x, d) for d in range(2, len(x.full))]
    attributes = {"dims": dims, "epsilon": exact(call["eps"])}
    y = build.emit("normalise", [x], x.full, attributes)
    return _affine(build, y, call.constant("weight"), call.constant("bias"), shape)


@rule("layer_norm")
def _layer_norm(build: Builder, call: Call) -> Value:
    x, shape = call.data("input"), tuple(call["normalized_shape"])
    dims = [build.dim(x, d) for d in range(-len(shape), 0)]
    y = build.emit("normalise", [x], x.full, {"dims": dims, "epsilon": exact(call["eps"])})
    return _affine(build, y, call.constant("weight"), call.constant("bias"), shape)


@rule("group_norm")
def _group_norm(build: Builder, call: Call) -> Value:
    x, groups = call.data("input"), call["num_groups"]
    if not build.is_plain(x):
        raise Unrecognised(f"group norm of shape {x.full}")
    full = (x.full[0], groups, x.full[1] // groups, *x.full[2:])
    split = build.reshaped(x, full)
    dims = list(range(1, len(full) - 1))
    attributes = {"dims": dims, "epsilon": exact(call["eps"])}
    y = build.reshaped(build.emit("normalise", [split], full, attributes), x.full)
    shape = (1, -1, *[1] * (len(x.full) - 2))
    return _affine(build, y, call.constant("weight"), call.constant("bias"), shape)
