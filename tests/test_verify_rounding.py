"""The a-priori rounding margins of the attack, against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from verification.strategies import draws, rounding
from verification.strategies.rounding import UNIT, exact
from verification.strategies.trial import EulerStep


def _shape(rng: np.random.Generator, columns: int) -> draws.Shape:
    """Square in half of the draws, else tall or wide."""
    if rng.random() < 0.5:
        return draws.Shape(columns, columns, str(rng.choice(draws.SPECTRA)))
    return draws.Shape(int(rng.integers(1, 2 * columns + 1)), columns, "gaussian")


def _rational_step(step: EulerStep, x: list[Fraction]) -> list[Fraction]:
    A, b = step.inner[0], step.offset[0]
    inner = [
        sum((Fraction(A[i, j]) * x[j] for j in range(len(x))), Fraction(b[i]))
        for i in range(len(b))
    ]
    slope = [Fraction(step.positive[0] if u > 0 else step.negative[0]) for u in inner]
    active = [s * u for s, u in zip(slope, inner, strict=True)]
    assert step.outer is not None
    B = step.outer[0]
    moved = [
        sum((Fraction(B[i, j]) * active[j] for j in range(len(active))), Fraction(0))
        for i in range(len(x))
    ]
    return [xi + Fraction(step.step[0]) * m for xi, m in zip(x, moved, strict=True)]


@pytest.mark.parametrize("seed", range(30))
def test_error_bounds_and_ratios_contain_the_exact_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = draws.matrices(rng, _shape(rng, 4), 1)
    pairs = draws.pairs(rng, A, 4)
    offset = draws.offsets(rng, str(rng.choice(draws.OFFSETS)), A, pairs.x[:, :, 0])
    slopes = rng.uniform(0.3, 1, (2, 1))
    step = EulerStep(-rng.uniform(0, 2, 1), A, offset, slopes[0], slopes[1], A.mT)
    images = [step(exact(side)) for side in (pairs.x, pairs.y)]
    bounds = rounding.ratios(images[0], images[1], pairs.x, pairs.y)
    for point in range(4):
        ends = [[Fraction(v) for v in side[0, :, point]] for side in (pairs.x, pairs.y)]
        truth = [_rational_step(step, end) for end in ends]
        for image, true in zip(images, truth, strict=True):
            value, error = image.value[0, :, point], image.error[0, :, point]
            for v, e, t in zip(value, error, true, strict=True):
                assert abs(Fraction(v) - t) <= Fraction(e)
        squares = [sum((u - v) ** 2 for u, v in zip(*two, strict=True)) for two in (truth, ends)]
        assert Fraction(bounds[0, point]) ** 2 * squares[1] <= squares[0]


def test_a_translation_is_never_seen_to_expand() -> None:
    """In R^64 at distance 8e-3 plain float64 shows more than 1; the bound does not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 64, 256))
    direction = rng.standard_normal((1, 64, 256))
    y = x + 8e-3 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    shift = rng.standard_normal((1, 64, 1))
    plain = np.linalg.norm((x + shift) - (y + shift), axis=1) / np.linalg.norm(x - y, axis=1)
    moved = [rounding.Tracked(side + shift, UNIT * np.abs(side + shift)) for side in (x, y)]
    assert plain.max() > 1
    assert rounding.ratios(moved[0], moved[1], x, y).max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_singular_range_contains_rational_quotients(seed: int) -> None:
    """|Av|^2 / |v|^2 in rational arithmetic, at the singular vectors that a SVD returns."""
    rng = np.random.default_rng(seed)
    A = draws.matrices(rng, _shape(rng, int(rng.integers(1, 6))), 3)
    low, high = rounding.singular_range(A)
    for field in range(3):
        for v in np.linalg.svd(A[field])[2]:
            exact_v = [Fraction(entry) for entry in v]
            image = [
                sum(Fraction(a) * e for a, e in zip(row, exact_v, strict=True)) for row in A[field]
            ]
            square, length = sum(i * i for i in image), sum(e * e for e in exact_v)
            assert Fraction(low[field]) ** 2 * length <= square
            assert square <= Fraction(high[field]) ** 2 * length


def test_singular_range_is_tight_and_knows_kernels() -> None:
    rng = np.random.default_rng(1)
    Q = draws.signed_permutations(rng, 4, 6)
    low, high = rounding.singular_range(Q)
    assert (low >= 1 - 1e-11).all()
    assert (high <= 1 + 1e-11).all()
    wide = rounding.singular_range(np.eye(3, 6)[None])
    assert wide[0][0] == 0
    assert wide[1][0] >= 1


def test_a_torch_device_bounds_the_same_ratio() -> None:
    """Sums in another order: both are lower bounds of one number, and close to each other."""
    rng = np.random.default_rng(2)
    A = draws.matrices(rng, draws.Shape(7, 5, "gaussian"), 3)
    pairs = draws.pairs(rng, A, 16)
    ones = np.ones(3)
    step = EulerStep(ones / 4, A, np.zeros((3, 7)), ones / 2, ones, A.mT)
    found = []
    for device in (None, "cpu"):
        with rounding.on(device):
            images = [step(rounding.placed(side)) for side in (pairs.x, pairs.y)]
            assert isinstance(images[0].value, np.ndarray) == (device is None)
            found.append(rounding.ratios(images[0], images[1], pairs.x, pairs.y))
    assert np.abs(found[0] - found[1]).max() < 1e-11
