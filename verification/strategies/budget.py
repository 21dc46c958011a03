"""The budget of T6 for Euler steps: blocks of contractive and expansive steps in any order."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.euler import ABOVE_ONE, OTHER_OUTER, gradient_step
from verification.strategies.rounding import COVER, Array, singular_range
from verification.strategies.switching import composed
from verification.strategies.trial import EulerStep, Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Steps(Structure):
    """`pattern`, repeated: "c" is x - h B sigma(Ax + b) with B = outer A' and h = `contract` times
    its limit 2 / (|A|^2 + a inf^2), "e" is x + h sigma(Wx + v) with h = `expand` / |W|; every
    step draws an operator of its own. Claimed are shares of the true decay and growth.
    """

    A: Shape
    W: Shape
    a: float
    slopes: tuple[float, float]
    push_slopes: tuple[float, float]
    pattern: str
    contract: float
    expand: float
    offset: str
    push_offset: str
    seed: int
    repeat: int = 1
    outer: float = 1.0
    claimed_decay: float = 1.0
    claimed_growth: float = 1.0


def _block(structure: Steps, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    ones, point = np.ones(fields), np.zeros((fields, structure.A.columns))
    steps, decay, growth = [], np.zeros(fields), np.zeros(fields)
    taken, used = [np.zeros(fields)], [np.zeros(fields)]
    matrices: list[Array] = []
    for kind in structure.pattern * structure.repeat:
        if kind == "c":
            A = draws.matrices(rng, structure.A, fields)
            low, high = singular_range(A)
            square = high**2 + structure.a * low**2
            h = draws.single((1 - 2.0**-20) * 2 * structure.contract / square)
            offset = draws.offsets(rng, structure.offset, A, point)
            below, above = structure.slopes
            step = gradient_step(A, h, offset, below * ones, above * ones)
            steps.append(replace(step, outer=structure.outer * A.mT))
            decay = decay + h * structure.a * low**2 / COVER
            taken.append(h)
            used.append(h * square * COVER)
        else:
            A = draws.matrices(rng, structure.W, fields)
            norm = singular_range(A)[1]
            h = draws.single(structure.expand / norm)
            offset = draws.offsets(rng, structure.push_offset, A, point)
            below, above = structure.push_slopes
            steps.append(EulerStep(h, A, offset, below * ones, above * ones))
            growth = growth + np.abs(h) * norm * COVER
        matrices.append(A)
    facts = {
        "a": structure.a,
        "adjoint_defect": abs(structure.outer - 1),
        "slope_low": min(structure.slopes),
        "slope_high": max(structure.slopes),
        "push_low": min(structure.push_slopes),
        "push_high": max(structure.push_slopes),
        "decay": structure.claimed_decay * decay,
        "true_decay": decay,
        "growth": structure.claimed_growth * growth,
        "true_growth": growth,
        "shortest": np.min(taken, axis=0),
        "longest": np.max(used, axis=0),
    }
    return composed(steps, facts, draws.pairs(rng, matrices[0], points))


def _steps(
    *, claims: tuple[float, ...] = (0.5, 0.0, 0.1, 0.9), **changes: st.SearchStrategy
) -> st.SearchStrategy[Steps]:
    """Within the hypotheses, but for what `changes` says."""
    identity_or_any = st.just("identity") | st.sampled_from(draws.SPECTRA)

    def with_size(size: int, a: float) -> st.SearchStrategy[Steps]:
        slope, push_slope = draws.fractions(a, 1), draws.fractions(1, -1)
        parts = {
            "A": draws.with_columns(size),
            "W": st.builds(lambda spectrum: Shape(size, size, spectrum), identity_or_any),
            "a": st.just(a),
            "slopes": st.tuples(slope, slope),
            "push_slopes": st.tuples(push_slope, push_slope),
            "pattern": st.text("ce", min_size=1, max_size=5),
            "contract": draws.fractions(0, 1),
            "expand": draws.multiples(-0.5, 1.5),
            "offset": st.sampled_from(draws.OFFSETS),
            "push_offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
        }
        return st.builds(Steps, **{**parts, **changes})

    sizes = st.tuples(st.integers(1, 6), st.sampled_from(claims))
    return sizes.flatmap(lambda both: with_size(*both))


_plane = Shape(2, 2, "identity")

_line = Shape(1, 2, "gaussian")  # with a kernel: no decay, whatever the slopes
_contracts = Steps(  # linear, and so short that the law is attained but for the square of the step
    _plane, _plane, 0.5, (0.5, 0.5), (1.0, 1.0), "c", 2.0**-17, 2.0**-17, "zero", "zero", seed=0
)
_expands = replace(_contracts, pattern="e")
_longest = replace(_contracts, a=0.0, slopes=(1.0, 1.0), contract=1.0)

BUDGET = Strategy(
    structures=_steps(),
    draw=_block,
    sharp=(
        Steps(
            _plane,
            _plane,
            0.5,
            (0.5, 1.0),
            (0.0, 1.0),
            "ce",
            2.0**-13,
            2.0**-13,
            "all below",
            "all above",
            seed=0,
            repeat=64,
        ),
    ),
    without={
        "gradient": Violation(
            _steps(outer=OTHER_OUTER), _block, (replace(_contracts, outer=1 - HAIR),)
        ),
        "slopes": Violation(
            _steps(slopes=st.tuples(ABOVE_ONE, ABOVE_ONE)),
            _block,
            (
                replace(_contracts, A=_line, a=-HAIR, slopes=(-HAIR, -HAIR)),
                replace(_contracts, slopes=(0.5 * (1 - HAIR),) * 2),
                replace(_longest, slopes=(1 + HAIR, 1 + HAIR)),
            ),
        ),
        "push-slopes": Violation(
            _steps(push_slopes=st.tuples(ABOVE_ONE, ABOVE_ONE)),
            _block,
            (
                replace(_expands, push_slopes=(1 + HAIR, 1 + HAIR)),
                replace(_expands, push_slopes=(-1 - HAIR, -1 - HAIR), expand=-(2.0**-17)),
            ),
        ),
        "decay": Violation(
            _steps(claims=(0.5, 0.9), claimed_decay=draws.fractions(2, 17 / 16)),
            _block,
            (replace(_contracts, claimed_decay=1 + HAIR),),
        ),
        "growth": Violation(
            _steps(claimed_growth=draws.shares()),
            _block,
            (replace(_expands, claimed_growth=1 - HAIR),),
        ),
        "steps": Violation(
            _steps(contract=draws.multiples(17 / 16, 4) | draws.multiples(-1, -1 / 16)),
            _block,
            (
                replace(_longest, contract=1 + HAIR),
                replace(_contracts, A=_line, slopes=(1.0, 1.0), contract=-(2.0**-17)),
            ),
        ),
    },
)
