"""First integrals [T15]: the field, discrete gradients, Gauss methods.

Integrals are I(x) = <x, Qx>/2 + w sum x^4 / 4 with Q = B + B'. Steps of the implicit midpoint rule
need no solver: from a chosen midpoint m and k = f(m) they start at m - (h/2) k and end at
m + (h/2) k, exactly.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import (
    apply,
    at_least,
    inner,
    minus,
    over,
    plus,
    scaled,
    solve,
    times,
)
from verification.strategies.arithmetic import product as matmul
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    Array,
    Tracked,
    affine,
    exact,
)
from verification.strategies.stages import (
    as_matrices,
    matrix_field,
    minus_transpose,
    skew,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True)
class _Integral:
    """I(x) = <x, Qx>/2 + w sum x^4 / 4 for each field: Q (fields, n, n) symmetric, w a number."""

    Q: Array
    quartic: float

    def __call__(self, x: Tracked) -> Tracked:
        """(fields, 1, points)."""
        square = times(x, x)
        quadratic = inner(x, affine(self.Q, x), keepdims=True)
        fourth = inner(square, square, keepdims=True)
        return plus(scaled(0.5, quadratic), scaled(self.quartic / 4, fourth))

    def gradient(self, x: Tracked) -> Tracked:
        cube = times(times(x, x), x)
        return plus(affine(self.Q, x), scaled(self.quartic, cube))


def _integral(rng: np.random.Generator, fields: int, size: int, quartic: float) -> _Integral:
    B = draws.matrices(rng, Shape(size, size, "gaussian"), fields)
    return _Integral(B + B.mT, quartic)


# The field, and discrete gradients. ---------------------------------------------------------


@dataclass(frozen=True, repr=False)
class SkewGradientField(Structure):
    """S(x) grad I(x) with S(x) = A(x) - (1 - kept) A(x)', vec A(x) = sigma(Ux + u)."""

    size: int
    slopes: tuple[float, float]
    quartic: float
    seed: int
    kept: float = 0.0


