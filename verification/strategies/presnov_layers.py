"""Layers for the two parts of a field [T2'], and convex parts of a potential [R1]."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.counted import Counted, contract, stored
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    affine,
    exact,
    piecewise,
    singular_range,
)
from verification.strategies.trial import Facts, Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Tangential(Structure):
    """X_S(x) = (B + radial I) x, B skew with entries up to 1, at points whose distance from the
    origin is `delta` or a random multiple of it."""

    variables: int
    delta: float
    seed: int
    radial: float = 0.0
    claimed_quotient: float = 1.0


def _regularised(structure: Tangential, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    n, delta = structure.variables, structure.delta
    B = rng.uniform(-1, 1, (fields, n, n))
    B = (B - B.mT) / 2
    B[:, 0, 1], B[:, 1, 0] = -1.0, 1.0
    B = B + structure.radial * np.eye(n)  # exact: the diagonal was 0
    direction = rng.standard_normal((fields, n, points))
    direction[:, 2:, : points // 2] = 0
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    multiple = np.where(np.arange(points) % 4 == 0, 1.0, 2 ** rng.uniform(-3, 3, points))
    x = stored(delta * multiple * direction)
    Y = contract("fij,fjp->fip", stored(B), x)
    square, inner = contract("fnp,fnp->fp", x, x), contract("fnp,fnp->fp", x, Y)
    whole = square + stored(delta) * stored(delta)

    def times(scalar: Counted, vector: Counted) -> Counted:
        return contract("fp,fnp->fnp", scalar, vector)

    # X_S - Lambda_delta x = [(|x|^2 + delta^2) X_S - (|x|^2 X_S - <x, X_S> x)] / (|x|^2 + delta^2)
    applied = times(square, Y) - times(inner, x)
    spread = Counted(whole.value[:, None], whole.moduli[:, None], whole.roundings)
    missed = Y - applied / spread
    relative = (n + 8) * UNIT
    length = np.linalg.norm(missed.defect(), axis=1) * (1 - relative)
    norm = singular_range(B)[1]
    facts = {
        "delta": delta,
        "true_q": norm,
        "q": structure.claimed_quotient * norm,
        "tangency_defect": abs(structure.radial),
    }
    return Trial(facts, length)


def _tangentials(**changes: st.SearchStrategy) -> st.SearchStrategy[Tangential]:
    parts = {
        "variables": st.integers(2, 6),
        "delta": st.sampled_from((1.0, 0.5, 2.0**-10, 0.1)),
        "seed": draws.seeds,
    }
    return st.builds(Tangential, **{**parts, **changes})


_turns = tuple(Tangential(2, delta, seed=0) for delta in (1.0, 0.1))

SKEW_DENSITY = Strategy(
    structures=_tangentials(),
    draw=_regularised,
    sharp=_turns,
    without={
        "tangential": Violation(
            _tangentials(radial=draws.multiples(1 / 4, 2, 4)),
            _regularised,
            (replace(_turns[0], radial=HAIR),),
        ),
        "quotient": Violation(
            _tangentials(claimed_quotient=draws.shares()),
            _regularised,
            (replace(_turns[0], claimed_quotient=1 - HAIR),),
        ),
    },
)


@dataclass(frozen=True, repr=False)
class GradientLayer(Structure):
    """The Jacobian B diag(alpha) S A of B diag(alpha) Sigma(Ax + b), B = A' and S diagonal, its
    entries the two slopes in all patterns; or as published, diag(alpha) A' S A; or the first row
    of B is `stretched`, by this share of it."""

    A: Shape
    slopes: tuple[float, float]
    seed: int
    published: bool = False
    stretched: float = 0.0


def outer(A: Array) -> Array:
    """What multiplies diag(alpha) Sigma(Ax + b)."""
    return A.mT


def _asymmetry(structure: GradientLayer, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    rows = structure.A.rows
    alpha = rng.uniform(-1, 1, (fields, rows))
    S = rng.choice(np.array(structure.slopes), (fields, rows, points))
    last, difference = outer(A), np.zeros(fields)
    weights = stored(alpha[..., None]) * stored(S)
    if structure.published:
        last, weights = alpha[..., None] * A.mT, stored(S)
        difference = np.abs(last - A.mT * alpha[:, None, :]).max(axis=(1, 2))
    elif structure.stretched:
        last = last.copy()
        last[:, 0] *= 1 + structure.stretched
        difference = np.abs(last - A.mT).max(axis=(1, 2))
    inside = contract("fmp,fmj->fpmj", weights, stored(A))
    J = contract("fim,fpmj->fijp", stored(last), inside)
    transposed = Counted(J.value.swapaxes(1, 2), J.moduli.swapaxes(1, 2), J.roundings)
    missed = (J - transposed).defect().max(axis=(1, 2))
    return Trial({"adjoint_defect": difference}, missed)


def _layers(**changes: st.SearchStrategy) -> st.SearchStrategy[GradientLayer]:
    parts = {
        "A": draws.shapes(6),
        "slopes": st.tuples(draws.fractions(1, -1), draws.fractions(1, -1)),
        "seed": draws.seeds,
    }
    return st.builds(GradientLayer, **{**parts, **changes})


GRADIENT_LAYER = Strategy(
    structures=_layers(),
    draw=_asymmetry,
    without={
        "gradient": Violation(
            _layers(A=draws.squares(6, smallest=2), published=st.just(True)),
            _asymmetry,
            (GradientLayer(Shape(2, 2, "gaussian"), (1.0, 1.0), seed=0, stretched=HAIR),),
        ),
    },
)


@dataclass(frozen=True, repr=False)
class Potential(Structure):
    """U = alpha' Gamma(Ax + b), entries of alpha of both signs up to 1 in size or all -1, slopes in
    [0, 1]: |D^2 U| <= |A|^2 = M. To it lambda |x|^2 / 2 is added, lambda = shift M."""

    A: Shape
    slopes: tuple[float, float]
    concave: bool
    shift: float
    offset: str
    seed: int
    claimed_curvature: float = 1.0
    used_shift: float = 1.0


def _convexity(structure: Potential, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    rows = structure.A.rows
    alpha = -np.ones((fields, rows)) if structure.concave else rng.uniform(-1, 1, (fields, rows))
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    slopes = [slope * np.ones(fields) for slope in structure.slopes]
    weighted = A.mT * alpha[:, None, :]  # rounded
    slip = UNIT * np.abs(weighted)

    def gradient(x: np.ndarray) -> Tracked:
        active = piecewise(affine(A, exact(x), offset), *slopes)
        field = affine(weighted, active)
        return Tracked(field.value, field.error + slip @ np.abs(active.value) * COVER)

    first, second = gradient(pairs.x), gradient(pairs.y)
    g = first.value - second.value
    error = (first.error + second.error + UNIT * np.abs(g)) * COVER
    d = pairs.x - pairs.y  # rounded: relative error u
    square = (d * d).sum(axis=1)
    terms = (np.abs(g) * np.abs(d)).sum(axis=1)
    slack = (error * np.abs(d)).sum(axis=1) + (A.shape[-1] + 8) * 2 * UNIT * terms
    curvature = singular_range(A)[1] ** 2 * COVER
    shift = structure.shift * curvature
    used = structure.used_shift * shift
    quotient = (g * d).sum(axis=1) / square
    margin = slack / square * COVER + 8 * UNIT * (np.abs(quotient) + used[:, None])
    facts: Facts = {
        "M": structure.claimed_curvature * curvature,
        "true_M": curvature,
        "shift": shift,
        "used_shift": used,
    }
    return Trial(facts, used[:, None] + quotient + margin)


def _potentials(**changes: st.SearchStrategy) -> st.SearchStrategy[Potential]:
    parts = {
        "A": draws.shapes(6),
        "slopes": st.tuples(draws.fractions(1, 0), draws.fractions(1, 0)),
        "concave": st.booleans().map(lambda mixed: not mixed),
        "shift": draws.multiples(1, 3, 4),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(Potential, **{**parts, **changes})


_concave = Potential(Shape(2, 2, "identity"), (1.0, 1.0), True, 2.0, "zero", seed=0)

CONVEX_PARTS = Strategy(
    structures=_potentials(),
    draw=_convexity,
    sharp=(
        _concave,
        Potential(Shape(3, 3, "gaussian"), (1.0, 1.0), True, 1.5, "zero", seed=0),
    ),
    without={
        "curvature": Violation(
            _potentials(claimed_curvature=draws.shares()),
            _convexity,
            (replace(_concave, claimed_curvature=1 - HAIR),),
        ),
        "shift": Violation(
            _potentials(used_shift=draws.shares()),
            _convexity,
            (replace(_concave, used_shift=1 - HAIR),),
        ),
    },
)
