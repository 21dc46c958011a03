"""One Euler step [T7, T8, T8'].

The instances that attain a law, and those that break it without a hypothesis, have one or two
dimensions and can be read off: with an offset of +-BEYOND the activation is affine where it is
used, so the step is x - h s A'A x plus a constant, with s the slope on that side.
"""

import numpy as np
from numpy.random import Generator

from verification.strategies import draws
from verification.strategies.draws import BEYOND
from verification.strategies.rounding import Array, exact, ratios, singular_range
from verification.strategies.trial import EulerStep, Facts, Strategy, Trial


def trial(step: EulerStep, facts: Facts, points: draws.Pairs) -> Trial:
    images = [step(exact(side)) for side in (points.x, points.y)]
    return Trial(facts, ratios(images[0], images[1], points.x, points.y))


def unit_pairs(fields: int, columns: int) -> draws.Pairs:
    """From the origin along each axis, half a unit: (fields, columns, columns) points."""
    x = np.zeros((fields, columns, columns))
    return draws.Pairs(x, x + np.eye(columns) / 2)


def gradient_step(
    A: Array, h: Array, offset: Array, negative: Array, positive: Array, sign: float = -1
) -> EulerStep:
    """x + sign h A' sigma(A x + offset)."""
    return EulerStep(sign * h, A, offset, negative, positive, A.mT)


def _random_gradient(sign: float, *, claims_slope: bool, low: float, high: float):
    def sample(rng: Generator, fields: int, points: int) -> Trial:
        A = draws.inner(rng, fields, int(rng.integers(1, 9)))
        sigma_min, sigma_max = singular_range(A)
        a = float(rng.choice([0.0, 0.1, 0.5, 0.9])) if claims_slope else 0.0
        negative, positive = draws.slopes(rng, fields, a)
        h = draws.steps(rng, sigma_max**2, low=low, high=high)
        pairs = draws.pairs(rng, A, points)
        offset = draws.offsets(rng, A, pairs.x[:, :, 0])
        facts = {
            "a": a,
            "h": h,
            "s_min": sigma_min,
            "s_max": sigma_max,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "slope_low": np.minimum(negative, positive),
            "slope_high": np.maximum(negative, positive),
            "adjoint_defect": 0.0,
        }
        return trial(gradient_step(A, h, offset, negative, positive, sign), facts, pairs)

    return sample


def _diagonal(
    *,
    sign: float = -1,
    a: float = 0.0,
    h: tuple[float, ...] = (1.0,),
    spectrum: tuple[float, float] = (0.5, 1.0),
    side: tuple[int, ...] = (1,),
    negative: float | None = None,
    positive: float = 1.0,
    outer: float = 1.0,
    **claims: float,
) -> Trial:
    """One field per entry of `h`: A = diag(spectrum), the outer matrix `outer` A', offset BEYOND on
    the given side, moved along the axes. `claims` override what is claimed of it."""
    fields = len(h)
    A = np.broadcast_to(np.diag(spectrum), (fields, 2, 2))
    below = a if negative is None else negative
    ones = np.ones(fields)
    offset = np.array(side, dtype=float)[:, None] * np.full((fields, 2), BEYOND)
    step = EulerStep(sign * np.array(h), A, offset, below * ones, positive * ones, outer * A.mT)
    low, high = min(spectrum), max(spectrum)
    facts = {
        "a": a,
        "h": np.array(h),
        "s_min": low,
        "s_max": high,
        "sigma_min": low,
        "sigma_max": high,
        "slope_low": min(below, positive),
        "slope_high": max(below, positive),
        "adjoint_defect": abs(outer - 1) * high,
        **claims,
    }
    return trial(step, facts, unit_pairs(fields, 2))


def _wide() -> Trial:
    """A = [I 0] with 3 rows and 6 columns, s_min claimed to be the last singular value, 1."""
    A = np.eye(3, 6)[None]
    ones = np.ones(1)
    step = gradient_step(A, ones, np.full((1, 3), BEYOND), 0.5 * ones, ones)
    facts = {
        "a": 0.5,
        "h": 1.0,
        "s_min": 1.0,
        "s_max": 1.0,
        "sigma_min": 0.0,
        "sigma_max": 1.0,
        "slope_low": 0.5,
        "slope_high": 1.0,
        "adjoint_defect": 0.0,
    }
    return trial(step, facts, unit_pairs(1, 6))