def _rate(structure: SkewGradientField, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    size = structure.size
    integral = _integral(rng, fields, size, structure.quartic)
    entries = matrix_field(rng, fields, size, structure.slopes)
    x = exact(rng.standard_normal((fields, size, points)))
    g, A = integral.gradient(x), as_matrices(entries(x), size)
    F = apply(minus_transpose(A, 1 - structure.kept), g)
    return Trial({"skew_defect": structure.kept}, at_least(inner(g, F)))


_slope = draws.fractions(1, -1)
_quartic = st.sampled_from((0.0, 1.0, -0.5))


def _skew_gradients(**changes: st.SearchStrategy) -> st.SearchStrategy[SkewGradientField]:
    parts = {
        "size": st.integers(1, 5),
        "slopes": st.tuples(_slope, _slope),
        "quartic": _quartic,
        "seed": draws.seeds,
    }
    return st.builds(SkewGradientField, **{**parts, **changes})


FIRST_INTEGRAL = Strategy(
    structures=_skew_gradients(),
    draw=_rate,
    without={
        "skew": Violation(
            _skew_gradients(kept=st.just(1.0)),
            _rate,
            (SkewGradientField(2, (1.0, 1.0), 0.0, seed=0, kept=HAIR),),
        )
    },
)


@dataclass(frozen=True, repr=False)
class DiscreteGradient(Structure):
    """Gonzalez' gradient with `correction` times what it adds, or the average vector field (by
    Simpson's rule, exact for quartics), between random points."""

    size: int
    kind: str
    quartic: float
    seed: int
    correction: float = 1.0


def _chain_rule(structure: DiscreteGradient, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    size = structure.size
    integral = _integral(rng, fields, size, structure.quartic)
    square = draws.matrices(rng, Shape(size, size, "gaussian"), fields)
    pairs = draws.pairs(rng, square, points)
    x, y = exact(pairs.x), exact(pairs.y)
    d, middle = minus(y, x), scaled(0.5, plus(x, y))
    difference = minus(integral(y), integral(x))
    at_middle = integral.gradient(middle)
    if structure.kind == "Gonzalez":
        missing = minus(difference, inner(at_middle, d, keepdims=True))
        share = over(missing, inner(d, d, keepdims=True))
        g = plus(at_middle, scaled(structure.correction, times(share, d)))
    else:
        ends = plus(integral.gradient(x), integral.gradient(y))
        g = over(plus(ends, scaled(4.0, at_middle)), exact(np.full((1, 1, 1), 6.0)))
    defect = minus(inner(g, d, keepdims=True), difference)
    return Trial({"correction": structure.correction}, at_least(defect)[:, 0])


def _discrete_gradients(**changes: st.SearchStrategy) -> st.SearchStrategy[DiscreteGradient]:
    parts = {
        "size": st.integers(1, 5),
        "kind": st.sampled_from(("Gonzalez", "average")),
        "quartic": _quartic,
        "seed": draws.seeds,
    }
    return st.builds(DiscreteGradient, **{**parts, **changes})


DISCRETE_GRADIENT = Strategy(
    structures=_discrete_gradients(),
    draw=_chain_rule,
    without={
        "correction": Violation(
            _discrete_gradients(
                kind=st.just("Gonzalez"),
                quartic=st.sampled_from((1.0, -0.5)),
                correction=st.sampled_from((0.0, 0.5, 2.0)),
            ),
            _chain_rule,
            (
                DiscreteGradient(2, "Gonzalez", 1.0, seed=0, correction=1 - HAIR),
                DiscreteGradient(2, "Gonzalez", 1.0, seed=0, correction=1 + HAIR),
            ),
        )
    },
)


# Quadratic integrals. -----------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class QuadraticStep(Structure):
    """The method with one stage, a_11 = theta and b_1 = 1, on S(x)Qx; or, `stages` = 2, Gauss on a
    constant S. S is A - (1 - kept) A'."""

    size: int
    slopes: tuple[float, float]
    step: float
    stages: int
    seed: int
    theta: float = 0.5
    kept: float = 0.0


def _quadratic_change(structure: QuadraticStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    size = structure.size
    integral = _integral(rng, fields, size, 0.0)
    middle = exact(rng.standard_normal((fields, size, points)))
    if structure.stages == 1:
        entries = matrix_field(rng, fields, size, structure.slopes)
        A = as_matrices(entries(middle), size)
        S = minus_transpose(A, 1 - structure.kept)
        k = apply(S, integral.gradient(middle))
        before = minus(middle, scaled(structure.theta * structure.step, k))
        after = plus(middle, scaled((1 - structure.theta) * structure.step, k))
    else:
        before = middle
        after = _gauss(rng, structure, integral, middle)
    facts = {
        "energy_defect": structure.kept,
        "tableau_defect": abs(2 * structure.theta - 1),
    }
    change = minus(integral(after), integral(before))
    return Trial(facts, at_least(scaled(2.0, change))[:, 0])


def _gauss(
    rng: np.random.Generator, structure: QuadraticStep, integral: _Integral, x: Tracked
) -> Tracked:
    """(1 - z/2 + z^2/12)^-1 (1 + z/2 + z^2/12) at z = h S Q."""
    fields, size = len(x.value), structure.size
    A = draws.matrices(rng, Shape(size, size, "gaussian"), fields)
    S = skew(A, 1 - structure.kept)
    z = scaled(structure.step, matmul(exact(S), exact(integral.Q)))
    half = scaled(0.5, z)
    even = plus(exact(np.eye(size)), over(matmul(z, z), exact(np.full((1, 1), 12.0))))
    return solve(minus(even, half), matmul(plus(even, half), x))


def _quadratic_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[QuadraticStep]:
    parts = {
        "size": st.integers(1, 5),
        "slopes": st.tuples(_slope, _slope),
        "step": draws.multiples(-1, 1),
        "stages": st.sampled_from((1, 2)),
        "seed": draws.seeds,
    }
    return st.builds(QuadraticStep, **{**parts, **changes})


_step = QuadraticStep(2, (1.0, 1.0), 1.0, 1, seed=0)

GAUSS = Strategy(
    structures=_quadratic_steps(),
    draw=_quadratic_change,
    without={
        "skew": Violation(
            _quadratic_steps(kept=st.just(1.0)), _quadratic_change, (replace(_step, kept=HAIR),)
        ),
        "coefficients": Violation(
            _quadratic_steps(stages=st.just(1), theta=st.sampled_from((0.0, 1.0, 0.25))),
            _quadratic_change,
            (replace(_step, theta=(1 - HAIR) / 2), replace(_step, theta=(1 + HAIR) / 2)),
        ),
    },
)
