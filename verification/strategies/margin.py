"""The margin certificate [T4] on random affine and two-layer classifiers."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    affine,
    distances,
    exact,
    piecewise,
    singular_range,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Classifier(Structure):
    """W sigma(Ax + b) with two slopes in [-1, 1]: L is the product of the norms.

    With `steepest`, pairs differ along the first two rows of WA, which is where a margin between
    these classes falls fastest. Claimed are `claimed_norm` times L, `claimed_margin` times the
    margin.
    """

    W: Shape
    A: Shape
    slopes: tuple[float, float]
    offset: str
    steepest: bool
    seed: int
    claimed_norm: float = 1.0
    claimed_margin: float = 1.0


def _margins(logits: Tracked, winner: Array) -> tuple[Array, Array]:
    """Bounds (low, high) of logit of `winner` (fields, points) less the largest of the others."""
    chosen = winner[:, None, :].astype(int)
    own = np.take_along_axis(logits.value, chosen, axis=1)[:, 0]
    others = logits.value.copy()
    np.put_along_axis(others, chosen, -np.inf, axis=1)
    margin = own - others.max(axis=1)
    error = 2 * logits.error.max(axis=1) + 2 * UNIT * (np.abs(own) + np.abs(others.max(axis=1)))
    return margin - error * COVER, margin + error * COVER


def _fall(at_x: Tracked, at_y: Tracked) -> tuple[Array, Array]:
    """Bounds of m(x) - m(y), both margins of the class of x."""
    winner = at_x.value.argmax(axis=1)
    low_x, high_x = _margins(at_x, winner)
    low_y, high_y = _margins(at_y, winner)
    return low_x - high_y, high_x - low_y


def _steepest(pairs: draws.Pairs, matrix: Array) -> draws.Pairs:
    """The same distances, along the difference of the first two rows."""
    direction = (matrix[:, 0] - matrix[:, 1])[..., None]
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    length = np.linalg.norm(pairs.y - pairs.x, axis=1, keepdims=True)
    sides = np.where(np.arange(length.shape[-1]) % 2 == 0, 1.0, -1.0)
    return draws.Pairs(pairs.x, pairs.x + sides * length * direction)


def _classify(structure: Classifier, fields: int, points: int) -> Trial:
    """One field per pair whose margin falls: the radius for that fall against the distance. One
    pair in eight, since each has a law of its own."""
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    W = draws.matrices(rng, structure.W, fields)
    pairs = draws.pairs(rng, W @ A, max(8, points // 8))
    if structure.steepest:
        pairs = _steepest(pairs, W @ A)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    slopes = [slope * np.ones(fields) for slope in structure.slopes]
    images = [
        affine(W, piecewise(affine(A, exact(side), offset), *slopes)) for side in (pairs.x, pairs.y)
    ]
    low, high = _fall(images[0], images[1])
    falls = low > 0
    norm = singular_range(A)[1] * singular_range(W)[1] * COVER
    true_norm = np.broadcast_to(norm[:, None], low.shape)[falls]
    facts = {
        "margin": structure.claimed_margin * low[falls],
        "true_margin": high[falls],
        "L": structure.claimed_norm * true_norm,
        "true_L": true_norm,
    }
    return Trial(facts, distances(pairs.x, pairs.y)[falls][:, None])


def _classifiers(**changes: st.SearchStrategy) -> st.SearchStrategy[Classifier]:
    @cache  # or Hypothesis would look through a new strategy for each draw
    def with_sizes(classes: int, size: int) -> st.SearchStrategy[Classifier]:
        spectra = draws.SPECTRA if classes == size else ("identity", "gaussian")
        slope = draws.fractions(1, -1)
        parts = {
            "W": st.builds(lambda kind: Shape(classes, size, kind), st.sampled_from(spectra)),
            "A": st.builds(lambda kind: Shape(size, size, kind), st.sampled_from(draws.SPECTRA)),
            "slopes": st.tuples(slope, slope),
            "offset": st.sampled_from(draws.OFFSETS),
            "steepest": st.booleans().map(lambda random: not random),
            "seed": draws.seeds,
        }
        return st.builds(Classifier, **{**parts, **changes})

    sizes = st.tuples(st.integers(2, 5), st.integers(2, 6))
    return sizes.flatmap(lambda both: with_sizes(*both))


_plane = Shape(2, 2, "identity")
_attained = Classifier(_plane, _plane, (1.0, 1.0), "zero", True, seed=0)

MARGIN = Strategy(
    structures=_classifiers(),
    draw=_classify,
    sharp=(_attained,),
    without={
        "lipschitz": Violation(
            _classifiers(claimed_norm=draws.shares()),
            _classify,
            (replace(_attained, claimed_norm=1 - HAIR),),
        ),
        "margin": Violation(
            _classifiers(claimed_margin=draws.fractions(2, 17 / 16)),
            _classify,
            (replace(_attained, claimed_margin=1 + HAIR),),
        ),
    },
)
