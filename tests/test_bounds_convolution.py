"""Bounds of convolutions against the dense matrix of the executed map, one-sided, and how tight."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.operators import Convolution, Dense, banded, estimate, grid, symbol
from dsnn.operators.bounds import of_convolution, of_matrix, singular_values
from dsnn.operators.geometry import Geometry

GEOMETRIES = [
    Geometry(extent, stride, padding, dilation, groups, circular)
    for extent, stride, padding, dilation, groups, circular in [
        ((6, 6), (1, 1), (1, 1, 1, 1), (1, 1), 1, False),
        ((7, 5), (1, 1), (1, 1, 1, 1), (1, 1), 1, True),
        ((8, 6), (2, 2), (1, 1, 1, 1), (1, 1), 1, False),
        ((7, 9), (2, 3), (1, 1, 1, 1), (1, 1), 1, False),
        ((8, 6), (2, 2), (1, 1, 1, 1), (1, 1), 1, True),
        ((7, 7), (2, 2), (1, 1, 1, 1), (1, 1), 1, True),
        ((9, 8), (1, 1), (2, 2, 2, 2), (2, 2), 1, False),
        ((9, 8), (1, 1), (0, 0, 0, 0), (2, 1), 1, False),
        ((5, 6), (1, 1), (3, 3, 3, 3), (1, 1), 1, False),
        ((5, 6), (1, 1), (3, 3, 3, 3), (1, 1), 1, True),
        ((6, 6), (1, 1), (1, 1, 1, 1), (1, 1), 2, False),
        ((6, 7), (2, 1), (0, 1, 2, 0), (1, 1), 2, False),
    ]
]
SIZES = [(3, 3), (2, 4), (1, 1), (5, 3)]
CASES = [
    (g, size, outputs)
    for g, size, outputs in itertools.product(GEOMETRIES, SIZES, (2, 6))
    if min(g.outputs(d, size[d]) for d in (0, 1)) > 0
]


def kernel(outputs: int, groups: int, size: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, 4 // groups, *size, generator=generator)


def matrix(weight: Tensor, geometry: Geometry) -> Tensor:
    """The executed map as a dense float64 matrix, column by column."""
    count = weight.shape[1] * geometry.groups * math.prod(geometry.extent)
    basis = torch.eye(count).double().reshape(count, -1, *geometry.extent)
    return geometry.apply(weight.double(), basis).flatten(1).T


@pytest.mark.parametrize(("geometry", "size", "outputs"), CASES)
def test_both_methods_dominate_the_executed_map(geometry: Geometry, size, outputs):
    for seed in range(3):
        weight = kernel(outputs, geometry.groups, size, seed)
        dense = matrix(weight, geometry)
        _, values, vectors = torch.linalg.svd(dense, full_matrices=dense.shape[0] < dense.shape[1])
        top = vectors[0].reshape(1, -1, *geometry.extent)
        witness, _ = estimate.ratio(weight, geometry, top)
        assert witness >= float(values[0]) * (1 - 1e-8)
        assert symbol.norm_upper(weight, geometry) >= witness
        assert grid.norm_upper(weight, geometry) >= witness


@pytest.mark.parametrize(("geometry", "size", "outputs"), CASES)
def test_smallest_is_below_every_ratio(geometry: Geometry, size, outputs):
    weight = kernel(outputs, geometry.groups, size, 0)
    dense = matrix(weight, geometry)
    vectors = torch.linalg.svd(dense, full_matrices=True).Vh
    least = vectors[-1].reshape(1, -1, *geometry.extent)
    _, witness = estimate.ratio(weight, geometry, least)
    bounds = of_convolution(weight, geometry, tight=True)
    assert bounds.smallest[0] <= witness
    assert bounds.smallest[0] <= bounds.smallest[1]


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if not g.circular])
def test_tight_is_close_to_exact(geometry: Geometry):
    weight = kernel(6, geometry.groups, (3, 3), 7)
    dense = matrix(weight, geometry)
    values = torch.linalg.svdvals(dense)
    bounds = of_convolution(weight, geometry, tight=True)
    assert bounds.norm[1] <= 1.001 * float(values[0])
    assert bounds.norm[0] <= bounds.norm[1]
    if dense.shape[0] >= dense.shape[1]:
        assert bounds.smallest[0] >= 0.95 * float(values[-1]) - 1e-6


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.is_torus((3, 3))])
def test_circular_padding_is_exact(geometry: Geometry):
    weight = kernel(16, geometry.groups, (3, 3), 3)
    values = torch.linalg.svdvals(matrix(weight, geometry))
    bounds = of_convolution(weight, geometry)
    assert bounds.norm[1] <= float(values[0]) * (1 + 1e-9)
    assert bounds.smallest[0] >= float(values[-1]) * (1 - 1e-6)


def test_the_two_methods_agree_as_bounds():
    for seed in range(5):
        weight = kernel(5, 1, (3, 3), seed)
        geometry = Geometry((40, 40), padding=(1, 1, 1, 1))
        fine, coarse = symbol.norm_upper(weight, geometry), grid.norm_upper(weight, geometry)
        bernstein = 1 / math.cos(math.pi / 24) ** 2
        assert coarse * bernstein >= fine  # the torus is below the infinite grid
        assert coarse <= fine * 1.07


def test_a_torus_of_the_image_side_is_too_small():
    """The museum's entry: the circular operator on the image itself misses part of the norm."""
    zero = Geometry((3, 3), padding=(1, 1, 1, 1))
    missed = 0
    for seed in range(20):
        weight = kernel(1, 4, (3, 3), seed)
        norm, _ = estimate.ratio(weight, zero, estimate.lanczos(weight, zero, 9).largest_vector)
        on_the_image = symbol.norm_upper(weight, dataclasses.replace(zero, circular=True))
        missed += on_the_image < norm
        assert symbol.norm_upper(weight, zero) >= norm
    assert missed > 0


