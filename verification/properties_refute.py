"""Points where a property fails: the defect at a point from below, rigorously, and the search.

Every lower bound here comes from `balls_graph`: it holds in real arithmetic for the stored
constants at the stored point, whatever found the point.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnn.operators.definite import largest_eigenvalue
from dsnn.operators.rounding import down, gamma, sqrt_up, up
from verification.balls import Ball, point
from verification.balls_graph import Jet, NotEnclosed, enclose
from verification.graph import Graph
from verification.interpret import Interpreter

LARGEST = 512
"""Most inputs for which a whole Jacobian is computed at a point."""
LARGEST_DETERMINANT = 64
_ROUNDS = 40
_SCALES = (1.0, 10.0, 0.1, 1e-3, 1e-8)


@dataclass(frozen=True)
class Found:
    """A point x where the defect is at least `lower`; `directions` (k, *shape) that show it."""

    lower: float
    x: Tensor
    directions: Tensor | None = None


Measure = Callable[[Graph, Tensor, int], Found]


def _size(ball: Ball) -> float:
    """Upper bound on the l2 norm."""
    reach = ball.mid.abs() + ball.rad
    return up(float(reach.norm()) * (1 + gamma(reach.numel() + 8)))


def _least(ball: Ball) -> float:
    """Lower bound on the absolute value of a single number."""
    low, high = float(ball.low), float(ball.high)
    return max(0.0, low, -high)


def _ratio(least: float, scale: float) -> float:
    """Lower bound on a quotient; 0 where the scale is 0 and the defect has no meaning."""
    return down(least / scale) if 0 < scale < math.inf else 0.0


def _inner(x: Ball, y: Ball) -> Ball:
    return (x * y).sum(list(range(x.mid.ndim)))


def _mass(graph: Graph, x: Tensor, dim: int) -> Found:
    value = enclose(graph, x).value
    difference = value.sum(list(range(value.mid.ndim))).mid.new_zeros(())
    total, before = _total(value), _total(point(x))
    difference = total - before
    scale = up(float(x.abs().sum()) * (1 + gamma(x.numel() + 2)))
    return Found(_ratio(_least(difference), scale), x)


def _total(ball: Ball) -> Ball:
    flat = ball.move(torch.flatten)
    return flat.sum([0])


def _norm(graph: Graph, x: Tensor, dim: int) -> Found:
    value = enclose(graph, x).value.move(torch.flatten)
    before = point(x.flatten())
    # | |f| - |x| | = | |f|² - |x|² | / (|f| + |x|)
    squares = _inner(value, value) - _inner(before, before)
    scale = _size(before)
    return Found(_ratio(_least(squares), up(scale * up(_size(value) + scale))), x)


def shifts(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The dimensions that are shifted: the last one, or the last two of images (..., C, H, W)."""
    return [(-2,), (-1,)] if len(shape) >= 3 else [(-1,)] if shape else []


def _shift(graph: Graph, x: Tensor, dim: int) -> Found:
    here = enclose(graph, x).value
    best = 0.0
    for dims in shifts(tuple(x.shape)):
        moved = enclose(graph, x.roll([1] * len(dims), dims)).value
        rolled = here.move(lambda t, dims=dims: t.roll([1] * len(dims), dims))
        difference = moved - rolled
        least = torch.maximum(difference.low, -difference.high).clamp_min(0)
        length = down(float(least.norm()) * (1 - gamma(least.numel() + 8)))
        best = max(best, _ratio(length, _size(here)))
    return Found(best, x)


def _jacobian(graph: Graph, x: Tensor) -> Tensor:
    """The midpoint of J(x) as a matrix (m, n)."""
    return _whole(graph, x).mid


def _whole(graph: Graph, x: Tensor) -> Ball:
    n = x.numel()
    if n > LARGEST:
        raise NotEnclosed(f"{n} inputs are too many for a whole Jacobian (limit {LARGEST})")
    columns = torch.eye(n, dtype=torch.float64).reshape(n, *x.shape)
    return enclose(graph, x, columns).along.move(lambda t: t[:, None].flatten(1).T)


