"""The rules of `running_error` for what else a captured graph is executed with.

Each is of the form: exact x, computed x~ with |x~ - x| <= e; the result is off by the Lipschitz
constant of the operation times e, plus its own rounding. Elementary functions in float64 are
assumed to have an error of at most 2^-46 (1 + |x|) times the size of their parameters, and exp
one of 2^-46 relatively: 64 to 128 units in the last place, where the libraries behind torch state
one to four.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.operators.rounding import UNIT, gamma, sqrt_up
from verification.activations import SLOPES
from verification.interpret import (
    activated,
    gathered,
    normalised,
    ordered,
    scaled,
    window_max,
    window_sum,
)
from verification.running_error_watch import (
    Error,
    RunningError,
    UnboundedOperation,
    norm,
    rounding,
    rows,
    rule,
)

ELEMENTARY = 2.0**-46
"""Error of an elementary function at x, relative to 1 + |x|."""

Windows = Sequence[Sequence[int]]


def _batched(watch: RunningError, input: Any) -> tuple[Tensor, Error]:
    x, error = watch.operand(input)
    if not error.batched:
        raise UnboundedOperation("no rounding bound for this operation on a constant")
    return x, error


def _above(value: Fraction) -> float:
    """Upper bound on |value|. Raises UnboundedOperation where float64 has not its magnitude."""
    if value and not 2.0**-500 < abs(value) < 2.0**500:
        raise UnboundedOperation(f"no rounding bound for the number {value}")
    return math.nextafter(abs(float(value)), math.inf)


@rule(scaled)
def _scaled(watch: RunningError, input: Any, factor: Fraction) -> Tensor:
    """Two roundings: of the factor and of the product."""
    x, error = watch.operand(input)
    value = scaled(x, factor)
    bound = _above(factor) * error.bound + 4 * rounding(value, error.batched)
    watch.result(value, bound, error.batched)
    if not error.batched:
        watch.is_multiple(value, torch.tensor(_above(factor), dtype=torch.float64), x)
    return value


@rule(gathered)
def _gathered(watch: RunningError, input: Any, index: Tensor) -> Tensor:
    x, error = _batched(watch, input)
    read = index[index >= 0]
    most = int(read.bincount().max()) if read.numel() else 0
    return watch.result(gathered(x, index), error.bound * sqrt_up(most), True)


@rule(window_sum)
def _window_sum(
    watch: RunningError, input: Any, dim: int, windows: Windows, weights: Sequence[Fraction]
) -> Tensor:
    """The norm of the matrix of weights is at most the geometric mean of its row and column
    sums."""
    x, error = _batched(watch, input)
    sizes = [stop - start for start, stop in windows]
    rows = max(abs(w) * size for w, size in zip(weights, sizes, strict=True))
    columns = [Fraction(0)] * x.shape[dim]
    for (start, stop), weight in zip(windows, weights, strict=True):
        for k in range(start, stop):
            columns[k] += abs(weight)
    factor = sqrt_up(_above(rows * max(columns)))
    value = window_sum(x, dim, windows, weights)
    rounded = gamma(x.shape[dim] + 8) * factor * norm(x, True)
    return watch.result(value, factor * error.bound + rounded + 0 * value.flatten(1).sum(1), True)


@rule(window_max)
def _window_max(watch: RunningError, input: Any, dim: int, windows: Windows) -> Tensor:
    x, error = _batched(watch, input)
    uses = [0] * x.shape[dim]
    for start, stop in windows:
        for k in range(start, stop):
            uses[k] += 1
    value = window_max(x, dim, windows)
    return watch.result(value, error.bound * sqrt_up(max(uses)), True)


@rule(ordered)
def _ordered(watch: RunningError, input: Any, dim: int) -> Tensor:
    """Sorting brings no two points further apart, and rounds nothing."""
    x, error = _batched(watch, input)
    if dim % x.ndim == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    return watch.result(ordered(x, dim), error.bound, True)


_EXACT = ("abs", "clamp", "relu")
_ONE_ROUNDING = ("leaky_relu",)


@rule(activated)
def _activated(
    watch: RunningError, input: Any, name: str, parameters: Mapping[str, Fraction]
) -> Tensor:
    x, error = _batched(watch, input)
    if any(Fraction(float(p)) != p for p in parameters.values()):
        raise UnboundedOperation(f"no rounding bound for {name} with parameters beyond float64")
    value = activated(x, name, parameters)
    carried = max(_above(slope) for slope in SLOPES[name](**parameters)) * error.bound
    if name in _ONE_ROUNDING:
        carried = carried + rounding(value, True)
    elif name not in _EXACT:
        sizes = [abs(p) for p in parameters.values() if p]
        size = _above(max([Fraction(2), *sizes, *(1 / s for s in sizes)]))
        entries = sqrt_up(x[0].numel())
        carried = carried + ELEMENTARY * size * (entries + norm(x, True))
    return watch.result(value, carried + 0 * rows(value).sum(1), True)


@rule(F.softplus)
def _softplus(watch: RunningError, input: Any, beta: float = 1, threshold: float = 20) -> Tensor:
    """The function itself, at every x: what torch does beyond the threshold is not computed. Where
    the module's own numbers do not round that away, it executes another function."""
    jump = math.log1p(math.exp(-threshold)) if threshold > 0 else math.inf
    if not (beta > 0 and jump <= threshold * watch.eps / 4):
        raise UnboundedOperation("no rounding bound for a softplus that jumps at its threshold")
    return _activated(watch, input, "softplus", {"beta": Fraction(float(beta))})


