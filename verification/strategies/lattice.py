"""Maxima of affine functions by one gradient step [B1], on dyadic numbers (exact products)."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from theory.compile import compiled
from theory.lattice import MAXIMUM_STEP
from verification.strategies import draws
from verification.strategies.counted import Counted, contract, stored
from verification.strategies.draws import HAIR
from verification.strategies.euler import gradient_step
from verification.strategies.rounding import Array, exact, ratios
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Maximum(Structure):
    """max(<a, x> + alpha, <b, x> + beta) in this many variables, all coefficients multiples of 1/8.

    b is the longer of the two vectors drawn, or with `exchanged` the shorter; or they are `equal`;
    or opposite and a is `longer` by this share. The activation has the two slopes.
    """

    variables: int
    seed: int
    exchanged: bool = False
    equal: bool = False
    slopes: tuple[float, float] = (0.0, 1.0)
    longer: float = 0.0


def _vectors(rng: np.random.Generator, structure: Maximum, fields: int) -> tuple[Array, Array]:
    drawn = rng.integers(-8, 9, (2, fields, structure.variables)) / 8
    drawn[0, :, 0] += (drawn[0] == drawn[1]).all(axis=1)  # different in every field
    squares = (drawn**2).sum(axis=2)
    longer = (squares[1] > squares[0]) != structure.exchanged
    a, b = np.where(longer[:, None], drawn, drawn[::-1])
    if structure.longer:
        a = -(1 + structure.longer) * b
    return (b if structure.equal else a), b


def _maximum(structure: Maximum, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    a, b = _vectors(rng, structure, fields)
    alpha, beta = rng.integers(-8, 9, (2, fields, 1)) / 8
    products = {"inner": (a * b).sum(axis=1), "square": (b * b).sum(axis=1)}
    parallel = products["inner"] == products["square"]  # no such step: take 1
    products["square"] = products["square"] + parallel
    h = compiled(MAXIMUM_STEP)(**products)
    A = (a - b)[:, None, :]
    x, y = np.round(2.0**16 * rng.standard_normal((2, fields, structure.variables, points))) / 2**16
    y[:, :, ::2] = x[:, :, ::2] + A.mT + structure.equal
    negative, positive = structure.slopes
    inside = (A @ x)[:, 0] + (alpha - beta)  # exact
    active = stored(np.where(inside > 0, positive, negative)) * stored(inside)
    step = Counted(h, np.abs(h), 1)
    scale = contract("f,fp->fp", step, active)
    moved = stored(x) - contract("fn,fp->fnp", stored(a - b), scale)
    read = contract("fn,fnp->fp", stored(b), moved) + stored(beta)
    values = [np.einsum("fn,fnp->fp", v, x) + c for v, c in ((a, alpha), (b, beta))]  # exact
    wrong = (read - stored(np.maximum(*values))).defect()
    ones = np.ones(fields)
    euler = gradient_step(A, h, alpha - beta, negative * ones, positive * ones)
    images = [euler(exact(side)) for side in (x, y)]
    apart = ratios(images[0], images[1], x, y)
    facts = {
        "first_norm": np.sqrt((a**2).sum(axis=1)),
        "second_norm": np.sqrt((b**2).sum(axis=1)),
        "apart": np.abs(a - b).max(axis=1),
        "push_low": min(structure.slopes),
        "push_high": max(structure.slopes),
    }
    return Trial(facts, np.maximum(wrong, apart - 1))


def _maxima(**changes: st.SearchStrategy) -> st.SearchStrategy[Maximum]:
    return st.builds(Maximum, st.integers(1, 6), draws.seeds, **changes)


_slopes = st.sampled_from(((0.5, 1.0), (0.0, 0.5), (0.0, 2.0), (-1.0, 1.0)))

MAXIMUM = Strategy(
    structures=_maxima(),
    draw=_maximum,
    without={
        "order": Violation(
            _maxima(exchanged=st.just(True)), _maximum, (Maximum(1, seed=0, longer=HAIR),)
        ),
        "distinct": Violation(
            _maxima(equal=st.just(True)), _maximum, (Maximum(1, seed=0, equal=True),)
        ),
        "relu": Violation(
            _maxima(slopes=_slopes),
            _maximum,
            tuple(
                Maximum(1, seed=0, slopes=slopes)
                for slopes in ((-HAIR, 1.0), (HAIR, 1.0), (0.0, 1 - HAIR), (0.0, 1 + HAIR))
            ),
        ),
    },
)
