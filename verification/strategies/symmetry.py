"""Equivariance of steps [T16] and the shifts that convolutions commute with."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import at_least, minus, plus, scaled, times
from verification.strategies.draws import HAIR, Shape
from verification.strategies.rounding import Array, Tracked, exact
from verification.strategies.stages import METHODS, Field, layer, runge_kutta
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class ShiftedStep(Structure):
    """A step of -A'sigma(Ax + b) for a convolution A and one offset b, before and after a shift by
    `shift` entries; with `cube` a step of x' = x before and after (1 - cube) x + cube x^3, entry by
    entry. To one entry of A is added `bent`."""

    A: Shape
    slopes: tuple[float, float]
    offset: float
    method: str
    step: float
    shift: int
    seed: int
    cube: float = 0.0
    bent: float = 0.0


def _rolled(x: Tracked, shift: int) -> Tracked:
    return Tracked(np.roll(x.value, shift, axis=1), np.roll(x.error, shift, axis=1))


def _commutator(A: Array, shift: int) -> Array:
    """AP - PA, exact up to the rounding of one difference, (fields, n, n)."""
    return np.roll(A, -shift, axis=2) - np.roll(A, shift, axis=1)


def _shifted(structure: ShiftedStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    A[:, 0, 0] += structure.bent
    size = structure.A.columns
    gradient = layer(A, np.full((fields, size), structure.offset), structure.slopes, -A.mT)
    field: Field = (lambda x: x) if structure.cube else gradient

    def act(x: Tracked) -> Tracked:
        if not structure.cube:
            return _rolled(x, structure.shift)
        return plus(scaled(1 - structure.cube, x), scaled(structure.cube, times(times(x, x), x)))

    def step(x: Tracked) -> Tracked:
        return runge_kutta(field, structure.method, x, np.full(fields, structure.step))

    x = exact(rng.standard_normal((fields, size, points)))
    defect = at_least(minus(step(act(x)), act(step(x)))).max(axis=1)
    missing = 0.0 if structure.cube else np.abs(_commutator(A, structure.shift)).max(axis=(1, 2))
    return Trial({"field_defect": missing, "map_defect": structure.cube}, defect)


def _shapes(spectrum: str, smallest: int = 1) -> st.SearchStrategy[Shape]:
    return st.integers(smallest, 8).map(lambda size: Shape(size, size, spectrum))


def _shifted_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[ShiftedStep]:
    slope = draws.fractions(1, -1)
    parts = {
        "A": _shapes("circulant"),
        "slopes": st.tuples(slope, slope),
        "offset": draws.multiples(-1, 1),
        "method": st.sampled_from(tuple(METHODS)),
        "step": draws.multiples(-1, 1),
        "shift": st.integers(1, 7),
        "seed": draws.seeds,
    }
    return st.builds(ShiftedStep, **{**parts, **changes})


_step = ShiftedStep(Shape(3, 3, "circulant"), (1.0, 1.0), 0.0, "Euler", 1.0, 1, seed=0)

EQUIVARIANCE = Strategy(
    structures=_shifted_steps(),
    draw=_shifted,
    without={
        "equivariant": Violation(
            _shifted_steps(A=_shapes("truncated", 2)), _shifted, (replace(_step, bent=HAIR),)
        ),
        "linear": Violation(
            _shifted_steps(cube=st.just(1.0)), _shifted, (replace(_step, cube=HAIR),)
        ),
    },
)


@dataclass(frozen=True, repr=False)
class Taps(Structure):
    """A 1-D convolution with 2 reach + 1 random taps, times `scale`, on `size` entries."""

    size: int
    reach: int
    circular: bool
    seed: int
    scale: float = 1.0


def _convolution(taps: Array, size: int, *, circular: bool) -> tuple[Array, Array]:
    """The matrices (fields, size, size), and the sum of what is cut off at the border."""
    fields, count = taps.shape
    A, cut = np.zeros((fields, size, size)), np.zeros(fields)
    for k in range(count):
        for row in range(size):
            column = row + k - count // 2
            if circular or 0 <= column < size:
                A[:, row, column % size] += taps[:, k]
            else:
                cut += np.abs(taps[:, k])
    return A, cut


def _commuting(structure: Taps, fields: int, points: int) -> Trial:
    """A point is a power of the shift. Sums of taps that meet in one entry are those of the row
    before, taken in the same order: no rounding tells them apart."""
    rng = np.random.default_rng(structure.seed)
    taps = structure.scale * rng.standard_normal((fields, 2 * structure.reach + 1))
    A, cut = _convolution(taps, structure.size, circular=structure.circular)
    powers = range(1, min(points, structure.size) + 1)
    measured = [np.abs(_commutator(A, power)).max(axis=(1, 2)) for power in powers]
    return Trial({"padding_defect": cut}, np.stack(measured, axis=1) * (1 - 2.0**-50))


def _taps(circular: bool, smallest: int = 1) -> st.SearchStrategy[Taps]:
    return st.builds(
        Taps, st.integers(smallest, 8), st.integers(1, 3), st.just(circular), draws.seeds
    )


SHIFT = Strategy(
    structures=_taps(True),
    draw=_commuting,
    without={
        "circular": Violation(
            _taps(False, 2), _commuting, (Taps(2, 1, circular=False, seed=0, scale=HAIR),)
        )
    },
)
