"""Flexible switching with tied weights [T10]: exactly orthogonal matrices, one offset."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import HAIR
from verification.strategies.euler import gradient_step
from verification.strategies.rounding import Array
from verification.strategies.switching import composed
from verification.strategies.trial import Facts, Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Tied(Structure):
    """Two half steps with slope `negative` below 0 (a when left out) and `positive` above, then
    x + h_2 A'ReLU(Ax + b), for signed permutations A of this size. With `push_offset` the last
    step has an offset of its own."""

    size: int
    a: float
    h_1: float
    h_2: float
    offset: str
    seed: int
    negative: float | None = None
    positive: float = 1.0
    push_offset: str | None = None


def _block(
    A: Array,
    offset: Array,
    structure: Any,
    pairs: draws.Pairs,
    *,
    negative: float,
    positive: float = 1.0,
    push_offset: Array | None = None,
    defect: float = 0.0,
) -> Trial:
    ones = np.ones(len(A))
    h_1, h_2 = structure.h_1 * ones, structure.h_2 * ones
    substep = gradient_step(A, h_1 / 2, offset, negative * ones, positive * ones)
    last = offset if push_offset is None else push_offset
    facts: Facts = {
        "a": structure.a,
        "h_1": structure.h_1,
        "h_2": structure.h_2,
        "slope_negative": negative,
        "slope_positive": positive,
        "orthogonality_defect": defect,
        "tie_defect": np.abs(last - offset).max(axis=1),
    }
    push = gradient_step(A, h_2, last, 0 * ones, ones, sign=1)
    return composed([substep, substep, push], facts, pairs)


@dataclass(frozen=True, repr=False)
class Between(Structure):
    """On the line with A = 1 and b = 0, and an offset `gap` in the last step: from points between
    the two kinks, which are contracted with the slope a and then expanded."""

    gap: float
    a: float
    h_1: float
    h_2: float


def _tied(structure: Tied | Between, fields: int, points: int) -> Trial:
    if isinstance(structure, Between):
        gap, zero = np.full((1, 1), structure.gap), np.zeros((1, 1))
        pairs = draws.Pairs(-gap[..., None] / 4, -gap[..., None] / 2)
        one = np.ones((1, 1, 1))
        return _block(one, zero, structure, pairs, negative=structure.a, push_offset=gap)
    rng = np.random.default_rng(structure.seed)
    A = draws.signed_permutations(rng, fields, structure.size)
    pairs = draws.pairs(rng, A, points)
    offset, push_offset = (
        None if kind is None else draws.offsets(rng, kind, A, pairs.x[:, :, 0])
        for kind in (structure.offset, structure.push_offset)
    )
    assert offset is not None
    negative = structure.a if structure.negative is None else structure.negative
    return _block(
        A,
        offset,
        structure,
        pairs,
        negative=negative,
        positive=structure.positive,
        push_offset=push_offset,
    )


def _structures(**changes: st.SearchStrategy) -> st.SearchStrategy[Tied | Between]:
    parts = {
        "size": st.integers(1, 8),
        "a": st.sampled_from((0.5, 0.0, 0.1, 0.9, 1.0)),
        "h_1": draws.multiples(-0.5, 2),
        "h_2": draws.multiples(-2.5, 1),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(Tied, **{**parts, **changes})


@dataclass(frozen=True, repr=False)
class RoundedReflection(Structure):
    """A = I - 2 v v'/|v|^2 rounded to float32, with h_2 on the tied boundary for h_1.

    With u = Ax and AA' = I + E, a substep moves u_0 < 0 by -h_1/2 E_01 u_1 besides scaling it. So
    with u_1 large and opposite in sign to E_01, u_0 can stay negative through both substeps with
    slope a and be just positive before the last step, which expands it.
    """

    v: tuple[int, ...]
    a: float
    h_1: float

    @property
    def h_2(self) -> float:
        return (1 - self.h_1 / 2) ** -2 - 1

    @property
    def A(self) -> Array:
        v = np.array(self.v, dtype=float)
        return draws.single(np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v))

    @property
    def defect(self) -> Array:
        return self.A @ self.A.T - np.eye(len(self.v))


def _at_the_sign_change(structure: RoundedReflection, fields: int, points: int) -> Trial:
    """The one pair of the docstring above, whatever is asked for."""
    h_1, a, A, defect = structure.h_1, structure.a, structure.A, structure.defect
    drift = h_1 / 2 * abs(defect[0, 1])
    u_1 = -np.sign(defect[0, 1])
    rate = a if u_1 < 0 else 1.0
    contracted = 1 - a * h_1 / 2
    # After substeps 1 and 2: contracted u_0 + rate drift, then contracted^2 u_0 + gained.
    second = rate * drift * (1 - rate * h_1 / 2)
    gained = contracted * rate * drift + second
    start = -(gained - second / 2) / contracted**2
    u = np.zeros((2, len(A)))
    u[:, 0], u[:, 1] = (start, start + second / 8), u_1
    near, far = (np.linalg.solve(A, row)[None, :, None].astype(np.float64) for row in u)
    offset = np.zeros((1, len(A)))
    size = float(np.linalg.norm(defect))
    pairs = draws.Pairs(near, far)
    return _block(A[None], offset, structure, pairs, negative=a, defect=size)


_reflections = st.builds(
    RoundedReflection,
    st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple),
    st.sampled_from((0.5, 0.1, 0.9)),
    draws.multiples(1 / 16, 1),
).filter(lambda structure: structure.defect[0, 1] != 0)


def _attained(h_1: float, h_2: float, offset: str) -> Tied:
    return Tied(2, 0.5, h_1, h_2, offset, seed=0)


_below, _above = _attained(0.11, 0.05, "all below"), _attained(0.11, 0.15, "all above")

TIED: Strategy[Tied | Between] = Strategy(
    structures=_structures(),
    draw=_tied,
    sharp=(
        _below,
        _above,
        _attained(1.0, 0.5, "all below"),
        _attained(1.0, -1.0, "all below"),
        _attained(-0.5, 0.5, "all above"),
    ),
    without={
        "activation": Violation(
            _structures(negative=draws.fractions(1, 0), positive=draws.fractions(0, 15 / 16, 15)),
            _tied,
            (
                replace(_below, negative=0.5 * (1 - HAIR)),
                replace(_above, positive=1 - HAIR),
                Tied(2, -2.0, -10.0, 1.0, "all below", seed=0),
                Tied(2, 1 + HAIR, 2 - HAIR / 2, 4.0, "all below", seed=0),
            ),
        ),
        "orthogonal": Violation(
            _reflections, _at_the_sign_change, (RoundedReflection((1, 2, 3), 0.5, 0.11),)
        ),
        "tied": Violation(
            _structures(push_offset=st.sampled_from(draws.OFFSETS)),
            _tied,
            (Between(HAIR, 0.5, 0.11, 0.1),),
        ),
        "step": Violation(
            _structures(h_1=draws.multiples(33 / 16, 4)),
            _tied,
            (Tied(2, 1 - 1.5 * HAIR, 2 + 2 * HAIR, -1.0, "all above", seed=0),),
        ),
    },
)
