"""Lanczos estimates of extreme singular values, and ratios |Av| / |v| enclosed rigorously.

An estimate never enters a verdict. The ratio at a vector does: it bounds the largest singular
value from below and the smallest from above, whatever vector it is.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnn.operators.geometry import Geometry
from dsnn.operators.rounding import down, gamma, up


@dataclass(frozen=True)
class Extremes:
    """Ritz values of an operator as singular values, and the float64 vectors (1, n, H, W) they
    belong to."""

    largest: float
    smallest: float
    largest_vector: Tensor
    smallest_vector: Tensor


def lanczos(weight: Tensor, geometry: Geometry, steps: int) -> Extremes:
    """Both ends of the spectrum of a convolution from `steps` Lanczos steps on AᵀA, orthogonalised
    twice against all earlier vectors, from a fixed start. Raises ArithmeticError on overflow."""
    kernel = weight.detach().to("cpu", torch.float64)
    shape = (1, kernel.shape[1] * geometry.groups, *geometry.extent)
    size = math.prod(shape)
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():  # the derivative of x -> <y, Ax> is Aᵀy, wherever x is
        output = geometry.apply(kernel, x)
    steps = min(steps, size)
    basis, diagonal, beside = torch.empty((steps, size), dtype=torch.float64), [], []
    basis[0] = start / start.norm()
    for k in range(steps):
        image = geometry.apply(kernel, basis[k].reshape(shape))
        with torch.enable_grad():  # of a number: for tensors torch loads its symbolic shapes
            product = (output * image).sum()
        image = torch.autograd.grad(product, x, retain_graph=True)[0].reshape(-1)
        diagonal.append(float(image @ basis[k]))
        known = basis[: k + 1]
        for _ in range(2):
            image = image - known.T @ (known @ image)
        beside.append(float(image.norm()))
        if k + 1 == steps or beside[-1] <= 1e-12 * max(map(abs, diagonal)):
            break
        basis[k + 1] = image / beside[-1]
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    tridiagonal = torch.tensor(diagonal, dtype=torch.float64).diag() + off.diag(-1)
    if not torch.isfinite(tridiagonal).all():
        raise ArithmeticError("the numbers of this convolution overflow")
    values, vectors = torch.linalg.eigh(tridiagonal)  # it reads the lower triangle
    known = basis[: len(diagonal)]
    low, high = (known.T @ vectors[:, k] for k in (0, -1))
    return Extremes(
        math.sqrt(max(0.0, float(values[-1]))),
        math.sqrt(max(0.0, float(values[0]))),
        high.reshape(shape),
        low.reshape(shape),
    )


def ratio(weight: Tensor, geometry: Geometry, vector: Tensor) -> tuple[float, float]:
    """Lower and upper bound on |Av| / |v| in exact arithmetic, for the float64 vector stored."""
    kernel = weight.detach().to("cpu", torch.float64)
    image = geometry.apply(kernel, vector)
    length = math.prod(kernel.shape[1:])
    rounding = gamma(length + 2) * float(geometry.apply(kernel.abs(), vector.abs()).norm())
    return _enclose(image, rounding, vector)


def matrix_ratio(matrix: Tensor, vector: Tensor) -> tuple[float, float]:
    """As `ratio`, for a float64 matrix (m, n) and a vector (n,)."""
    image = matrix @ vector
    rounding = gamma(len(vector) + 2) * float((matrix.abs() @ vector.abs()).norm())
    return _enclose(image, rounding, vector)


def _enclose(image: Tensor, rounding: float, vector: Tensor) -> tuple[float, float]:
    slack = gamma(max(2**20, image.numel(), vector.numel()))  # of the norms, `rounding` included
    size, length = float(image.norm()), float(vector.norm())
    error = up(rounding) * (1 + slack) + 2.0**-480  # squares may underflow
    lower = (size * (1 - 2 * slack) - error) / length * (1 - 2 * slack)
    upper = (size * (1 + 2 * slack) + error) / length * (1 + 2 * slack)
    return down(lower), up(upper)
