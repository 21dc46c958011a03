"""The naively constrained layer [D8]."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.euler import ABOVE_ONE, trial
from verification.strategies.rounding import singular_range
from verification.strategies.trial import EulerStep, Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class NaiveLayer(Structure):
    """(x + B sigma(Ax + b)) / 2; the norms claimed are shares of the true ones."""

    A: Shape
    B: Shape
    slopes: tuple[float, float]
    offset: str
    seed: int
    claimed_inner: float = 1.0
    claimed_outer: float = 1.0


def _naive(structure: NaiveLayer, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A, B = (draws.matrices(rng, shape, fields) for shape in (structure.A, structure.B))
    inner, outer = singular_range(A)[1], singular_range(B)[1]
    pairs = draws.pairs(rng, A, points)
    offset = draws.offsets(rng, structure.offset, A, pairs.x[:, :, 0])
    ones = np.ones(fields)
    below, above = structure.slopes
    facts = {
        "s_max": structure.claimed_inner * inner,
        "sigma_max": inner,
        "w_max": structure.claimed_outer * outer,
        "omega_max": outer,
        "push_low": min(structure.slopes),
        "push_high": max(structure.slopes),
    }
    whole = trial(EulerStep(ones, A, offset, below * ones, above * ones, B), facts, pairs)
    return Trial(facts, whole.measured / 2)


def _layers(**changes: st.SearchStrategy) -> st.SearchStrategy[NaiveLayer]:
    identity_or_any = st.just("identity") | st.sampled_from(draws.SPECTRA)

    def with_size(size: int) -> st.SearchStrategy[NaiveLayer]:
        slope = draws.fractions(1, -1)
        square = st.builds(lambda spectrum: Shape(size, size, spectrum), identity_or_any)
        parts = {
            "A": square,
            "B": square,
            "slopes": st.tuples(slope, slope),
            "offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
        }
        return st.builds(NaiveLayer, **{**parts, **changes})

    return st.integers(1, 6).flatmap(with_size)


_plane = Shape(2, 2, "identity")

_attained = NaiveLayer(_plane, _plane, (0.0, 1.0), "all above", seed=0)
_negative = Shape(1, 1, "permutation")  # -1 times a scale, with the seed below

NAIVE = Strategy(
    structures=_layers(),
    draw=_naive,
    sharp=(_attained,),
    without={
        "push-slopes": Violation(
            _layers(slopes=st.tuples(ABOVE_ONE, ABOVE_ONE)),
            _naive,
            (
                replace(_attained, slopes=(0.0, 1 + HAIR)),
                NaiveLayer(
                    Shape(1, 1, "identity"), _negative, (-1 - HAIR, -1 - HAIR), "zero", seed=2
                ),
            ),
        ),
        "largest": Violation(
            _layers(claimed_inner=draws.shares()),
            _naive,
            (replace(_attained, claimed_inner=1 - HAIR),),
        ),
        "push-norm": Violation(
            _layers(claimed_outer=draws.shares()),
            _naive,
            (replace(_attained, claimed_outer=1 - HAIR),),
        ),
    },
)
