"""Batches of float64 vectors with a bound on their rounding error.

`Tracked` carries value and error entrywise: |value - exact| <= error, where "exact" is the same
formula in real arithmetic on the same doubles. With u = 2^-53, a sum of k products differs from
the exact one by at most k u / (1 - k u) times the sum of their moduli, in any order and with or
without fused multiply-add (Higham, Accuracy and Stability, 3.1). Each bound is itself computed
in float64; the factor 1 + 2^-40 covers that for sums of up to 2^12 terms, and 2^-1000 underflow.

So the same holds on a GPU: within `on("cuda")` the points that `placed` takes are torch tensors
there, the Euler steps of `trial.py` follow them, and `ratios` brings its result back.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNIT = 2.0**-53
COVER = 1 + 2.0**-40
UNDERFLOW = 2.0**-1000


@dataclass(frozen=True)
class Tracked:
    """Points as columns: value and error of shape (fields, dimension, points)."""

    value: Array
    error: Array


def exact(value: Array) -> Tracked:
    """Doubles as they are."""
    return Tracked(value, np.broadcast_to(np.float64(0), value.shape))


_device: ContextVar[str | None] = ContextVar("device", default=None)


@contextmanager
def on(device: str | None) -> Iterator[None]:
    """Where `placed` puts points: None for NumPy, else a torch device."""
    token = _device.set(device)
    try:
        yield
    finally:
        _device.reset(token)


def placed(value: Array) -> Tracked:
    """Doubles as they are, on the device in force."""
    device = _device.get()
    if device is None:
        return exact(value)
    torch = importlib.import_module("torch")  # NumPy is enough without a device
    on_device: Any = torch.as_tensor(value, device=device)
    return Tracked(on_device, torch.zeros_like(on_device))


def _beside(array: Array, x: Any) -> Any:
    """`array` where x is."""
    if isinstance(x, np.ndarray):
        return array
    return importlib.import_module("torch").as_tensor(np.ascontiguousarray(array), device=x.device)


def _norms(x: Any) -> Array:
    """Over the dimension: (fields, points), in NumPy."""
    if isinstance(x, np.ndarray):
        return np.linalg.norm(x, axis=1)
    return x.square().sum(1).sqrt().cpu().numpy()


def _where(condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return importlib.import_module("torch").where(condition, yes, no)


def affine(matrix: Array, x: Tracked, offset: Array | None = None) -> Tracked:
    """matrix x + offset, for matrix (fields, m, n), offset (fields, m)."""
    relative = (matrix.shape[-1] + 2) * UNIT
    weight = _beside(np.abs(matrix), x.value)
    moduli = abs(x.value)
    moduli *= relative
    moduli += x.error
    value, error = _beside(matrix, x.value) @ x.value, weight @ moduli
    if offset is not None:
        value += _beside(offset[..., None], x.value)
        error += _beside(relative * np.abs(offset)[..., None], x.value)
    return Tracked(value, _covered(error))


def _covered(error: Array) -> Array:
    """In place: the rounding of the error itself, and underflow."""
    error *= COVER
    error += UNDERFLOW
    return error


def piecewise(x: Tracked, negative: Array, positive: Array) -> Tracked:
    """The activation with slope `negative` (fields,) below 0 and `positive` above."""
    below, above = negative[:, None, None], positive[:, None, None]
    steepest = np.maximum(np.abs(below), np.abs(above))
    value = _where(x.value > 0, _beside(above, x.value), _beside(below, x.value))
    value *= x.value
    error = abs(value)
    error *= UNIT
    error += _beside(steepest, x.value) * x.error
    return Tracked(value, _covered(error))


def advance(x: Tracked, step: Array, field: Tracked) -> Tracked:
    """x + step * field, for step (fields,)."""
    h = _beside(step[:, None, None], x.value)
    value = h * field.value
    error = abs(value)
    error += abs(x.value)
    error *= 2 * UNIT
    error += abs(h) * field.error
    error += x.error
    value += x.value
    return Tracked(value, _covered(error))


def window_maxima(x: Tracked, window: int) -> Tracked:
    """Maxima over disjoint windows along the dimension, which `window` divides."""
    fields, dimension, points = x.value.shape
    shape = (fields, dimension // window, window, points)
    return Tracked(x.value.reshape(shape).max(axis=2), x.error.reshape(shape).max(axis=2))


def ratios(fx: Tracked, fy: Tracked, x: Array, y: Array) -> Array:
    """Lower bounds of |f(x) - f(y)| / |x - y|, shape (fields, points)."""
    moved = fx.value - fy.value
    error = (fx.error + fy.error + UNIT * abs(moved)) * COVER
    largest = max(moved.shape[1], x.shape[1])
    relative = (largest + 8) * UNIT
    above = _norms(moved) * (1 - relative) - _norms(error) * COVER
    below = np.linalg.norm(x - y, axis=1) * (1 + relative)
    apart = below > 0  # two equal points tell nothing
    return np.maximum(above, 0) / np.where(apart, below, np.inf) * (1 - 4 * UNIT)


def distances(x: Array, y: Array) -> Array:
    """Upper bounds of |x - y|, shape (fields, points)."""
    return np.linalg.norm(x - y, axis=1) * (1 + (x.shape[1] + 8) * UNIT)


def singular_range(matrix: Array) -> tuple[Array, Array]:
    """(low, high), each (fields,), with low <= inf |Ax| / |x| and high >= |A|.

    From A = U S V + R with computed factors: |U|^2 <= 1 + |U'U - I|, and the same for V, so
    |A| <= |U| s_1 |V| + |R|, and for at least as many rows as columns
    |Ax| >= (sqrt((1 - |U'U - I|)(1 - |VV' - I|)) s_n - |R|) |x|; the defects in the Frobenius
    norm with their rounding errors. With fewer rows than columns the smallest is 0.
    """
    rows, columns = matrix.shape[-2:]
    U, s, V = np.linalg.svd(matrix, full_matrices=False)
    size = len(s[0])

    def norm(defect: Array, moduli: Array) -> Array:
        error = (rows + columns + 4) * UNIT * moduli
        return (np.linalg.norm(np.abs(defect) + error, axis=(-2, -1))) * COVER

    def departure(Q: Array) -> Array:
        return norm(Q.mT @ Q - np.eye(size), np.abs(Q).mT @ np.abs(Q) + np.eye(size))

    scaled = U * s[:, None, :]
    residual = norm(matrix - scaled @ V, np.abs(matrix) + np.abs(scaled) @ np.abs(V))
    u, v = departure(U), departure(V.mT)
    high = (np.sqrt((1 + u) * (1 + v)) * s[:, 0] + residual) * COVER
    if rows < columns:
        return np.zeros_like(high), high
    low = np.sqrt(np.maximum(0, (1 - u) * (1 - v))) * s[:, -1] / COVER - residual * COVER
    return np.maximum(0, low), high
