"""Compositions of approximate maps [T2], and monotone maps of the line against x^2."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from theory.approximation import PIECES
from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    advance,
    exact,
    ratios,
    singular_range,
)
from verification.strategies.trial import EulerStep, Facts, Strategy, Structure, Trial, Violation


def distances_apart(first: Tracked, second: Tracked) -> Array:
    """Lower bounds of |first - second|, (fields, points)."""
    unit = np.zeros((1, 1, 1))
    return ratios(first, second, unit + 1, unit)


def _shifted(x: Tracked, by: Array) -> Tracked:
    value = x.value + by
    return Tracked(value, (x.error + UNIT * np.abs(value)) * COVER)


@dataclass(frozen=True, repr=False)
class Pieces(Structure):
    """Psi_i(x) = x + h_i sigma(A_i x + b_i) with h_i = steps[i] / |A_i| and the two slopes of
    sigma; Phi_i is Psi_i and a vector of length errors[i], along the first axis or one drawn for
    each point.

    With `kink`, A = I and b = -kink: where every entry is at most `kink` the slope below it counts
    only, which is what is claimed; trajectories may leave that set. Claimed are shares of the true
    numbers, of all pieces or of one `alone`.
    """

    A: Shape
    slopes: tuple[float, float]
    steps: tuple[float, ...]
    errors: tuple[float, ...]
    aligned: bool
    offset: str
    seed: int
    kink: float | None = None
    claimed_errors: float = 1.0
    claimed_factors: float = 1.0
    alone: int | None = None


def _composed(structure: Pieces, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    ones, (negative, positive) = np.ones(fields), structure.slopes
    size, kink = structure.A.columns, structure.kink
    matrices = [draws.matrices(rng, structure.A, fields) for _ in range(PIECES)]
    x = draws.pairs(rng, matrices[0], points).x
    if kink is not None:
        matrices = [np.broadcast_to(np.eye(size), (fields, size, size))] * PIECES
        x = x * (kink / np.linalg.norm(x, axis=1, keepdims=True))
    true, approximate = exact(x), exact(x)
    facts: dict[str, Array | float] = {}
    reach = np.linalg.norm(x, axis=1).max(axis=1)
    for i, (A, step, error) in enumerate(
        zip(matrices, structure.steps, structure.errors, strict=True), start=1
    ):
        norm = singular_range(A)[1]
        h = draws.single(step / norm)
        if kink is None:
            offset = draws.offsets(rng, structure.offset, A, x[:, :, 0])
        else:
            offset = np.full((fields, size), -kink)
        piece = EulerStep(h, A, offset, negative * ones, positive * ones)
        by = np.zeros_like(x)
        if structure.aligned:
            by[:, 0] = error
        else:
            axis = rng.integers(0, size, (fields, 1, points))
            signs = rng.choice([-error, error], (fields, 1, points))
            np.put_along_axis(by, axis, signs, axis=1)
        true, approximate = _shifted(piece(true), by), piece(approximate)
        reach = np.maximum(reach, np.linalg.norm(true.value, axis=1).max(axis=1))
        steepest = max(abs(negative), abs(positive) if kink is None else 0.0)
        factor = (1 + np.abs(h) * steepest * norm) * COVER
        claims = (structure.claimed_errors, structure.claimed_factors)
        share, factor_share = claims if structure.alone in (None, i) else (1.0, 1.0)
        facts |= {
            f"true_e_{i}": error,
            f"e_{i}": share * error,
            f"true_L_{i}": factor,
            f"L_{i}": factor_share * factor,
        }
    facts |= {"reach": reach, "tube": np.inf if kink is None else kink}
    return Trial(facts, distances_apart(true, approximate))


def _pieces(**changes: st.SearchStrategy) -> st.SearchStrategy[Pieces]:
    parts = {
        "A": draws.squares(6),
        "slopes": st.tuples(draws.fractions(1, -1), draws.fractions(1, -1)),
        "steps": st.tuples(*[draws.multiples(-1, 2)] * PIECES),
        "errors": st.tuples(*[draws.multiples(0, 1)] * PIECES),
        "aligned": st.booleans().map(lambda random: not random),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(Pieces, **{**parts, **changes})


def _scaling(steps: tuple[float, ...], errors: tuple[float, ...], size: int) -> Pieces:
    """x + h x: the identity matrix, slopes 1."""
    return Pieces(Shape(size, size, "identity"), (1.0, 1.0), steps, errors, True, "zero", seed=0)


_some_errors = st.tuples(*[draws.multiples(1 / 16, 1)] * PIECES)
_outward = {
    "slopes": st.just((1.0, 1.0)),
    "steps": st.tuples(*[draws.multiples(0, 2)] * PIECES),
    "errors": _some_errors,
    "aligned": st.just(True),
}

_grown = _scaling((0.5, 1.0, 2.0, 0.25), (0.5, 0.25, 0.125, 1.0), 3)
_each = range(1, PIECES + 1)
_out_of_the_tube = replace(
    _scaling((1.0,) * PIECES, (HAIR / 32,) * PIECES, 1), slopes=(0.0, 1.0), kink=1.0
)

COMPOSITION = Strategy(
    structures=_pieces(),
    draw=_composed,
    sharp=(
        _scaling((0.0,) * PIECES, (0.5, 0.25, 0.0, 1.0), 1),
        _grown,
    ),
    without={
        "errors": Violation(
            _pieces(**_outward, claimed_errors=draws.shares()),
            _composed,
            tuple(replace(_grown, claimed_errors=1 - HAIR, alone=i) for i in _each),
        ),
        "lipschitz": Violation(  # the law has no L_1
            _pieces(**_outward, claimed_factors=draws.shares()),
            _composed,
            tuple(replace(_grown, claimed_factors=1 - HAIR, alone=i) for i in _each[1:]),
        ),
        "tube": Violation(
            _pieces(**{**_outward, "slopes": st.just((0.0, 1.0))}, kink=draws.multiples(1, 2)),
            _composed,
            (_out_of_the_tube,),
        ),
    },
)


@dataclass(frozen=True, repr=False)
class Line(Structure):
    """g(x) = slope y + height, y the last of y <- y + steps[i] sigma(y + offsets[i]); sigma has the
    two slopes, at most 1 in size. Increasing where every step is smaller than 1."""

    steps: tuple[float, ...]
    offsets: tuple[float, ...]
    slopes: tuple[float, float]
    slope: float
    height: float


def _against_the_square(structure: Line, fields: int, points: int) -> Trial:
    """One field, one number: the largest distance at -1, 0, 1."""
    x = np.array([[[-1.0, 0.0, 1.0]]])
    one = np.ones(1)
    negative, positive = (slope * one for slope in structure.slopes)
    y, least = exact(x), abs(structure.slope)
    for step, offset in zip(structure.steps, structure.offsets, strict=True):
        y = EulerStep(step * one, one[:, None, None], offset * one[:, None], negative, positive)(y)
        least *= 1 - abs(step) * max(map(abs, structure.slopes))
    last = advance(exact(np.full_like(x, structure.height)), structure.slope * one, y)
    miss = (np.abs(last.value - x**2) * (1 + UNIT) + last.error) * (1 + 2 * UNIT)
    facts: Facts = {"least_slope": least, "state_dimension": 1.0}
    return Trial(facts, miss.max(axis=2))


@dataclass(frozen=True, repr=False)
class Shear(Structure):
    """x lifted to (x, 0), moved to (x, rate x^2), and read from the second entry."""

    rate: float


def _lifted(structure: Shear, fields: int, points: int) -> Trial:
    x = np.array([-1.0, 0.0, 1.0])
    miss = np.abs(structure.rate * x**2 - x**2).max()
    return Trial({"least_slope": 1.0, "state_dimension": 2.0}, np.array([[miss]]))


def _lines(**changes: st.SearchStrategy) -> st.SearchStrategy[Line]:
    def of_length(count: int) -> st.SearchStrategy[Line]:
        parts = {
            "steps": st.tuples(*[draws.multiples(-15 / 16, 15 / 16)] * count),
            "offsets": st.tuples(*[draws.multiples(-2, 2, 8)] * count),
            "slopes": st.tuples(draws.fractions(1, -1), draws.fractions(1, -1)),
            "slope": draws.multiples(1 / 64, 1, 64) | draws.multiples(-1, -1 / 64, 64),
            "height": st.just(0.5) | draws.multiples(-1, 1),
        }
        return st.builds(Line, **{**parts, **changes})

    return st.integers(0, 4).flatmap(of_length)


def _folds() -> st.SearchStrategy[Line]:
    """One step that may turn the negative half of the line round."""
    return st.builds(
        Line,
        st.tuples(draws.multiples(1, 3, 4)),
        st.just((0.0,)),
        st.tuples(draws.fractions(-1, 1, 8), draws.fractions(0, 1, 8)),
        draws.multiples(1 / 4, 1, 4),
        draws.multiples(0, 1, 4),
    )


OBSTRUCTION = Strategy(
    structures=_lines(),
    draw=_against_the_square,
    sharp=(Line((), (), (1.0, 1.0), 2.0**-21, 0.5),),
    without={
        "injective": Violation(
            _folds(),
            _against_the_square,
            (Line((1 + HAIR,), (0.0,), (-1.0, 0.0), 1.0, (1 - HAIR) / 2),),
        ),
        "no lifting": Violation(
            st.builds(Shear, draws.fractions(1, 9 / 16)), _lifted, (Shear(1.0),)
        ),
    },
)
