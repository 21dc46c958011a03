"""Flexible switching with tied weights [T10]: exactly orthogonal matrices, one offset."""

import numpy as np
from numpy.random import Generator

from verification.strategies import draws
from verification.strategies.draws import BEYOND
from verification.strategies.euler import gradient_step, unit_pairs
from verification.strategies.rounding import Array
from verification.strategies.switching import composed
from verification.strategies.trial import Facts, Strategy, Trial


def _tied(
    A: Array,
    offset: Array,
    a: float,
    h_1: Array,
    h_2: Array,
    pairs: draws.Pairs,
    push_offset: Array | None = None,
    **facts: float,
) -> Trial:
    """Two half steps with max(u, au), then x + h_2 A'ReLU(Ax + offset)."""
    ones = np.ones(len(A))
    substep = gradient_step(A, h_1 / 2, offset, a * ones, ones)
    last = offset if push_offset is None else push_offset
    steps = [substep, substep, gradient_step(A, h_2, last, 0 * ones, ones, sign=1)]
    described: Facts = {
        "a": a,
        "h_1": h_1,
        "h_2": h_2,
        "slope_negative": a,
        "slope_positive": 1.0,
        "orthogonality_defect": 0.0,
        "tie_defect": float(np.abs(last - offset).max()),
        **facts,
    }
    return composed(steps, described, pairs)


def _random(rng: Generator, fields: int, points: int) -> Trial:
    A = draws.signed_permutations(rng, fields, int(rng.integers(1, 9)))
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, A, pairs.x[:, :, 0])
    ones = np.ones(fields)
    a = float(rng.choice([0.0, 0.1, 0.5, 0.9, 1.0]))
    h_1 = draws.steps(rng, ones, low=-0.5, high=2.0)
    h_2 = draws.steps(rng, ones, low=-2.5, high=1.0)
    return _tied(A, offset, a, h_1, h_2, pairs)


def _scalar(
    h_1: list[float], h_2: list[float], side: list[float], a: float = 0.5, **changes
) -> Trial:
    fields = len(h_1)
    offset = np.array(side)[:, None] * BEYOND
    A = np.ones((fields, 1, 1))
    return _tied(A, offset, a, np.array(h_1), np.array(h_2), unit_pairs(fields, 1), **changes)


def _slopes_exchanged() -> Trial:
    """Slope 1 below 0 and a above: contracted by 1 - a h_1/2 and then expanded."""
    A, offset, ones = np.ones((1, 1, 1)), np.full((1, 1), BEYOND), np.ones(1)
    substep = gradient_step(A, ones / 2, offset, ones, ones / 2)
    steps = [substep, substep, gradient_step(A, ones / 2, offset, 0 * ones, ones, sign=1)]
    facts: Facts = {
        "a": 0.5,
        "h_1": 1.0,
        "h_2": 0.5,
        "slope_negative": 1.0,
        "slope_positive": 0.5,
        "orthogonality_defect": 0.0,
        "tie_defect": 0.0,
    }
    return composed(steps, facts, unit_pairs(1, 1))


def _rounded_reflection() -> Trial:
    """A reflection rounded to float32, on the tied boundary at h_1 = 0.11.

    With u = Ax and AA' = I + E, a substep moves u_0 < 0 by -h_1/2 E_01 u_1 besides scaling it. So
    with u_1 large and opposite in sign to E_01, u_0 can stay negative through both substeps with
    slope a and be just positive before the last step, which expands it.
    """
    h_1, a = 0.11, 0.5
    v = np.array([1.0, 2.0, 3.0])
    A = draws.single(np.eye(3) - np.outer(v, v) / 7)
    defect = A @ A.T - np.eye(3)
    drift = h_1 / 2 * abs(defect[0, 1])
    u_1 = -np.sign(defect[0, 1])
    rate = a if u_1 < 0 else 1.0
    contracted = 1 - a * h_1 / 2
    # After substeps 1 and 2: contracted u_0 + rate drift, then contracted^2 u_0 + gained.
    second = rate * drift * (1 - rate * h_1 / 2)
    gained = contracted * rate * drift + second
    start = -(gained - second / 2) / contracted**2
    near, far = (
        np.linalg.solve(A, np.array([first, u_1, 0.0])).astype(np.float64)
        for first in (start, start + second / 8)
    )
    pairs = draws.Pairs(near[None, :, None], far[None, :, None])
    h_2 = np.array([(1 - h_1 / 2) ** -2 - 1])
    offset = np.zeros((1, 3))
    size = float(np.linalg.norm(defect))
    return _tied(A[None], offset, a, np.array([h_1]), h_2, pairs, orthogonality_defect=size)


def _untied() -> Trial:
    return _scalar([0.5], [0.5], [-1.0], push_offset=np.full((1, 1), 64 * BEYOND))


TIED = Strategy(
    sample=_random,
    sharp=lambda: _scalar(
        [0.11, 0.11, 1.0, 1.0, 0.11, -0.5],
        [0.05, 0.15, 0.5, -1.0, 0.0, 0.5],
        [-1, 1, -1, -1, -1, 1],
    ),
    without={
        "activation": _slopes_exchanged,
        "orthogonal": _rounded_reflection,
        "tied": _untied,
        "step": lambda: _scalar([3.0], [-1.0], [1.0]),
    },
)
