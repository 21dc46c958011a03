"""Singular values of the linear maps of a network: one entry for dense maps and convolutions.

Upper ends of `norm` and lower ends of `smallest` are proved for the operator as executed, in real
arithmetic on the stored weights; the other ends come from vectors, and are proved too.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.operators import banded, estimate, grid, sums, symbol
from dsnn.operators.definite import largest_eigenvalue, smallest_eigenvalue
from dsnn.operators.geometry import Geometry
from dsnn.operators.linear import Convolution, Dense
from dsnn.operators.rounding import UNIT, gamma, sqrt_down, sqrt_up, up

LARGEST_TORUS = 80
"""Side up to which the torus is evaluated whole; above, the coarse grid takes over."""
CLOSE = 2e-4
"""Relative gap between the two ends of a norm that a factorisation is not spent on."""

Interval = tuple[float, float]
_NORMS: dict[tuple[bytes, tuple[int, ...], Geometry], float] = {}


@dataclass(frozen=True)
class SingularValues:
    """Enclosures of the largest singular value and of inf |Ax| / |x| over the inputs."""

    norm: Interval
    smallest: Interval
    method: str


def singular_values(
    module: nn.Module, extent: tuple[int, int] | None = None, *, tight: bool = False
) -> SingularValues:
    """Bounds for a `Dense`, `Convolution`, `nn.Linear` or `nn.Conv2d` without its bias.

    `extent` is the height and width of a convolution's input. `tight` spends a banded Cholesky
    factorisation on each end that the torus leaves open. Raises UserError on another module, on
    padding other than zeros or circular, and ArithmeticError on weights that are not finite.
    """
    if isinstance(module, Dense | nn.Linear):
        return of_matrix(module.weight)
    if extent is None:
        raise UserError(f"the norm of a {type(module).__name__} depends on the extent of its input")
    return of_convolution(_weight(module), geometry_of(module, extent), tight=tight)


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise UserError(f"{type(module).__name__} has no weight to bound")
    return weight


def geometry_of(module: nn.Module, extent: tuple[int, int]) -> Geometry:
    """The geometry a convolution module executes on inputs of `extent`."""
    if isinstance(module, Convolution):
        s, p = module.stride, module.padding
        return Geometry(extent, (s, s), (p, p, p, p), (1, 1), module.groups, module.circular)
    if not isinstance(module, nn.Conv2d):
        raise UserError(f"no bound is known for {type(module).__name__}")
    if module.padding_mode not in ("zeros", "circular"):
        raise UserError(f"padding_mode {module.padding_mode!r} has no bound: zeros or circular")
    if isinstance(module.padding, str):
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        height, width = spans if module.padding == "same" else (0, 0)
        padding = (height // 2, height - height // 2, width // 2, width - width // 2)
    else:
        rows, columns = module.padding
        padding = (rows, rows, columns, columns)
    (s, r), (d, e) = module.stride, module.dilation
    circular = module.padding_mode == "circular"
    return Geometry(extent, (s, r), padding, (d, e), module.groups, circular)


def of_convolution(weight: Tensor, geometry: Geometry, *, tight: bool = False) -> SingularValues:
    """Bounds for the convolution of `weight` (m, n / groups, k, l) executed as `geometry`."""
    if min(geometry.outputs(dim, weight.shape[2 + dim]) for dim in (0, 1)) < 1:
        raise UserError(f"a {tuple(weight.shape[2:])} kernel does not fit {geometry.extent}")
    large = _large(weight, geometry)
    method = "coarse grid, Gram iteration" if large else "torus symbol, Cholesky"
    upper = norm_upper(weight, geometry)
    found = estimate.lanczos(weight, geometry, 60 if tight else 12)
    lower, _ = estimate.ratio(weight, geometry, found.largest_vector)
    _, small_upper = estimate.ratio(weight, geometry, found.smallest_vector)
    small_lower = 0.0 if large else symbol.smallest_lower(weight, geometry)
    inputs = weight.shape[1] * geometry.extent[0] * geometry.extent[1]
    outputs = geometry.outputs(0, weight.shape[2]) * geometry.outputs(1, weight.shape[3])
    wide = weight.shape[0] // geometry.groups * outputs < inputs
    if tight and banded.feasible(weight, geometry):
        if upper > lower * (1 + CLOSE):
            upper = banded.norm_upper(weight, geometry, found.largest, upper)
        if not wide:
            known = banded.smallest_lower(weight, geometry, found.smallest)
            small_lower = max(small_lower, known)  # that of a torus is closer
        method += ", banded Cholesky"
    return SingularValues((lower, upper), (small_lower, 0.0 if wide else small_upper), method)


def norm_upper(weight: Tensor, geometry: Geometry) -> float:
    """Upper bound on the norm of a convolution, computed once in a process for each kernel and
    geometry. Raises ArithmeticError on weights that are not finite."""
    content = hashlib.sha256(weight.detach().to("cpu", torch.float64).numpy().tobytes())
    key = (content.digest(), tuple(weight.shape), geometry)
    if key not in _NORMS:
        method = grid if _large(weight, geometry) else symbol
        bounds = method.norm_upper(weight, geometry), sums.norm_upper(weight, geometry)
        _NORMS[key] = min(bounds)
    return _NORMS[key]


def _large(weight: Tensor, geometry: Geometry) -> bool:
    return max(geometry.torus(dim, weight.shape[2 + dim]) for dim in (0, 1)) > LARGEST_TORUS


def of_matrix(weight: Tensor) -> SingularValues:
    """Bounds for a matrix (m, n): Cholesky on its smaller Gram matrix, ends by singular vectors."""
    matrix = weight.detach().to("cpu", torch.float64)
    if not torch.isfinite(matrix).all():
        raise ArithmeticError("the weights are not finite")
    m, n = matrix.shape
    wide = m < n
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    error = up(gamma(max(m, n) + 2) * float(matrix.square().sum()))
    upper = min(sqrt_up(up(largest_eigenvalue(gram) + error)), sums.norm_upper(matrix))
    _, _, vectors = torch.linalg.svd(matrix, full_matrices=False)
    lower, small_upper = estimate.matrix_ratio(matrix, vectors[0])
    if wide:
        return SingularValues((lower, upper), (0.0, 0.0), "Gram matrix, Cholesky")
    small_upper = min(small_upper, estimate.matrix_ratio(matrix, vectors[-1])[1])
    small_lower = sqrt_down((smallest_eigenvalue(gram) - error) * (1 - 4 * UNIT))
    return SingularValues((lower, upper), (small_lower, small_upper), "Gram matrix, Cholesky")