@pytest.mark.parametrize("circular", [False, True])
def test_the_coarse_grid_knows_that_a_stride_drops_outputs(circular: bool):
    """Of the stride-1 map the norm is about twice as large."""
    weight = kernel(8, 1, (7, 7), 0)
    geometry = Geometry((24, 24), stride=(2, 2), padding=(3, 3, 3, 3), circular=circular)
    exact = float(torch.linalg.svdvals(matrix(weight, geometry))[0])
    assert exact <= grid.norm_upper(weight, geometry) <= 1.2 * exact
    whole = Geometry((24, 24), padding=(3, 3, 3, 3), circular=circular)
    assert grid.norm_upper(weight, whole) > 1.2 * exact


def test_groups_take_the_maximum_not_the_product():
    weight = torch.cat([0.5 * torch.ones(1, 1, 1, 1), 0.1 * torch.ones(1, 1, 1, 1)])
    bounds = of_convolution(weight, Geometry((4, 4), groups=2))
    assert bounds.norm[0] <= 0.5 <= bounds.norm[1] <= 0.5 * (1 + 1e-9)
    assert bounds.smallest[0] <= float(weight[1]) <= bounds.smallest[1]


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_a_single_tap_without_padding_is_a_matrix_at_each_pixel(stride: tuple[int, int]):
    """Its smallest singular value is that of the matrix; a stride drops pixels, and leaves 0."""
    weight = kernel(5, 1, (1, 1), 3)
    found = of_convolution(weight, Geometry((4, 6), stride=stride))
    exact = torch.linalg.svdvals(weight[:, :, 0, 0].double())
    smallest = float(exact[-1]) if weight.shape[1] <= 5 and stride == (1, 1) else 0.0
    assert found.smallest[0] <= smallest * (1 + 1e-12)
    assert found.smallest[0] >= smallest * (1 - 1e-9)
    assert float(exact[0]) * (1 - 1e-12) <= found.norm[1] <= float(exact[0]) * (1 + 1e-9)
    tight = of_convolution(weight, Geometry((4, 6), stride=stride), tight=True)
    assert smallest * (1 + 1e-12) >= tight.smallest[0] >= found.smallest[0]
    padded = Geometry((4, 6), padding=(1, 1, 1, 1))
    assert of_convolution(weight, padded).smallest[0] <= float(exact[-1])


