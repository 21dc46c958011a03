"""Lanczos estimates of extreme singular values, and ratios |Av| / |v| enclosed rigorously.

An estimate never enters a verdict. The ratio at a vector does: it bounds the largest singular
value from below and the smallest from above, whatever vector it is.
"""

import math

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from dsnn.operators.geometry import Geometry
from dsnn.operators.rounding import down, gamma, up


def lanczos(
    weight: Tensor, geometry: Geometry, *, largest: bool, tolerance: float
) -> tuple[float, Tensor]:
    """Estimate of the largest or smallest singular value of a convolution over its inputs, and the
    unit vector (1, n, H, W) in float64 that attains it approximately. Deterministic."""
    kernel = weight.detach().to("cpu", torch.float64)
    shape = (1, kernel.shape[1] * geometry.groups, *geometry.extent)
    size = math.prod(shape)
    apply, adjoint = _maps(kernel, geometry, shape)

    def gram(v: np.ndarray) -> np.ndarray:
        return adjoint(apply(torch.from_numpy(v).reshape(shape))).reshape(-1).numpy()

    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=gram, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    which = "LA" if largest else "SA"
    try:
        values, vectors = eigsh(
            operator,
            k=1,
            which=which,
            v0=start,
            tol=tolerance,  # pyright: ignore[reportArgumentType]
            maxiter=400,
        )
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    if len(values) == 0:
        values, vectors = np.zeros(1), start[:, None] / np.linalg.norm(start)
    vector = torch.from_numpy(np.ascontiguousarray(vectors[:, 0])).reshape(shape)
    return math.sqrt(max(0.0, float(values[0]))), vector


def _maps(kernel: Tensor, geometry: Geometry, shape: tuple[int, ...]):
    """x -> Ax and y -> Aᵀy in float64; the adjoint is the derivative of x -> <y, Ax>."""
    origin = torch.zeros(shape, dtype=torch.float64)
    pullback = torch.func.vjp(lambda x: geometry.apply(kernel, x), origin)[1]
    return lambda x: geometry.apply(kernel, x), lambda y: pullback(y)[0]


def ratio(weight: Tensor, geometry: Geometry, vector: Tensor) -> tuple[float, float]:
    """Lower and upper bound on |Av| / |v| in exact arithmetic, for the float64 vector stored."""
    kernel = weight.detach().to("cpu", torch.float64)
    image = float(geometry.apply(kernel, vector).norm())
    length = math.prod(kernel.shape[1:])
    rounding = gamma(length + 2) * float(geometry.apply(kernel.abs(), vector.abs()).norm())
    return _enclose(image, rounding, vector)


def matrix_ratio(matrix: Tensor, vector: Tensor) -> tuple[float, float]:
    """As `ratio`, for a float64 matrix (m, n) and a vector (n,)."""
    image = float((matrix @ vector).norm())
    rounding = gamma(len(vector) + 2) * float((matrix.abs() @ vector.abs()).norm())
    return _enclose(image, rounding, vector)


def _enclose(image: float, rounding: float, vector: Tensor) -> tuple[float, float]:
    slack = gamma(2**20)  # two norms of fewer entries
    length = float(vector.norm())
    lower = (image * (1 - 2 * slack) - up(rounding)) / length * (1 - 2 * slack)
    upper = (image * (1 + 2 * slack) + up(rounding)) / length * (1 + 2 * slack)
    return down(lower), up(upper)
