"""Runge-Kutta steps that do not expand [T8]: co-coercive fields, B-stability, two numbers only."""

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import minus, plus, quotients, scaled
from verification.strategies.draws import HAIR, Shape
from verification.strategies.flows import largest_eigenvalue
from verification.strategies.rounding import (
    COVER,
    Array,
    Tracked,
    affine,
    exact,
    ratios,
    singular_range,
)
from verification.strategies.stages import METHODS, Field, layer, random_skew, runge_kutta
from verification.strategies.trial import Strategy, Structure, Trial, Violation

# Co-coercive fields. ------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class CocoerciveStep(Structure):
    """A step of -A'sigma(Ax + b), with h = step nu r; nu = 1/|A|^2 and r = 1 are the true numbers,
    `claimed_nu` and `claimed_radius` times these are claimed."""

    A: Shape
    slopes: tuple[float, float]
    method: str
    step: float
    offset: str
    seed: int
    claimed_nu: float = 1.0
    claimed_radius: float = 1.0


def _cocoercive(structure: CocoerciveStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    true = 1 / (singular_range(A)[1] ** 2 * COVER)
    nu, r = structure.claimed_nu * true, structure.claimed_radius
    h = structure.step * (nu * r)
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    field = layer(A, offset, structure.slopes, -A.mT)
    images = [runge_kutta(field, structure.method, exact(side), h) for side in (pairs.x, pairs.y)]
    facts = {"nu": nu, "cocoercivity": true, "r": r, "true_radius": 1.0, "h": h}
    return Trial(facts, ratios(images[0], images[1], pairs.x, pairs.y))


def _cocoercive_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[CocoerciveStep]:
    slope = draws.fractions(1, 0)
    parts = {
        "A": draws.shapes(),
        "slopes": st.tuples(slope, slope),
        "method": st.sampled_from(tuple(METHODS)),
        "step": draws.multiples(0, 2),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(CocoerciveStep, **{**parts, **changes})


_beyond = st.sampled_from((2.0, 1.5, 4.0))
_square = Shape(2, 2, "gaussian")

_plane = Shape(2, 2, "identity")
_whole = CocoerciveStep(_plane, (1.0, 1.0), "Euler", 2.0, "zero", seed=0)

CIRCLE = Strategy(
    structures=_cocoercive_steps(),
    draw=_cocoercive,
    sharp=(
        CocoerciveStep(_square, (1.0, 1.0), "Euler", 2.0, "zero", seed=0),
        CocoerciveStep(_square, (1.0, 1.0), "RK4", 0.0, "zero", seed=0),
    ),
    without={
        "co-coercive": Violation(
            _cocoercive_steps(claimed_nu=_beyond),
            _cocoercive,
            (replace(_whole, claimed_nu=1 + HAIR),),
        ),
        "radius": Violation(
            _cocoercive_steps(claimed_radius=_beyond),
            _cocoercive,
            (replace(_whole, claimed_radius=1 + HAIR),),
        ),
        "step": Violation(
            _cocoercive_steps(step=draws.multiples(33 / 16, 6) | draws.multiples(-2, -1 / 16)),
            _cocoercive,
            (replace(_whole, step=2 * (1 + HAIR)), replace(_whole, step=-HAIR)),
        ),
    },
)

# B-stability. -------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class ThetaStep(Structure):
    """The method with one stage, a_11 = theta and b_1 = 1: implicit midpoint for theta = 1/2,
    implicit Euler for 1. On f(x) = -A'sigma(Ax + b) + turn K x + growth x with K skew, from chosen
    stages m and k = f(m): x = m - theta h k and x+ = m + (1 - theta) h k.
    """

    A: Shape
    slopes: tuple[float, float]
    turn: float
    theta: float
    step: float
    offset: str
    seed: int
    growth: float = 0.0


def _turning(
    A: Array, offset: Array, slopes: tuple[float, float], K: Array, growth: float = 0.0
) -> Field:
    """-A'sigma(Ax + b) + Kx + growth x."""
    gradient = layer(A, offset, slopes, -A.mT)

    def field(x: Tracked) -> Tracked:
        return plus(gradient(x), affine(K, x), scaled(growth, x))

    return field


def _theta(structure: ThetaStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    K = structure.turn * random_skew(rng, fields, structure.A.columns)
    middle = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, middle.x[:, :, 0])
    field = _turning(A, offset, structure.slopes, K, structure.growth)
    before, after = [], []
    for side in (middle.x, middle.y):
        k = scaled(structure.step, field(exact(side)))
        before.append(minus(exact(side), scaled(structure.theta, k)))
        after.append(plus(exact(side), scaled(1 - structure.theta, k)))
    facts = {
        "one_sided": structure.growth,
        "stability": 2 * structure.theta - 1,
        "h": structure.step,
    }
    return Trial(facts, quotients(*after, *before))


def _theta_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[ThetaStep]:
    slope = draws.fractions(0, 1)
    parts = {
        "A": draws.shapes(6),
        "slopes": st.tuples(slope, slope),
        "turn": draws.multiples(0, 2),
        "theta": draws.fractions(1 / 2, 1),
        "step": draws.multiples(0, 4),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(ThetaStep, **{**parts, **changes})


_turns = ThetaStep(_plane, (0.0, 0.0), 1.0, 0.5, 1.0, "zero", seed=0)

B_STABLE = Strategy(
    structures=_theta_steps(),
    draw=_theta,
    sharp=tuple(
        ThetaStep(_square, (0.0, 0.0), turn, 0.5, step, "zero", seed=0)
        for turn, step in ((1.0, 1.0), (1.0, 16.0), (0.0, 1.0))
    ),
    without={
        "non-expansive": Violation(
            _theta_steps(growth=draws.fractions(1, 1 / 16)), _theta, (replace(_turns, growth=HAIR),)
        ),
        "stable": Violation(
            _theta_steps(theta=draws.fractions(0, 7 / 16)),
            _theta,
            (replace(_turns, theta=0.5 - HAIR / 2),),
        ),
        "step": Violation(
            _theta_steps(step=draws.multiples(-4, -1 / 16)),
            _theta,
            (replace(_turns, slopes=(1.0, 1.0), step=-HAIR),),
        ),
    },
)

# Two numbers only. --------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TwoNumbers(Structure):
    """An explicit Euler step of -A'sigma(Ax + b) + turn K x + growth x with K skew, or of a linear
    field with -a A'A x for the first term; h = step / L. The numbers mu and L are bounds of the
    true ones, `claimed_rate` and `claimed_norm` times these are claimed."""

    A: Shape
    a: float
    high: float
    turn: float
    step: float
    offset: str
    linear: bool
    seed: int
    growth: float = 0.0
    claimed_rate: float = 1.0
    claimed_norm: float = 1.0


def _two_numbers(structure: TwoNumbers, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    K = structure.turn * random_skew(rng, fields, structure.A.columns)
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    if structure.linear:
        M = K - structure.a * (A.mT @ A) + structure.growth * np.eye(structure.A.columns)
        mu, L = -largest_eigenvalue(M), singular_range(M)[1]

        field: Field = partial(affine, M)
    else:
        field = _turning(A, offset, (structure.a, structure.high), K, structure.growth)
        low, high = singular_range(A)
        least = structure.a * low**2
        mu = least - structure.growth - (least + structure.growth) * (COVER - 1)
        L = (structure.high * high**2 + singular_range(K)[1] + structure.growth) * COVER
    h = draws.single(structure.step / np.maximum(L, 2.0**-10))  # a field may vanish
    images = [runge_kutta(field, "Euler", exact(side), h) for side in (pairs.x, pairs.y)]
    facts = {
        "mu": structure.claimed_rate * mu,
        "decay_rate": mu,
        "L": structure.claimed_norm * L,
        "true_lipschitz": L,
        "h": h,
    }
    return Trial(facts, ratios(images[0], images[1], pairs.x, pairs.y))


def _fields_of_two_numbers(**changes: st.SearchStrategy) -> st.SearchStrategy[TwoNumbers]:
    @cache  # or Hypothesis would look through a new strategy for each draw
    def with_slope(a: float) -> st.SearchStrategy[TwoNumbers]:
        parts = {
            "A": draws.shapes(6),
            "a": st.just(a),
            "high": draws.fractions(a, 1),
            "turn": draws.multiples(0, 2),
            "step": draws.multiples(0, 2.5),
            "offset": st.sampled_from(draws.OFFSETS),
            "linear": st.booleans().map(lambda piecewise: not piecewise),
            "seed": draws.seeds,
            "growth": draws.multiples(0, 1),
        }
        return st.builds(TwoNumbers, **{**parts, **changes})

    return st.sampled_from((1.0, 0.5, 0.1)).flatmap(with_slope)


_full = st.sampled_from([Shape(size, size, "identity") for size in (2, 3)])

_spiral = TwoNumbers(_plane, 0.5, 1.0, 1.0, 0.5, "zero", True, seed=0)

TWO_NUMBERS = Strategy(
    structures=_fields_of_two_numbers(),
    draw=_two_numbers,
    sharp=tuple(
        TwoNumbers(Shape(2, 2, "identity"), 0.5, 1.0, turn, step, "zero", True, seed=0)
        for turn, step in ((1.0, 0.5), (1.0, 2.0), (0.0, 0.5))
    ),
    without={
        "one-sided": Violation(
            _fields_of_two_numbers(
                A=_full, linear=st.just(True), claimed_rate=draws.fractions(2, 17 / 16)
            ),
            _two_numbers,
            (replace(_spiral, claimed_rate=1 + HAIR),),
        ),
        "lipschitz": Violation(
            _fields_of_two_numbers(linear=st.just(True), claimed_norm=draws.shares()),
            _two_numbers,
            (replace(_spiral, claimed_norm=1 - HAIR),),
        ),
        "step": Violation(
            _fields_of_two_numbers(step=draws.multiples(-2.5, -1 / 16)),
            _two_numbers,
            (replace(_spiral, A=_square, step=-(2.0**-16)),),
        ),
    },
)