def _spectral(jacobian: Ball) -> float:
    """Upper bound on |J|."""
    gram = jacobian.mid.T @ jacobian.mid
    error = up(gamma(jacobian.mid.shape[0] + 2) * float(jacobian.mid.square().sum()))
    spread = _size(Ball(jacobian.rad, torch.zeros_like(jacobian.rad)))
    return up(sqrt_up(up(largest_eigenvalue(gram) + error)) + spread)


def _along(graph: Graph, x: Tensor, *directions: Tensor) -> tuple[Jet, list[Ball], list[Ball]]:
    """The jet along flat directions, they themselves and their images as flat balls."""
    stacked = torch.stack([d.reshape(x.shape) for d in directions])
    jet = enclose(graph, x, stacked)
    images = [jet.along.move(lambda t, k=k: t[k].flatten()) for k in range(len(directions))]
    return jet, [point(d.flatten()) for d in directions], images


def _orthogonal(graph: Graph, x: Tensor, dim: int) -> Found:
    matrix = _jacobian(graph, x)
    _, values, vectors = torch.linalg.svd(matrix, full_matrices=matrix.shape[0] < matrix.shape[1])
    worst = (
        vectors[-1] if matrix.shape[0] < matrix.shape[1] else vectors[(values - 1).abs().argmax()]
    )
    _, (v,), (image,) = _along(graph, x, worst)
    least = _least(_inner(image, image) - _inner(v, v))
    return Found(_ratio(least, up(_size(v) ** 2)), x, worst.reshape(1, *x.shape))


def _worst(matrix: Tensor) -> Tensor:
    """The right and the left singular vector of the largest singular value."""
    if not bool(matrix.isfinite().all()):
        raise NotEnclosed("the Jacobian is too large")
    left, _, right = torch.linalg.svd(matrix)
    return torch.stack([right[0], left[:, 0]])


def _gradient(graph: Graph, x: Tensor, dim: int) -> Found:
    jacobian = _whole(graph, x)
    worst = _worst(jacobian.mid - jacobian.mid.T)
    scale = max(1.0, _spectral(jacobian))
    _, (v, w), (jv, jw) = _along(graph, x, *worst)
    least = _least(_inner(w, jv) - _inner(v, jw))
    scale = up(up(scale * _size(v)) * _size(w))
    return Found(_ratio(least, scale), x, worst.reshape(2, *x.shape))


def symplectic_form(shape: tuple[int, ...], dim: int) -> Callable[[Tensor], Tensor]:
    """S y for S = [[0, I], [-I, 0]] on the halves of dimension `dim` of y (..., *shape): (q, p)
    goes to (p, -q)."""
    axis = dim % len(shape) - len(shape)
    half = shape[axis] // 2

    def form(y: Tensor) -> Tensor:
        q, p = y.narrow(axis, 0, half), y.narrow(axis, half, half)
        return torch.cat([p, -q], axis)

    return form


def _symplectic(graph: Graph, x: Tensor, dim: int) -> Found:
    shape = tuple(x.shape)
    form = symplectic_form(shape, dim)

    def flat(y: Tensor) -> Tensor:
        return form(y.reshape(-1, *shape)).reshape(y.shape)

    jacobian = _whole(graph, x)
    j = jacobian.mid
    s = flat(torch.eye(x.numel(), dtype=torch.float64))
    # Rows of s are (S e)ᵀ: s = Sᵀ.
    worst = _worst(j.T @ s.T @ j - s.T)
    scale = max(1.0, up(_spectral(jacobian) ** 2))
    _, (v, w), (jv, jw) = _along(graph, x, *worst)
    turned = Ball(flat(jv.mid), flat(jv.rad).abs()), Ball(flat(v.mid), flat(v.rad).abs())
    least = _least(_inner(jw, turned[0]) - _inner(w, turned[1]))
    scale = up(up(scale * _size(v)) * _size(w))
    return Found(_ratio(least, scale), x, worst.reshape(2, *x.shape))


