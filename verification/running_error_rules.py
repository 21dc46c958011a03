"""The rules of `running_error` for sums, products, activations, pooling and padding: for each
torch operation, its float64 value and its error.

An exact x, computed as x~ with |x~ - x| <= e in l2, becomes Lx~ + rounding with error
|L| e + |rounding| under a linear map L, and keeps e under a 1-Lipschitz map.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.operators.rounding import UNIT, gamma, sqrt_down
from verification.running_error_watch import (
    METADATA,
    Error,
    RunningError,
    UnboundedOperation,
    norm,
    pair,
    rounding,
    rows,
    rule,
)


def _getter(name: str) -> Any:
    return getattr(torch.Tensor, name).__get__


METADATA |= {
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.size,
    _getter("shape"),
    _getter("ndim"),
}


def _spread(value: Tensor, error: Error, result: Tensor, batched: bool) -> Tensor:
    """The error of `value` when broadcast to `result`, which uses every entry equally often."""
    if error.batched and (value.ndim != result.ndim or value.shape[0] != result.shape[0]):
        raise UnboundedOperation(f"broadcasting {tuple(value.shape)} across the batch")
    if batched and not error.batched and value.ndim == result.ndim and value.shape[0] != 1:
        raise UnboundedOperation(f"a constant of shape {tuple(value.shape)} for a batch")
    uses = result.numel() / value.numel()
    if batched and not error.batched:
        uses /= result.shape[0]
    return error.bound * math.sqrt(uses)


def _largest(value: Tensor, batched: bool) -> Tensor:
    return rows(value.abs()).amax(1) if batched else value.abs().amax()


def _sum(watch: RunningError, x: Any, y: Any, sign: int) -> Tensor:
    (x, ex), (y, ey) = watch.operand(x), watch.operand(y)
    value, batched = x + sign * y, ex.batched or ey.batched
    carried = _spread(x, ex, value, batched) + _spread(y, ey, value, batched)
    return watch.result(value, carried + rounding(value, batched), batched)


@rule(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _add(watch: RunningError, input: Any, other: Any) -> Tensor:
    return _sum(watch, input, other, 1)


@rule(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__)
def _sub(watch: RunningError, input: Any, other: Any) -> Tensor:
    return _sum(watch, input, other, -1)


@rule(torch.rsub, torch.Tensor.__rsub__)
def _rsub(watch: RunningError, input: Any, other: Any) -> Tensor:
    return _sum(watch, other, input, -1)


@rule(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
def _mul(watch: RunningError, input: Any, other: Any) -> Tensor:
    (x, ex), (y, ey) = watch.operand(input), watch.operand(other)
    value, batched = x * y, ex.batched or ey.batched
    sx, sy = _spread(x, ex, value, batched), _spread(y, ey, value, batched)
    carried = sx * sy
    if sx.any():
        carried = carried + _largest(y, ey.batched) * sx
    if sy.any():
        carried = carried + _largest(x, ex.batched) * sy
    watch.result(value, carried + rounding(value, batched), batched)
    for number, error, weight in ((x, ex, y), (y, ey, x)):
        if number.ndim == 0 and weight.ndim > 0 and not batched:
            watch.is_multiple(value, number.abs() + error.bound, weight)
    return value


@rule(torch.div, torch.Tensor.div, torch.Tensor.__truediv__)
def _div(watch: RunningError, input: Any, other: Any) -> Tensor:
    """x / y is off by at most (ex + |x / y| ey) / m, m a lower bound on the exact |y|."""
    (x, ex), (y, ey) = watch.operand(input), watch.operand(other)
    value, batched = x / y, ex.batched or ey.batched
    sx, sy = _spread(x, ex, value, batched), _spread(y, ey, value, batched)
    smallest = rows(y.abs()).amin(1) if ey.batched else y.abs().amin()
    low = smallest - ey.bound * (1 + 4 * UNIT)
    carried = sx / low
    if sy.any():
        carried = torch.where(low > 0, (sx + _largest(value, batched) * sy) / low, torch.inf)
    return watch.result(value, carried * (1 + 8 * UNIT) + rounding(value, batched), batched)


@rule(torch.addcmul, torch.Tensor.addcmul)
def _addcmul(watch: RunningError, input: Any, tensor1: Any, tensor2: Any) -> Tensor:
    return _add(watch, input, _mul(watch, tensor1, tensor2))


@rule(torch.Tensor.add_)
def _add_in_place(watch: RunningError, input: Any, other: Any) -> Tensor:
    (x, ex), (y, ey) = watch.operand(input), watch.operand(other)
    if not ex.batched or not ey.batched or x.shape != y.shape:
        raise UnboundedOperation("no rounding bound for adding a constant in place")
    x += y
    watch.worsen(ex, ey.bound + rounding(x, True))
    return x


@rule(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def _neg(watch: RunningError, input: Any) -> Tensor:
    x, error = watch.operand(input)
    return watch.result(-x, error.bound, error.batched)


@rule(torch.abs, torch.Tensor.abs, torch.Tensor.__abs__)
def _abs(watch: RunningError, input: Any) -> Tensor:
    x, error = watch.operand(input)
    return watch.result(x.abs(), error.bound, error.batched)


@rule(F.relu, torch.relu, torch.Tensor.relu)
def _relu(watch: RunningError, input: Any, inplace: bool = False) -> Tensor:
    x, error = _activated(watch, input, inplace)
    return watch.result(x.relu(), error.bound, error.batched)


@rule(F.leaky_relu)
def _leaky_relu(
    watch: RunningError, input: Any, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    x, error = _activated(watch, input, inplace)
    value = F.leaky_relu(x, negative_slope)
    carried = max(1.0, abs(negative_slope)) * error.bound
    return watch.result(value, carried + rounding(value, error.batched), error.batched)


def _activated(watch: RunningError, input: Any, inplace: bool) -> tuple[Tensor, Error]:
    if inplace:
        raise UnboundedOperation("no rounding bound for an activation in place")
    return watch.operand(input)


@rule(torch.clone, torch.Tensor.clone)
def _clone(watch: RunningError, input: Any) -> Tensor:
    x, error = watch.operand(input)
    return watch.result(x.clone(), error.bound, error.batched)


@rule(torch.flatten, torch.Tensor.flatten)
def _flatten(watch: RunningError, input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    x, error = watch.operand(input)
    _not_the_batch(x, error, start_dim)
    return watch.view(x.flatten(start_dim, end_dim), error)


@rule(torch.narrow, torch.Tensor.narrow)
def _narrow(watch: RunningError, input: Any, dim: int, start: int, length: int) -> Tensor:
    x, error = watch.operand(input)
    _not_the_batch(x, error, dim)
    return watch.view(x.narrow(dim, start, length), error)


def _not_the_batch(x: Tensor, error: Error, dim: int) -> None:
    if error.batched and dim % x.ndim == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")


@rule(torch.unbind, torch.Tensor.unbind)
def _unbind(watch: RunningError, input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    x, error = watch.operand(input)
    _not_the_batch(x, error, dim)
    return tuple(watch.view(part, error) for part in x.unbind(dim))


@rule(torch.flip, torch.Tensor.flip)
def _flip(watch: RunningError, input: Any, dims: Any) -> Tensor:
    x, error = watch.operand(input)
    for dim in dims:
        _not_the_batch(x, error, dim)
    return watch.result(x.flip(dims), error.bound, error.batched)


@rule(torch.transpose, torch.Tensor.transpose)
def _swap(watch: RunningError, input: Any, dim0: int, dim1: int) -> Tensor:
    x, error = watch.operand(input)
    _not_the_batch(x, error, dim0)
    _not_the_batch(x, error, dim1)
    return watch.view(x.transpose(dim0, dim1), error)


@rule(_getter("T"))
def _transpose(watch: RunningError, input: Any) -> Tensor:
    x, error = watch.operand(input)
    _not_the_batch(x, error, 0)
    return watch.view(x.T, error)


@rule(F.pad)
def _pad(
    watch: RunningError,
    input: Any,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    x, error = watch.operand(input)
    padded = F.pad(x, list(pad), mode=mode, value=value)
    if min(pad) < 0 or len(pad) > 2 * (x.ndim - 1) or mode not in ("constant", "circular"):
        raise UnboundedOperation(f"no rounding bound for {mode} padding by {tuple(pad)}")
    copies = 1
    if mode == "circular":
        for before, after in zip(x.shape, padded.shape, strict=True):
            copies *= -(-after // before)
    watch.result(padded, error.bound * math.sqrt(copies), error.batched)
    if mode == "circular" and len(pad) == 4 and x.ndim == 4:
        watch.is_padded(padded, tuple(pad), x)
    return padded


@rule(F.max_pool2d, torch.max_pool2d)
def _max_pool2d(
    watch: RunningError,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    x, error = watch.operand(input)
    size = pair(kernel_size)
    step = size if stride in (None, []) else pair(stride)
    if return_indices or not error.batched or x.ndim != 4:
        raise UnboundedOperation("no rounding bound for this form of max pooling")
    shared = 1
    for k, s, d in zip(size, step, pair(dilation), strict=True):
        shared *= -(-k // s) if d == 1 else k
    value = F.max_pool2d(x, size, step, padding, dilation, ceil_mode)
    return watch.result(value, error.bound * math.sqrt(shared), True)


@rule(F.avg_pool2d)
def _avg_pool2d(
    watch: RunningError,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Windows that share no entry: by Cauchy-Schwarz the means of n entries have 1 / sqrt(n) of the
    norm at most."""
    x, error = watch.operand(input)
    size = pair(kernel_size)
    step = size if stride in (None, []) else pair(stride)
    plain = pair(padding) == (0, 0) and not ceil_mode and divisor_override is None
    if not (plain and step[0] >= size[0] and step[1] >= size[1] and error.batched and x.ndim == 4):
        raise UnboundedOperation("no rounding bound for this form of average pooling")
    count = size[0] * size[1]
    value = F.avg_pool2d(x, size, step)
    carried = error.bound + gamma(count + 4) * norm(x, True)
    return watch.result(value, carried / sqrt_down(count), True)


@rule(F.pixel_unshuffle)
def _pixel_unshuffle(watch: RunningError, input: Any, downscale_factor: int) -> Tensor:
    x, error = watch.operand(input)
    if not error.batched or x.ndim != 4:
        raise UnboundedOperation("no rounding bound for this form of unshuffling")
    return watch.result(F.pixel_unshuffle(x, downscale_factor), error.bound, True)
