"""Steps of sphere-preserving fields [T15]: relaxation, projection, and Euler, which grows."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import (
    at_least,
    inner,
    minus,
    over,
    plus,
    root,
    scaled,
    times,
)
from verification.strategies.draws import HAIR
from verification.strategies.rounding import Array, Tracked, affine, exact, ratios, singular_range
from verification.strategies.stages import (
    METHODS,
    matrix_field,
    random_skew,
    runge_kutta,
    skew_action,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation

_slope = draws.fractions(1, -1)


@dataclass(frozen=True, repr=False)
class SphereStep(Structure):
    """A step of x' = (A(x) - A(x)')x, brought back to the sphere; `share` multiplies the factor
    that brings it back."""

    size: int
    slopes: tuple[float, float]
    method: str
    step: float
    seed: int
    share: float = 1.0


def _stepped(structure: SphereStep, fields: int, points: int) -> tuple[Tracked, Tracked]:
    rng = np.random.default_rng(structure.seed)
    entries = matrix_field(rng, fields, structure.size, structure.slopes)
    field = skew_action(entries, structure.size)
    x = exact(rng.standard_normal((fields, structure.size, points)))
    return x, runge_kutta(field, structure.method, x, np.full(fields, structure.step))


def _squares(x: Tracked, after: Tracked) -> Array:
    return at_least(minus(inner(after, after), inner(x, x)))


def _relaxed(structure: SphereStep, fields: int, points: int) -> Trial:
    x, moved = _stepped(structure, fields, points)
    d = exact(minus(moved, x).value)  # any increment will do
    factor = over(scaled(-2.0, inner(x, d, keepdims=True)), inner(d, d, keepdims=True))
    after = plus(x, times(scaled(structure.share, factor), d))
    return Trial({"relaxation_defect": abs(structure.share - 1)}, _squares(x, after))


def _scaled_back(structure: SphereStep, fields: int, points: int) -> Trial:
    x, moved = _stepped(structure, fields, points)
    moved = exact(moved.value)  # any image will do
    factor = over(root(inner(x, x, keepdims=True)), root(inner(moved, moved, keepdims=True)))
    after = times(scaled(structure.share, factor), moved)
    return Trial({"scaling_defect": abs(structure.share - 1)}, _squares(x, after))


def _sphere_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[SphereStep]:
    parts = {
        "size": st.integers(2, 5),
        "slopes": st.tuples(_slope, _slope),
        "method": st.sampled_from(("Heun", *(name for name in METHODS if name != "Heun"))),
        "step": draws.multiples(1 / 16, 1),
        "seed": draws.seeds,
    }
    return st.builds(SphereStep, **{**parts, **changes})


_other = st.sampled_from((0.5, 2.0, 0.0, 0.75))
_nearly = (SphereStep(2, (1.0, 1.0), "Heun", 0.5, seed=0, share=1 + HAIR),)

RELAXATION = Strategy(
    structures=_sphere_steps(),
    draw=_relaxed,
    without={"relaxed": Violation(_sphere_steps(share=_other), _relaxed, _nearly)},
)

PROJECTION = Strategy(
    structures=_sphere_steps(),
    draw=_scaled_back,
    without={"scaled": Violation(_sphere_steps(share=_other), _scaled_back, _nearly)},
)


# Explicit Euler. ----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class EulerRotation(Structure):
    """x + h Lambda x with Lambda = A - A' and h = step / |Lambda|, or with `growth` I added to
    Lambda; claimed is `claimed_rate` times its norm."""

    size: int
    step: float
    seed: int
    growth: float = 0.0
    claimed_rate: float = 1.0


def _grown(structure: EulerRotation, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    turning = random_skew(rng, fields, structure.size)
    norm = singular_range(turning)[1]
    field = turning + structure.growth * np.eye(structure.size)
    h = draws.single(structure.step / norm)
    x = draws.pairs(rng, turning, points)
    direction = exact(x.y - x.x)
    after = plus(direction, scaled(h[:, None, None], affine(field, direction)))
    zero = exact(np.zeros_like(after.value))
    facts = {
        "h": h,
        "rate": structure.claimed_rate * norm,
        "skew_norm": norm,
        "skew_defect": structure.growth,
    }
    return Trial(facts, ratios(after, zero, direction.value, zero.value))


def _rotations(**changes: st.SearchStrategy) -> st.SearchStrategy[EulerRotation]:
    parts = {
        "size": st.integers(2, 6),
        "step": draws.multiples(-2, 2),
        "seed": draws.seeds,
    }
    return st.builds(EulerRotation, **{**parts, **changes})


EULER_GROWTH = Strategy(
    structures=_rotations(),
    draw=_grown,
    sharp=tuple(EulerRotation(2, step, seed=0) for step in (0.0, 0.5, 2.0)),
    without={
        "skew": Violation(
            _rotations(growth=draws.fractions(1, 1 / 16)),
            _grown,
            (EulerRotation(2, 0.5, seed=0, growth=HAIR),),
        ),
        "rate": Violation(
            _rotations(claimed_rate=draws.shares()),
            _grown,
            (EulerRotation(2, 0.5, seed=0, claimed_rate=1 - HAIR),),
        ),
    },
)
