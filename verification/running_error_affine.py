"""The rules of `running_error` for dense layers and convolutions."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.operators.bounds import norm_upper
from dsnn.operators.geometry import Geometry
from dsnn.operators.rounding import gamma
from verification.running_error_watch import (
    Error,
    RunningError,
    UnboundedOperation,
    norm,
    pair,
    rule,
)


@rule(F.linear)
def _linear(watch: RunningError, input: Any, weight: Any, bias: Any = None) -> Tensor:
    (x, ex), (w, ew) = watch.operand(input), watch.operand(weight)
    if not ex.batched or x.ndim < 2 or ew.batched or w.ndim != 2:
        raise UnboundedOperation(f"no rounding bound for this linear map on {tuple(x.shape)}")
    kernel, geometry = watch.multiple(w), Geometry((1, 1))
    value = F.linear(x, w, bias)
    positions = x[0].numel() // x.shape[-1]
    products = w.shape[1]
    return _affine(watch, value, (x, ex), (w, ew), kernel, bias, geometry, positions, products)


@rule(torch.conv2d)
def _conv2d(
    watch: RunningError,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    (x, ex), (w, ew) = watch.operand(input), watch.operand(weight)
    if not ex.batched or x.ndim != 4 or ew.batched or isinstance(padding, str):
        raise UnboundedOperation(f"no rounding bound for this convolution of {tuple(x.shape)}")
    value = torch.conv2d(x, w, bias, stride, padding, dilation, groups)
    geometry = _geometry(x, stride, padding, dilation, groups)
    circle = watch.padded(x)
    if circle is not None and pair(padding) == (0, 0):
        source, (left, right, top, bottom) = circle
        extent, around = (source.shape[2], source.shape[3]), (top, bottom, left, right)
        geometry = replace(geometry, extent=extent, padding=around, circular=True)
        ex = watch.operand(source)[1]
    positions = value[0, 0].numel()
    products = w[0].numel()
    return _affine(
        watch, value, (x, ex), (w, ew), watch.multiple(w), bias, geometry, positions, products
    )


@rule(torch.conv_transpose2d)
def _conv_transpose2d(
    watch: RunningError,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    (x, ex), (w, ew) = watch.operand(input), watch.operand(weight)
    if not ex.batched or x.ndim != 4 or ew.batched:
        raise UnboundedOperation(f"no rounding bound for this convolution of {tuple(x.shape)}")
    value = F.conv_transpose2d(x, w, bias, stride, padding, output_padding, groups, dilation)
    geometry = _geometry(value, stride, padding, dilation, groups)
    positions = value[0, 0].numel()
    products = w[:, 0].numel() // groups
    return _affine(
        watch, value, (x, ex), (w, ew), watch.multiple(w), bias, geometry, positions, products
    )


def _geometry(image: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    top, left = pair(padding)
    extent = (image.shape[2], image.shape[3])
    return Geometry(extent, pair(stride), (top, top, left, left), pair(dilation), groups)


def _affine(
    watch: RunningError,
    value: Tensor,
    argument: tuple[Tensor, Error],
    kernel: tuple[Tensor, Error],
    multiple: tuple[Tensor, Tensor],
    bias: Any,
    geometry: Geometry,
    positions: int,
    products: int,
) -> Tensor:
    """The error of a computed Wx + b: |W| e carried over, the error of W itself, and
    gamma(n) (||W|| |x| + |b|) from rounding, where ||W|| bounds the norm of the map with absolute
    weights by the geometric mean of its row and column sums."""
    (x, ex), (w, ew), (root, factor) = argument, kernel, multiple
    taps = math.sqrt(w[0, 0].numel())
    carried = factor * (_norm(root, geometry) + taps * watch.operand(root)[1].bound)
    size = norm(x, True)
    rounded = absolute_norm(w, geometry.groups) * size
    carried = carried * ex.bound + taps * ew.bound * size
    if bias is not None:
        b, eb = watch.operand(bias)
        rounded = rounded + norm(b, False) * math.sqrt(positions)
        carried = carried + eb.bound * math.sqrt(positions)
    overflow = 0 * value.flatten(1).sum(1)
    return watch.result(value, carried + gamma(products + 16) * rounded + overflow, True)


def absolute_norm(w: Tensor, groups: int) -> float:
    """A bound on the norm of the map with absolute weights, zero padded."""
    rows = w.abs().flatten(1).sum(1).max()
    blocks = w.abs().reshape(groups, w.shape[0] // groups, w.shape[1], -1)
    columns = blocks.sum((1, 3)).max()
    return math.sqrt(float(rows) * float(columns)) * (1 + gamma(w.numel() + 8))


def _norm(w: Tensor, geometry: Geometry) -> float:
    """Upper bound on the norm of the map; infinity without one."""
    if not torch.isfinite(w.sum()):
        return math.inf
    try:
        return norm_upper(w if w.ndim == 4 else w[:, :, None, None], geometry)
    except ArithmeticError:
        return math.inf