def test_zero_padding_breaks_an_orthogonal_kernel():
    """A shift has penalty 0 on the infinite grid, and loses a column at the border."""
    shift = torch.zeros(1, 1, 3, 3)
    shift[0, 0, 1, 2] = 1
    zero, circular = (
        Geometry((5, 5), padding=(1, 1, 1, 1)),
        Geometry((5, 5), padding=(1, 1, 1, 1), circular=True),
    )
    assert of_convolution(shift, zero, tight=True).smallest[0] == 0
    assert of_convolution(shift, circular).smallest[0] >= 1 - 1e-9


def test_a_wide_map_has_smallest_zero():
    assert of_convolution(kernel(2, 1, (3, 3), 0), GEOMETRIES[0], tight=True).smallest == (0, 0)
    assert singular_values(Dense(6, 3)).smallest == (0, 0)


@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (3, 7), (1, 1), (64, 20)])
def test_dense(shape):
    layer = nn.Linear(shape[1], shape[0])
    exact = torch.linalg.svdvals(layer.weight.detach().double())
    bounds = singular_values(layer)
    assert bounds.norm[0] <= float(exact[0]) * (1 + 1e-12)
    assert bounds.norm[0] <= bounds.norm[1] <= float(exact[0]) * (1 + 1e-9)
    assert bounds.norm[1] >= bounds.norm[0] > 0.999 * float(exact[0])
    if shape[0] >= shape[1]:
        assert 0.99 * float(exact[-1]) <= bounds.smallest[0] <= bounds.smallest[1]


def test_rank_deficient_and_zero_kernels():
    geometry = GEOMETRIES[0]
    weight = kernel(6, 1, (3, 3), 0)
    weight[:, 0] = 0
    assert of_convolution(weight, geometry, tight=True).smallest[0] == 0
    assert 0 <= of_convolution(torch.zeros(6, 4, 3, 3), geometry).norm[1] <= 1e-6


def test_scale_carries_over():
    geometry = GEOMETRIES[0]
    weight = kernel(6, 1, (3, 3), 1)
    one = symbol.norm_upper(weight, geometry)
    for factor in (2.0**-60, 2.0**60):
        scaled = symbol.norm_upper(weight * factor, geometry)
        assert one * factor * (1 - 1e-9) <= scaled <= one * factor * (1 + 1e-9)


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("side", [8, 90])
@pytest.mark.parametrize("scale", [1e100, 1e154, 1e200, math.nan])
def test_numbers_that_overflow_have_no_bound(scale: float, side: int, tight: bool):
    weight = kernel(2, 2, (3, 3), 1).double() * scale
    geometry = Geometry((side, side), padding=(1, 1, 1, 1), groups=2)
    with pytest.raises(ArithmeticError):
        of_convolution(weight, geometry, tight=tight)
    if not scale < 1e154:
        with pytest.raises(ArithmeticError):
            grid.norm_upper(weight, geometry)


@pytest.mark.parametrize("entry", [1e-320, 1e-200, 1.6e-162, 1e-150, 1.0])
def test_squares_that_underflow_are_counted(entry: float):
    weight = entry * torch.eye(4, dtype=torch.float64)[:, :, None, None]
    for bounds in (
        of_matrix(weight[:, :, 0, 0]),
        of_convolution(weight, Geometry((4, 4)), tight=True),
    ):
        assert bounds.norm[0] <= entry <= bounds.norm[1]
        assert bounds.smallest[0] <= entry <= bounds.smallest[1]


