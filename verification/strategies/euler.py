"""One Euler step [T7, T8, T8']."""

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import Array, placed, ratios, singular_range
from verification.strategies.trial import (
    EulerStep,
    Facts,
    Strategy,
    Structure,
    Trial,
    Violation,
)


def trial(step: EulerStep, facts: Facts, points: draws.Pairs) -> Trial:
    images = [step(placed(side)) for side in (points.x, points.y)]
    return Trial(facts, ratios(images[0], images[1], points.x, points.y))


def gradient_step(
    A: Array, h: Array, offset: Array, negative: Array, positive: Array, sign: float = -1
) -> EulerStep:
    """x + sign h A' sigma(A x + offset)."""
    return EulerStep(sign * h, A, offset, negative, positive, A.mT)


@dataclass(frozen=True, repr=False)
class GradientStep(Structure):
    """x -+ h B sigma(Ax + b) with h = step / |A|^2, the two slopes of sigma, and B = outer A'.

    Claimed are the slope `a`, `claimed_norm` times |A|, and as s_min the true one or
    `claimed_smallest` times |A|.
    """

    A: Shape
    a: float
    negative: float
    positive: float
    step: float
    offset: str
    seed: int
    outer: float = 1.0
    claimed_norm: float = 1.0
    claimed_smallest: float | None = None