CONTRACTIVE = Strategy(
    sample=_random_gradient(-1, claims_slope=True, low=-0.5, high=2.5),
    sharp=lambda: _diagonal(a=0.5, h=(0.5, 1.5, 2.0, 2.5, -0.5), side=(-1, -1, 1, 1, 1)),
    without={
        "gradient": lambda: _diagonal(a=0.5, outer=-1.0),
        "slopes": lambda: _diagonal(a=0.5, negative=0.25, side=(-1,)),
        "smallest": _wide,
        "largest": lambda: _diagonal(a=0.5, spectrum=(0.5, 2.0), s_max=1.0),
    },
)

NONEXPANSIVE = Strategy(
    sample=_random_gradient(-1, claims_slope=False, low=-0.5, high=2.5),
    sharp=lambda: _diagonal(h=(0.5, 2.0, 2.5, -0.5), side=(-1, 1, 1, 1)),
    without={
        "gradient": lambda: _diagonal(outer=-1.0),
        "slopes": lambda: _diagonal(h=(1.5,), positive=2.0),
        "largest": lambda: _diagonal(h=(1.5,), spectrum=(0.5, 2.0), s_max=1.0),
    },
)

EXPANSIVE_GRADIENT = Strategy(
    sample=_random_gradient(1, claims_slope=False, low=0.0, high=2.5),
    sharp=lambda: _diagonal(sign=1, h=(0.0, 0.5, 2.5), side=(1, 1, 1)),
    without={
        "gradient": lambda: _diagonal(sign=1, outer=2.0),
        "slopes": lambda: _diagonal(sign=1, positive=2.0),
        "largest": lambda: _diagonal(sign=1, spectrum=(0.5, 2.0), s_max=1.0),
        "step": lambda: _diagonal(sign=1, h=(-1.0,), side=(-1,)),
    },
)


def _random_layer(rng: Generator, fields: int, points: int) -> Trial:
    W = draws.square(rng, fields, int(rng.integers(1, 9)))
    if rng.random() < 0.25:
        W = 2 ** rng.uniform(-1, 1, (fields, 1, 1)) * np.eye(W.shape[-1])
    norm = singular_range(W)[1]
    negative, positive = draws.slopes(rng, fields, -1.0)
    h = draws.steps(rng, norm)
    pairs = draws.pairs(rng, W, points)
    offset = draws.offsets(rng, W, pairs.x[:, :, 0])
    facts = {
        "h": h,
        "s_max": norm,
        "sigma_max": norm,
        "push_low": np.minimum(negative, positive),
        "push_high": np.maximum(negative, positive),
    }
    return trial(EulerStep(h, W, offset, negative, positive), facts, pairs)


def _scaling_layer(
    h: tuple[float, ...] = (0.5,),
    *,
    side: tuple[int, ...] = (1,),
    scale: float = 2.0,
    positive: float = 1.0,
    **claims: float,
) -> Trial:
    """W = scale I in two dimensions, slope -1 below and `positive` above."""
    fields = len(h)
    ones = np.ones(fields)
    W = np.broadcast_to(scale * np.eye(2), (fields, 2, 2))
    offset = np.array(side, dtype=float)[:, None] * np.full((fields, 2), BEYOND)
    facts = {
        "h": np.array(h),
        "s_max": scale,
        "sigma_max": scale,
        "push_low": -1.0,
        "push_high": positive,
        **claims,
    }
    step = EulerStep(np.array(h), W, offset, -ones, positive * ones)
    return trial(step, facts, unit_pairs(fields, 2))


EXPANSIVE = Strategy(
    sample=_random_layer,
    sharp=lambda: _scaling_layer((0.0, 0.5, 2.0, -0.5), side=(1, 1, 1, -1)),
    without={
        "push-slopes": lambda: _scaling_layer(positive=2.0),
        "largest": lambda: _scaling_layer(s_max=1.0),
    },
)
