"""The sum of the entries [T14], through Runge-Kutta steps, lifting and projection."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import at_least, minus, over, plus, total
from verification.strategies.draws import HAIR
from verification.strategies.rounding import Array, Tracked, affine, exact
from verification.strategies.stages import METHODS, Field, matrix_field, runge_kutta
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class MassStep(Structure):
    """A step of x' = (A(x) - (1 - kept) A(x)')1 with vec A(x) = sigma(Ux + u)."""

    size: int
    slopes: tuple[float, float]
    method: str
    step: float
    seed: int
    kept: float = 0.0


def _row_sums(size: int, less: float) -> Array:
    """The matrix that takes vec A to (A - less A')1: (size, size^2)."""
    rows: Array = np.kron(np.eye(size), np.ones((1, size))).astype(np.float64)
    columns: Array = np.kron(np.ones((1, size)), np.eye(size)).astype(np.float64)
    return rows - less * columns


def _mass(structure: MassStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    entries = matrix_field(rng, fields, structure.size, structure.slopes)
    sums = _row_sums(structure.size, 1 - structure.kept)[None]

    def field(x: Tracked) -> Tracked:
        return affine(sums, entries(x))

    x = exact(rng.standard_normal((fields, structure.size, points)))
    return Trial({"skew_defect": structure.kept}, _change(field, structure, x))


def _change(field: Field, structure: MassStep, x: Tracked) -> Array:
    step = np.full(len(x.value), structure.step)
    after = runge_kutta(field, structure.method, x, step)
    return at_least(minus(total(after, 1), total(x, 1)))


def _mass_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[MassStep]:
    slope = draws.fractions(1, -1)
    parts = {
        "size": st.integers(1, 6),
        "slopes": st.tuples(slope, slope),
        "method": st.sampled_from(tuple(METHODS)),
        "step": draws.multiples(-1, 1),
        "seed": draws.seeds,
    }
    return st.builds(MassStep, **{**parts, **changes})


MASS = Strategy(
    structures=_mass_steps(),
    draw=_mass,
    without={
        "skew": Violation(
            _mass_steps(kept=st.just(1.0)),
            _mass,
            (MassStep(2, (1.0, 1.0), "Euler", 1.0, seed=0, kept=HAIR),),
        )
    },
)


@dataclass(frozen=True, repr=False)
class MassProjection(Structure):
    """Of `kept + dropped` entries the last ones are dropped, their sum over `divisor` added to each
    of the others; or a lift of `kept` entries by `dropped` zeros before that."""

    kept: int
    dropped: int
    divisor: float
    lifted: bool
    seed: int


def _projected(structure: MassProjection, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    kept = structure.kept
    x = rng.standard_normal((fields, kept + structure.dropped, points))
    if structure.lifted:
        x[:, kept:] = 0
    tail = total(exact(x[:, kept:]), 1, keepdims=True)
    share = over(tail, exact(np.full((1, 1, 1), float(structure.divisor))))
    after = plus(exact(x[:, :kept]), share)
    facts = {"divisor": float(structure.divisor), "kept": float(kept)}
    return Trial(facts, at_least(minus(total(after, 1), total(exact(x), 1))))


def _projections(divisor: str) -> st.SearchStrategy[MassProjection]:
    """Divided by the number kept, or by the number dropped where that is another."""
    sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
    if divisor == "dropped":
        sizes = sizes.filter(lambda both: both[0] != both[1])

    def build(both: tuple[int, int], lifted: bool, seed: int) -> MassProjection:
        by = both[0] if divisor == "kept" else both[1]
        return MassProjection(*both, by, lifted, seed)

    return st.builds(build, sizes, st.booleans(), draws.seeds)


MASS_PROJECTION = Strategy(
    structures=_projections("kept"),
    draw=_projected,
    without={
        "divisor": Violation(
            _projections("dropped"),
            _projected,
            tuple(MassProjection(2, 1, 2 + hair, lifted=False, seed=0) for hair in (-HAIR, HAIR)),
        )
    },
)
