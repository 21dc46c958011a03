"""Exact flows [T5, T6], by series with a bound on what is left out.

A linear flow is a matrix exponential. The flow of x' = s sigma(x + b), entry by entry, keeps the
sign of u = x + b, and so is u -> e^(s slope t) u with the slope on that side.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator

from theory.flows import PIECES
from verification.strategies import draws
from verification.strategies.arithmetic import exponential, minus, plus, product, scaled, times
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    exact,
    ratios,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation

LONGEST = 1.5  # of time times norm: the series reaches 2 in the Frobenius norm of small matrices


@dataclass(frozen=True)
class Piece:
    """One flow of a batch: its map, its time and an upper bound of its one-sided constant, each
    (fields,)."""

    time: Array
    one_sided: Array
    matrix: Array | None
    slopes: tuple[float, float]
    rate: Array
    offset: Array

    def __call__(self, x: Tracked) -> Tracked:
        if self.matrix is not None:
            return product(exponential(exact(self.time[:, None, None] * self.matrix)), x)
        u = plus(x, exact(self.offset[..., None]))
        below, above = (self._factor(slope) for slope in self.slopes)
        side = u.value > 0
        factor = Tracked(
            np.where(side, above.value, below.value), np.where(side, above.error, below.error)
        )
        # the map is evaluated at the double u, and has the larger factor for Lipschitz constant
        image = times(factor, exact(u.value))
        steepest = np.maximum(above.value + above.error, below.value + below.error)
        image = Tracked(image.value, image.error + steepest * u.error * COVER)
        return minus(image, exact(self.offset[..., None]))

    def _factor(self, slope: float) -> Tracked:
        """e^(rate slope time), (fields, 1, 1)."""
        return exponential(times(scaled(slope, _column(self.rate)), _column(self.time)))


def _column(values: Array) -> Tracked:
    return exact(values[:, None, None])


def largest_eigenvalue(matrix: Array) -> Array:
    """An upper bound of sup <x, Mx> / |x|^2, (fields,): with (M + M')/2 = VDV' + R and
    |V'x|^2 = |x|^2 (1 +- e) it is below max D + e |D| + |R|, in the Frobenius norm."""
    symmetric = (matrix + matrix.mT) / 2
    values, V = np.linalg.eigh(symmetric)
    units = (matrix.shape[-1] + 8) * UNIT

    def norm(defect: Array, moduli: Array) -> Array:
        return np.linalg.norm(np.abs(defect) + units * moduli, axis=(-2, -1)) * COVER

    rebuilt, size = (V * values[:, None]) @ V.mT, np.abs(values).max(axis=1)
    moduli = (np.abs(V) * np.abs(values[:, None])) @ np.abs(V).mT
    rest = norm(symmetric - rebuilt, moduli + np.abs(symmetric))
    departure = norm(V.mT @ V - np.eye(V.shape[-1]), np.abs(V).mT @ np.abs(V))
    return values[:, -1] + (departure * size + rest + 4 * UNIT * size) * COVER


@dataclass(frozen=True, repr=False)
class Flow(Structure):
    """x' = sign M x, or x' = sign |M| sigma(x + b) entry by entry where `slopes` are given, for a
    time `time` / |M| in the Frobenius norm."""

    M: Shape
    sign: float
    time: float
    slopes: tuple[float, float] | None = None


@dataclass(frozen=True, repr=False)
class Flows(Structure):
    """Flows one after the other. What is claimed of each one-sided constant, or of that of one
    piece `alone`, is less by `understated` times the norm."""

    pieces: tuple[Flow, ...]
    offset: str
    seed: int
    understated: float = 0.0
    alone: int | None = None


def _piece(rng: Generator, flow: Flow, offset: str, fields: int) -> Piece:
    M = flow.sign * draws.matrices(rng, flow.M, fields)
    norm = np.linalg.norm(M, axis=(-2, -1))
    time = draws.single(flow.time / norm)
    zero = np.zeros((fields, flow.M.columns))
    if flow.slopes is None:
        # the exponential is taken of the doubles time * M: the field is that over time
        bound = largest_eigenvalue(M) + 4 * UNIT * norm
        return Piece(time, bound, M, (0.0, 0.0), norm, zero)
    rate = flow.sign * norm
    highest = np.maximum(*(rate * slope for slope in flow.slopes))
    bound = highest + 4 * UNIT * np.abs(highest)
    shift = draws.offsets(rng, offset, np.broadcast_to(np.eye(flow.M.columns), M.shape), zero)
    return Piece(time, bound, None, flow.slopes, rate, shift)


def _flows(structure: Flows, fields: int, points: int) -> tuple[list[Piece], Array]:
    """The pieces, and lower bounds of the ratios after all of them."""
    rng = np.random.default_rng(structure.seed)
    first = structure.pieces[0]
    pairs = draws.pairs(rng, draws.matrices(rng, first.M, fields), points)
    pieces = [_piece(rng, flow, structure.offset, fields) for flow in structure.pieces]
    images = []
    for side in (pairs.x, pairs.y):
        image = exact(side)
        for piece in pieces:
            image = piece(image)
        images.append(image)
    return pieces, ratios(images[0], images[1], pairs.x, pairs.y)


def _claimed(structure: Flows, piece: Piece, index: int = 0) -> Array:
    less = structure.understated if structure.alone in (None, index) else 0.0
    return piece.one_sided - less * np.abs(piece.rate)


def _one(structure: Flows, fields: int, points: int) -> Trial:
    (piece,), measured = _flows(structure, fields, points)
    facts = {
        "nu": _claimed(structure, piece),
        "one_sided": piece.one_sided,
        "time": piece.time,
    }
    return Trial(facts, measured)


def _several(structure: Flows, fields: int, points: int) -> Trial:
    pieces, measured = _flows(structure, fields, points)
    facts: dict[str, Array | float] = {}
    for i, piece in enumerate(pieces):
        facts |= {
            f"nu_{i}": _claimed(structure, piece, i),
            f"one_sided_{i}": piece.one_sided,
            f"time_{i}": piece.time,
        }
    return Trial(facts, measured)


def _chains(
    count: int, low: float = 0, high: float = LONGEST, **changes: st.SearchStrategy
) -> st.SearchStrategy[Flows]:
    @cache  # or Hypothesis would look through a new strategy for each draw
    def with_size(size: int) -> st.SearchStrategy[Flows]:
        slope = draws.fractions(1, -1)
        flow = st.builds(
            Flow,
            st.builds(lambda spectrum: Shape(size, size, spectrum), st.sampled_from(draws.SPECTRA)),
            st.sampled_from((1.0, -1.0)),
            draws.multiples(low, high),
            st.none() | st.tuples(slope, slope),
        )
        parts = {
            "pieces": st.tuples(*[flow] * count),
            "offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
        }
        return st.builds(Flows, **{**parts, **changes})

    return st.integers(1, 6).flatmap(with_size)


_line = Shape(2, 2, "identity")
_grows, _rests = Flow(_line, 1.0, 1.0), Flow(_line, 1.0, 0.0)
_back = Flow(Shape(2, 2, "gaussian"), 1.0, -HAIR)
_less = draws.fractions(1, 1 / 16)

FLOW = Strategy(
    structures=_chains(1),
    draw=_one,
    sharp=tuple(
        Flows((Flow(_line, sign, time, slopes),), "all above", seed=0)
        for sign, time, slopes in (
            (1.0, 1.0, None),
            (-1.0, 1.0, None),
            (1.0, 0.0, None),
            (-1.0, 1.0, (1.0, 0.5)),
        )
    ),
    without={
        "one-sided": Violation(
            _chains(1, low=1 / 16, understated=_less),
            _one,
            (Flows((_grows,), "zero", seed=0, understated=HAIR),),
        ),
        "time": Violation(
            _chains(1, low=-LONGEST, high=-1 / 16), _one, (Flows((_back,), "zero", seed=0),)
        ),
    },
)

SWITCHING_FLOW = Strategy(
    structures=_chains(PIECES),
    draw=_several,
    sharp=(
        Flows(
            (Flow(_line, -1.0, 1.0), Flow(_line, 1.0, 0.5, (0.5, 1.0)), Flow(_line, -1.0, 0.25)),
            "all above",
            seed=0,
        ),
    ),
    without={
        "one-sided": Violation(
            _chains(PIECES, low=1 / 16, understated=_less),
            _several,
            tuple(
                Flows((_grows,) * PIECES, "zero", seed=0, understated=HAIR, alone=i)
                for i in range(PIECES)
            ),
        ),
        "time": Violation(
            _chains(PIECES, low=-LONGEST, high=-1 / 16),
            _several,
            tuple(
                Flows((*(_rests,) * i, _back, *(_rests,) * (PIECES - 1 - i)), "zero", seed=0)
                for i in range(PIECES)
            ),
        ),
    },
)
