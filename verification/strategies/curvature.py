"""Radii from a gradient [R2] on margins w x - sum of c φ(a x + b), φ convex with φ'' at most 1."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import minus, scaled, times
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    affine,
    distances,
    exact,
    singular_range,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation

KINDS = ("quadratic", "softplus")


@dataclass(frozen=True, repr=False)
class Bent(Structure):
    """φ is z^2 / 2 or 4 log(1 + exp(z)). With `steepest`, pairs differ against the gradient.
    Claimed are these shares of the numbers that hold."""

    A: Shape
    kind: str
    offset: str
    steepest: bool
    seed: int
    claimed_margin: float = 1.0
    claimed_slope: float = 1.0
    claimed_curvature: float = 1.0


def _potential(z: Tracked, kind: str) -> tuple[Tracked, Tracked]:
    """φ and φ'."""
    if kind == "quadratic":
        return scaled(0.5, times(z, z)), z
    value: Array = 4 * np.logaddexp(0, z.value)
    slope: Array = 4 / (1 + np.exp(-z.value))
    elementary = 32 * UNIT
    return (
        Tracked(value, (4 * z.error + elementary * value) * COVER),
        Tracked(slope, (z.error + elementary * slope) * COVER),
    )


def _bend(structure: Bent, fields: int, points: int) -> Trial:
    """One field per pair whose margin falls, with the gradient at its first point."""
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    w = rng.standard_normal((fields, 1, A.shape[2]))
    c = 2.0 ** rng.integers(-2, 2, (fields, 1, 1))  # exact as a factor
    pairs = draws.pairs(rng, A, max(8, points // 8))
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    if structure.offset.startswith("all"):
        offset = offset / draws.BEYOND * 8  # beyond, a softplus is linear and a square too large
    sums = c * np.ones((1, 1, A.shape[1]))

    def at(x: Array) -> tuple[Tracked, Tracked]:
        """The margin and its gradient."""
        potential, slope = _potential(affine(A, exact(x), offset), structure.kind)
        margin = minus(affine(w, exact(x)), affine(sums, potential))
        return margin, minus(exact(w.mT + 0 * x), affine(c * A.mT, slope))

    at_x, gradient = at(pairs.x)
    length = np.linalg.norm(gradient.value, axis=1)
    y = pairs.y
    if structure.steepest:
        reach = np.linalg.norm(pairs.y - pairs.x, axis=1) / np.maximum(length, 1e-300)
        y = pairs.x - gradient.value * reach[:, None, :]
    fall = minus(at_x, at(y)[0])
    low, high = (fall.value - fall.error)[:, 0], (fall.value + fall.error)[:, 0]
    falls = low > 0
    error = np.linalg.norm(gradient.error, axis=1)
    true_slope = (length * (1 + (A.shape[2] + 8) * UNIT) + error) * COVER
    bend = (c[:, 0, 0] * singular_range(A)[1] ** 2 * COVER)[:, None]
    true_bend = np.broadcast_to(bend, low.shape)[falls]
    facts = {
        "margin": structure.claimed_margin * low[falls],
        "true_margin": high[falls],
        "slope": structure.claimed_slope * true_slope[falls],
        "true_slope": true_slope[falls],
        "curvature": structure.claimed_curvature * true_bend,
        "true_curvature": true_bend,
    }
    return Trial(facts, distances(pairs.x, y)[falls][:, None])


def _margins(**changes: st.SearchStrategy) -> st.SearchStrategy[Bent]:
    parts = {
        "A": draws.shapes(6),
        "kind": st.sampled_from(KINDS),
        "offset": st.sampled_from(draws.OFFSETS),
        "steepest": st.booleans().map(lambda random: not random),
        "seed": draws.seeds,
    }
    return st.builds(Bent, **{**parts, **changes})


def _attained(**changes: st.SearchStrategy) -> st.SearchStrategy[Bent]:
    """Those of which every pair attains the law, but for one claim."""
    identities = st.integers(1, 6).map(lambda n: Shape(n, n, "identity"))
    exactly = {"A": identities, "kind": st.just("quadratic"), "steepest": st.just(True)}
    return _margins(**exactly, **changes)


_sharp = Bent(Shape(2, 2, "identity"), "quadratic", "zero", True, seed=0)

CURVATURE = Strategy(
    structures=_margins(),
    draw=_bend,
    sharp=(_sharp,),
    without={
        "margin": Violation(
            _attained(claimed_margin=draws.fractions(2, 17 / 16)),
            _bend,
            (replace(_sharp, claimed_margin=1 + HAIR),),
        ),
        "slope": Violation(
            _attained(claimed_slope=draws.shares()),
            _bend,
            (replace(_sharp, claimed_slope=1 - HAIR),),
        ),
        "curvature": Violation(
            _attained(claimed_curvature=draws.shares()),
            _bend,
            (replace(_sharp, claimed_curvature=1 - HAIR),),
        ),
    },
)