@rule(normalised)
def _normalised(watch: RunningError, input: Any, dims: list[int], epsilon: Fraction) -> Tensor:
    """With y = x - mean and s = sqrt(|y|²/n + epsilon), of which the computed ones are off by d
    and by at most d / sqrt(n) + c s, y / s is off by at most (2 d + c sqrt(n) s) / s* for the
    exact s*, and s* is at least sqrt(epsilon) and at least s less its error."""
    x, error = _batched(watch, input)
    count = math.prod(x.shape[dim] for dim in dims)
    value = normalised(x, dims, epsilon)
    c = gamma(count + 16)
    d = error.bound + 4 * c * norm(x, True)
    y = x - x.mean(dims, keepdim=True)
    s = (y.square().mean(dims, keepdim=True) + float(epsilon)).sqrt().flatten(1)
    low = s * (1 - 2 * c) - (d / math.sqrt(count))[:, None] * (1 + 4 * UNIT)
    low = low.clamp_min(math.sqrt(float(epsilon)) * (1 - 4 * UNIT))
    spread = norm(s / low, True) * math.sqrt(count) * (1 + 4 * UNIT)
    bound = 2 * d / low.amin(1) + 2 * c * spread + 4 * rounding(value, True)
    return watch.result(value, bound * (1 + 16 * UNIT) + 0 * value.flatten(1).sum(1), True)


@rule(torch.Tensor.softmax)
def _softmax(watch: RunningError, input: Any, dim: int) -> Tensor:
    """Each of the probabilities p has a relative error of at most that of exp at x - max x, plus
    that of a sum; |p| <= 1 for each group along `dim`."""
    x, error = _batched(watch, input)
    if dim % x.ndim == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    groups = x[0].numel() // x.shape[dim]
    relative = ELEMENTARY * (x.shape[dim] + 4 * x.abs().flatten(1).amax(1) + 4)
    bound = error.bound + relative * sqrt_up(groups)
    return watch.result(x.softmax(dim), bound, True)


@rule(torch.Tensor.log_softmax)
def _log_softmax(watch: RunningError, input: Any, dim: int) -> Tensor:
    x, error = _batched(watch, input)
    value, count = x.log_softmax(dim), x.shape[dim]
    bound = sqrt_up(count) * error.bound + _logarithm(x, [dim]) * sqrt_up(x[0].numel())
    return watch.result(value, bound, True)


@rule(torch.Tensor.logsumexp)
def _logsumexp(watch: RunningError, input: Any, dim: Any, keepdim: bool = False) -> Tensor:
    x, error = _batched(watch, input)
    value = x.logsumexp(dim, keepdim=keepdim)
    return watch.result(value, error.bound + _logarithm(x, dim) * sqrt_up(value[0].numel()), True)


