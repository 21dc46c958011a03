"""The margin certificate [T4] on random affine and two-layer classifiers."""

import numpy as np
from numpy.random import Generator

from verification.strategies import draws
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
from verification.strategies.trial import Strategy, Trial


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


def _flatten(at_x: Tracked, at_y: Tracked, pairs: draws.Pairs, norm: Array) -> Trial:
    """One field per pair whose margin falls: the radius for that fall against the distance."""
    low, high = _fall(at_x, at_y)
    falls = low > 0
    per_pair = np.broadcast_to(norm[:, None], low.shape)
    facts = {
        "margin": low[falls],
        "true_margin": high[falls],
        "L": per_pair[falls],
        "true_L": per_pair[falls],
    }
    return Trial(facts, distances(pairs.x, pairs.y)[falls][:, None])


def _random(rng: Generator, fields: int, points: int) -> Trial:
    """W sigma(Ax + b) with slopes in [-1, 1]: L is the product of the norms. One pair in eight,
    since here every pair is a field with a law of its own."""
    points = max(4, points // 8)
    A = draws.square(rng, fields, int(rng.integers(2, 7)))
    W = rng.standard_normal((fields, int(rng.integers(2, 6)), A.shape[-1]))
    first, last = singular_range(A)[1], singular_range(W)[1]
    pairs = draws.pairs(rng, W @ A, points)
    offset = draws.offsets(rng, A, pairs.x[:, :, 0])
    slopes = draws.slopes(rng, fields, -1.0)
    images = [
        affine(W, piecewise(affine(A, exact(side), offset), *slopes)) for side in (pairs.x, pairs.y)
    ]
    return _flatten(images[0], images[1], pairs, first * last * COVER)


def _two_classes(margin_factor: float = 1.0, scale: float = 2.0, claimed: float = 2.0) -> Trial:
    """N = scale I in the plane, from (1/2, -1/2) along (-1, 1) by a quarter of the way."""
    x = np.array([0.5, -0.5])[None, :, None]
    y = np.array([0.25, -0.25])[None, :, None]
    W = scale * np.eye(2)[None]
    low, high = _fall(affine(W, exact(x)), affine(W, exact(y)))
    facts = {
        "margin": margin_factor * low[0],
        "true_margin": high[0],
        "L": claimed,
        "true_L": scale,
    }
    return Trial(facts, distances(x, y))


MARGIN = Strategy(
    sample=_random,
    sharp=_two_classes,
    without={
        "lipschitz": lambda: _two_classes(claimed=1.0),
        "margin": lambda: _two_classes(margin_factor=2.0),
    },
)