def _volume(graph: Graph, x: Tensor, dim: int) -> Found:
    import flint

    n = x.numel()
    if n > LARGEST_DETERMINANT:
        raise NotEnclosed(
            f"{n} inputs are too many for a determinant (limit {LARGEST_DETERMINANT})"
        )
    jacobian = _whole(graph, x)
    with flint.ctx.workprec(128):
        pairs = zip(jacobian.mid.flatten().tolist(), jacobian.rad.flatten().tolist(), strict=True)
        determinant = flint.arb_mat(n, n, [flint.arb(m, r) for m, r in pairs]).det()
        gap = abs(abs(determinant) - 1)
        lower = float(gap.abs_lower()) if gap.is_finite() else 0.0
    return Found(down(lower), x)


MEASURES: dict[str, Measure] = {
    "orthogonal": _orthogonal,
    "gradient-field": _gradient,
    "norm-preserving": _norm,
    "mass-preserving": _mass,
    "volume-preserving": _volume,
    "symplectic": _symplectic,
    "equivariant:shift": _shift,
}
"""By property: (graph, x, dim) -> a lower bound of its defect at x. They raise NotEnclosed."""


def search(
    name: str, graph: Graph, dim: int, tolerance: float, budget_seconds: float
) -> Found | None:
    """The best point found, the first beyond `tolerance` if there is one; None where no point
    could be evaluated. Always the same unless the budget cuts it."""
    deadline = time.monotonic() + budget_seconds
    measure, best = MEASURES[name], None
    for x in _points(name, graph, torch.Generator().manual_seed(0)):
        try:
            found = measure(graph, x, dim)
        except (NotEnclosed, ArithmeticError):
            found = None
        if found is not None and (best is None or found.lower > best.lower):
            best = found
        if (best is not None and best.lower > tolerance) or time.monotonic() > deadline:
            break
    return best


def _points(name: str, graph: Graph, generator: torch.Generator) -> Iterator[Tensor]:
    """Random points of several scales, and what ascending the defect makes of some: small ones
    show a constant that is in the way, large ones what grows too fast."""
    shape = graph.input.shape
    module = Interpreter(graph) if shape and name in _ASCENDED and _is_known(graph) else None
    for count in range(_ROUNDS):
        scale = _SCALES[count % len(_SCALES)]
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        yield x
        if module is not None and count % len(_SCALES) == 0:
            yield _ascended(module, _ASCENDED[name], x)


def _is_known(graph: Graph) -> bool:
    return all(node.kind != "unknown" for node in graph)


def _ascended(module: Interpreter, defect: Callable[..., Tensor], x: Tensor) -> Tensor:
    """x after a few steps up the defect, each a tenth of its norm."""
    for _ in range(8):
        x = x.detach().requires_grad_()
        value = defect(module, x)
        if not value.requires_grad:
            break
        (gradient,) = torch.autograd.grad(value, x)
        if not bool(gradient.isfinite().all()) or not gradient.any():
            break
        x = x + 0.1 * x.norm() * gradient / gradient.norm()
    return x.detach()


_ASCENDED: dict[str, Callable[[Interpreter, Tensor], Tensor]] = {
    "mass-preserving": lambda f, x: (f(x[None]).sum() - x.sum()).abs() / x.abs().sum(),
    "norm-preserving": lambda f, x: (f(x[None]).norm() - x.norm()).abs() / x.norm(),
    "equivariant:shift": lambda f, x: (f(x.roll(1, -1)[None]) - f(x[None]).roll(1, -1)).norm(),
}
"""Defects in floating point, for the properties whose defect needs no Jacobian."""