def _logarithm(x: Tensor, dims: Sequence[int]) -> Tensor:
    """The error of an entry of max x + log s, or of it taken from one of x, for the sum s of
    exp(x - max x), by example. That sum, in [1, n], is off by a relative r as in a softmax, its
    logarithm by at most 2 r for r <= 1/4 and by its own error at s; three more roundings."""
    if any(dim % x.ndim == 0 for dim in dims):
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    count, largest = math.prod(x.shape[dim] for dim in dims), x.abs().flatten(1).amax(1)
    relative = ELEMENTARY * (count + 4 * largest + 4)
    own = 2 * relative + ELEMENTARY * (1 + count) + 8 * UNIT * (2 * largest + count)
    return torch.where(relative <= 0.25, own, torch.inf)


@rule(torch.linalg.vector_norm)
def _vector_norm(
    watch: RunningError, input: Any, ord: int = 2, dim: Any = None, keepdim: bool = False
) -> Tensor:
    x, error = _batched(watch, input)
    if ord != 2 or not keepdim or dim is None or any(d % x.ndim == 0 for d in dim):
        raise UnboundedOperation("no rounding bound for this norm")
    value = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    count = math.prod(x.shape[d] for d in dim)
    return watch.result(value, error.bound + gamma(count + 8) * norm(value, True), True)


@rule(torch.maximum)
def _maximum(watch: RunningError, input: Any, other: Any) -> Tensor:
    return _extreme(watch, torch.maximum, input, other)


@rule(torch.minimum)
def _minimum(watch: RunningError, input: Any, other: Any) -> Tensor:
    return _extreme(watch, torch.minimum, input, other)


def _extreme(watch: RunningError, function: Any, input: Any, other: Any) -> Tensor:
    (x, ex), (y, ey) = _batched(watch, input), _batched(watch, other)
    if x.shape != y.shape:
        raise UnboundedOperation("no rounding bound for an extreme of different shapes")
    return watch.result(function(x, y), ex.bound + ey.bound, True)


@rule(torch.matmul)
def _matmul(watch: RunningError, input: Any, other: Any) -> Tensor:
    """By the Frobenius norms of both factors."""
    (x, ex), (y, ey) = _batched(watch, input), _batched(watch, other)
    if not x.ndim == y.ndim >= 3:
        raise UnboundedOperation("no rounding bound for this product of matrices")
    value = x @ y
    nx, ny = norm(x, True), norm(y, True)
    bound = ex.bound * ny + ey.bound * nx + ex.bound * ey.bound
    rounded = gamma(x.shape[-1] + 8) * nx * ny
    return watch.result(value, bound + rounded + 0 * value.flatten(1).sum(1), True)


@rule(torch.cat)
def _cat(watch: RunningError, tensors: Any, dim: int = 0) -> Tensor:
    parts = [_batched(watch, tensor) for tensor in tensors]
    if dim % parts[0][0].ndim == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    bound = torch.stack([error.bound for _, error in parts]).sum(0)
    return watch.result(torch.cat([x for x, _ in parts], dim), bound, True)


@rule(torch.Tensor.reshape)
def _reshape(watch: RunningError, input: Any, *shape: int) -> Tensor:
    x, error = watch.operand(input)
    y = x.reshape(*shape)
    if error.batched and y.shape[0] != x.shape[0]:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    return watch.view(y, error)


@rule(torch.Tensor.unsqueeze)
def _unsqueeze(watch: RunningError, input: Any, dim: int) -> Tensor:
    x, error = watch.operand(input)
    if error.batched and dim % (x.ndim + 1) == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    return watch.view(x.unsqueeze(dim), error)


@rule(torch.Tensor.squeeze)
def _squeeze(watch: RunningError, input: Any, dim: int) -> Tensor:
    x, error = watch.operand(input)
    if error.batched and dim % x.ndim == 0:
        raise UnboundedOperation("no rounding bound for an operation across the batch")
    return watch.view(x.squeeze(dim), error)


@rule(torch.Tensor.expand)
def _expand(watch: RunningError, input: Any, *shape: int) -> Tensor:
    """A constant for each example of a batch."""
    x, error = watch.operand(input)
    if error.batched or len(shape) <= x.ndim:
        raise UnboundedOperation("no rounding bound for this expansion")
    value = x.expand(*shape)
    copies = math.prod(shape[1:]) // max(x.numel(), 1)
    bound = error.bound * sqrt_up(copies) * torch.ones(shape[0], dtype=torch.float64)
    return watch.result(value, bound, True)