def _gradient(sign: float, structure: GradientStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    sigma_min, sigma_max = singular_range(A)
    h = draws.single(structure.step / sigma_max**2)
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    ones, slopes = np.ones(fields), (structure.negative, structure.positive)
    step = gradient_step(A, h, offset, slopes[0] * ones, slopes[1] * ones, sign)
    share = structure.claimed_smallest
    facts = {
        "a": structure.a,
        "h": h,
        "s_min": sigma_min if share is None else share * sigma_max,
        "s_max": structure.claimed_norm * sigma_max,
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "slope_low": min(slopes),
        "slope_high": max(slopes),
        "adjoint_defect": abs(structure.outer - 1) * sigma_max,
    }
    return trial(replace(step, outer=structure.outer * A.mT), facts, pairs)


def _gradient_steps(
    *,
    claims_slope: bool = False,
    **changes: st.SearchStrategy,
) -> st.SearchStrategy[GradientStep]:
    """Within the hypotheses, but for what `changes` says."""

    @cache  # or Hypothesis would look through a new strategy for each draw
    def with_slope(a: float) -> st.SearchStrategy[GradientStep]:
        parts = {
            "A": draws.shapes(),
            "a": st.just(a),
            "negative": draws.fractions(a, 1),
            "positive": draws.fractions(1, a),
            "step": draws.multiples(-0.5, 2.5),
            "offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
        }
        return st.builds(GradientStep, **{**parts, **changes})

    return st.sampled_from((0.5, 0.0, 0.1, 0.9) if claims_slope else (0.0,)).flatmap(with_slope)


OTHER_OUTER = st.sampled_from((-1.0, 2.0, 0.0, 0.5))
TOO_LARGE = draws.fractions(1, 1 / 16, 15)
ABOVE_ONE = draws.fractions(2, 17 / 16, 15)


_all_above = GradientStep(Shape(2, 2, "identity"), 0.0, 0.0, 1.0, 2.5, "all above", seed=0)
_all_below = replace(_all_above, step=1.0, offset="all below")


def _violations(
    sign: float, low: tuple[GradientStep, ...], **common
) -> dict[str, Violation[GradientStep]]:
    """Without the three hypotheses that T7, T8 and the expansive gradient step share; the edges
    `low` have slopes that are too small."""
    draw = partial(_gradient, sign)

    def outside(changes: dict[str, st.SearchStrategy], *edges: GradientStep):
        return Violation(_gradient_steps(**changes, **common), draw, edges)

    return {
        "gradient": outside({"outer": OTHER_OUTER}, replace(_all_above, outer=1 + HAIR)),
        "slopes": outside({"positive": ABOVE_ONE}, *low, replace(_all_above, positive=1 + HAIR)),
        "largest": outside(
            {"claimed_norm": draws.shares()}, replace(_all_above, claimed_norm=1 - HAIR)
        ),
    }


_any_square = Shape(2, 2, "gaussian")


def _attained(a: float, step: float, offset: str, A: Shape = _any_square) -> GradientStep:
    return GradientStep(A, a, a, 1.0, step, offset, seed=0)


_half_below = _attained(0.5, 0.5, "all below", Shape(2, 2, "identity"))

CONTRACTIVE = Strategy(
    structures=_gradient_steps(claims_slope=True),
    draw=partial(_gradient, -1),
    sharp=(
        _attained(0.5, 0.5, "all below"),
        _attained(0.5, 1.0, "all below", Shape(3, 2, "gaussian")),
        _attained(0.5, 2.0, "all above"),
        _attained(0.5, 2.5, "all above"),
        _attained(0.5, -0.5, "all above"),
    ),
    without={
        **_violations(
            -1,
            (
                _attained(-HAIR, 1.0, "all below"),
                replace(_half_below, negative=0.5 * (1 - HAIR)),
            ),
            claims_slope=True,
        ),
        "smallest": Violation(
            _gradient_steps(claims_slope=True, claimed_smallest=TOO_LARGE),
            partial(_gradient, -1),
            (
                replace(_half_below, claimed_smallest=1 + HAIR),
                replace(_half_below, A=Shape(1, 2, "gaussian"), claimed_smallest=-HAIR),
            ),
        ),
    },
)

NONEXPANSIVE = Strategy(
    structures=_gradient_steps(),
    draw=partial(_gradient, -1),
    sharp=(
        _attained(0.0, 0.5, "all below"),
        _attained(0.0, 2.0, "all above"),
        _attained(0.0, 2.5, "all above"),
        _attained(0.0, -0.5, "all above"),
    ),
    without=_violations(-1, (replace(_all_below, negative=-HAIR),)),
)

_forward = draws.multiples(0, 2.5)

EXPANSIVE_GRADIENT = Strategy(
    structures=_gradient_steps(step=_forward),
    draw=partial(_gradient, 1),
    sharp=tuple(_attained(0.0, step, "all above") for step in (0.0, 0.5, 2.5)),
    without={
        **_violations(1, (replace(_all_below, negative=-4.0, step=2.5),), step=_forward),
        "step": Violation(
            _gradient_steps(step=draws.multiples(-2.5, -1 / 16)),
            partial(_gradient, 1),
            (replace(_all_below, step=-HAIR),),
        ),
    },
)


@dataclass(frozen=True, repr=False)
class Layer(Structure):
    """x + h sigma(Wx + v) with h = step / |W|; the norm claimed is `claimed_norm` times |W|."""

    W: Shape
    negative: float
    positive: float
    step: float
    offset: str
    seed: int
    claimed_norm: float = 1.0


def _layer(structure: Layer, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    W = draws.matrices(rng, structure.W, fields)
    norm = singular_range(W)[1]
    h = draws.single(structure.step / norm)
    pairs = draws.pairs(rng, W, points)
    offset = draws.offsets(rng, structure.offset, W, pairs.x[:, :, 0])
    ones, slopes = np.ones(fields), (structure.negative, structure.positive)
    facts = {
        "h": h,
        "s_max": structure.claimed_norm * norm,
        "sigma_max": norm,
        "push_low": min(slopes),
        "push_high": max(slopes),
    }
    return trial(EulerStep(h, W, offset, slopes[0] * ones, slopes[1] * ones), facts, pairs)


def _layers(**changes: st.SearchStrategy) -> st.SearchStrategy[Layer]:
    parts = {
        "W": draws.squares(),
        "negative": draws.fractions(1, -1),
        "positive": draws.fractions(1, -1),
        "step": draws.multiples(-0.5, 2.5),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(Layer, **{**parts, **changes})


_growing = Layer(Shape(2, 2, "identity"), 1.0, 1.0, 0.5, "all above", seed=0)

EXPANSIVE = Strategy(
    structures=_layers(),
    draw=_layer,
    sharp=tuple(
        Layer(Shape(2, 2, "identity"), -1.0, 1.0, step, offset, seed=0)
        for step, offset in ((0.0, "zero"), (0.5, "all above"), (-0.5, "all below"))
    ),
    without={
        "push-slopes": Violation(
            _layers(positive=ABOVE_ONE),
            _layer,
            (
                replace(_growing, positive=1 + HAIR),
                replace(_growing, negative=-1 - HAIR, step=-0.5, offset="all below"),
            ),
        ),
        "largest": Violation(
            _layers(claimed_norm=draws.shares()),
            _layer,
            (replace(_growing, claimed_norm=1 - HAIR),),
        ),
    },
)