def test_the_grid_is_walked_in_pieces(monkeypatch: pytest.MonkeyPatch):
    """Large kernels of many channels would take gigabytes at once."""
    weight, geometry = kernel(4, 2, (5, 4), 1), Geometry((90, 90), padding=(2, 2, 2, 2), groups=2)
    whole, sizes, iterate = grid.norm_upper(weight, geometry), [], grid.gram_iteration
    monkeypatch.setattr(grid, "CHUNK", 400)
    monkeypatch.setattr(grid, "gram_iteration", lambda g: sizes.append(len(g)) or iterate(g))
    assert abs(grid.norm_upper(weight, geometry) / whole - 1) < 1e-9
    assert max(sizes) == 100


def test_a_large_image_takes_the_coarse_grid():
    weight = kernel(4, 1, (3, 3), 1)
    bounds = of_convolution(weight, Geometry((100, 90), padding=(1, 1, 1, 1)))
    assert bounds.method.startswith("coarse grid")
    assert bounds.norm[1] >= bounds.norm[0]
    assert bounds.norm[1] <= 1.1 * bounds.norm[0]


def test_the_rounding_of_long_norms_is_in_a_ratio():
    """A constant vector, as a blur has on a torus, is summed with errors that do not cancel."""
    vector = torch.full((1, 1, 4096, 2048), 0.7, dtype=torch.float64)
    lower, upper = estimate.ratio(torch.ones(1, 1, 1, 1), Geometry((4096, 2048)), vector)
    assert lower <= 1 - vector.numel() * 2**-53 < 1 + vector.numel() * 2**-53 <= upper


def test_the_cholesky_proof_refuses_a_shift_that_is_too_small():
    """The planted error: a shift below the largest eigenvalue has no factor."""
    weight = kernel(6, 1, (3, 3), 5)
    geometry = GEOMETRIES[0]
    exact = float(torch.linalg.svdvals(matrix(weight, geometry))[0])
    gram = banded.banded_gram(weight.double(), geometry)
    assert banded._certify(gram, exact**2 * (1 - 1e-6), -1) is None
    error = banded._certify(gram, exact**2 * (1 + 1e-6), -1)
    assert error is not None
    assert error <= 1e-6 * exact**2


def test_modules_that_have_no_bound_are_refused():
    with pytest.raises(UserError, match="reflect"):
        singular_values(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (5, 5))
    with pytest.raises(UserError, match="does not fit"):
        singular_values(nn.Conv2d(2, 2, 7), (5, 5))
    with pytest.raises(UserError, match="extent"):
        singular_values(nn.Conv2d(2, 2, 3))
    with pytest.raises(UserError, match="no bound"):
        singular_values(nn.Conv1d(2, 2, 3), (5, 5))
    with pytest.raises(ArithmeticError):
        singular_values(nn.Linear(2, 2).requires_grad_(False).apply(_poison))


def _poison(module: nn.Module) -> None:
    assert isinstance(module, nn.Linear)
    module.weight.fill_(math.nan)


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize(("stride", "groups", "size"), [(1, 1, 3), (2, 1, 3), (1, 2, 5), (2, 2, 5)])
def test_adjoint(circular: bool, stride: int, groups: int, size: int):
    operator = Convolution(4, 6, size, stride=stride, groups=groups, circular=circular).double()
    operator.weight.data.normal_()
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    image = operator(x)
    y = torch.randn_like(image)
    difference = (image * y).sum() - (x * operator.adjoint(y)).sum()
    assert difference.abs() <= 1e-10
    module = nn.Conv2d(
        4,
        6,
        size,
        stride,
        size // 2,
        groups=groups,
        padding_mode="circular" if circular else "zeros",
    ).double()
    module.weight.data = operator.weight.data
    assert singular_values(module, (8, 6)) == singular_values(operator, (8, 6))


def test_dense_adjoint():
    operator = Dense(3, 5)
    x, y = torch.randn(2, 3), torch.randn(2, 5)
    difference = (operator(x) * y).sum() - (x * operator.adjoint(y)).sum()
    assert difference.abs() <= 1e-5
