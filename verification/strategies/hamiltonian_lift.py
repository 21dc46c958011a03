"""The lifted Euler step [T3] on polynomial fields: does it keep the symplectic form?

In the coordinates (x, q), q the new momentum, the step takes (x, p) with p = q + h Df(x)' q to
(x + h f(x), q). On two tangent vectors the form before is <dx, dp'> - <dx', dp>, the form after
<dx+, dq'> - <dx+', dq>.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.counted import Counted, contract, stored, total
from verification.strategies.draws import HAIR
from verification.strategies.presnov import along, points_of, ridges
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class Lift(Structure):
    """f = sum_j c_j (w_j.x)^k_j, h = step / max |Df|; p is moved by `outer` Df' instead of Df'."""

    variables: int
    degrees: tuple[int, ...]
    step: float
    seed: int
    outer: float = 1.0


def adjoint(c: Counted, w: Counted) -> tuple[Counted, Counted]:
    """(read, move): the transpose of c w' reads its argument by c and moves it along w."""
    return c, w


def _form(dx: Counted, dp: Counted, other_dx: Counted, other_dp: Counted) -> Counted:
    return contract("fnp,fnp->fp", dx, other_dp) - contract("fnp,fnp->fp", other_dx, dp)


def _lifted(structure: Lift, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    n = structure.variables
    x = points_of(rng, fields, n, points)
    f = ridges(rng, fields, n, structure.degrees)
    q, *tangents = (stored(rng.standard_normal((fields, n, points))) for _ in range(5))
    pieces = list(zip(f.c, f.w, f.s(x), f.degrees, strict=True))
    slopes = [
        k
        * np.linalg.norm(c.value, axis=1)
        * np.linalg.norm(w.value, axis=1)
        * (np.abs(s.value) ** (k - 1)).max(axis=1)
        for c, w, s, k in pieces
    ]
    steepest = np.sum(slopes, axis=0)
    h = stored((structure.step / (steepest * (1 + 1e-10)))[:, None])
    kick = h * stored(structure.outer)

    def rates(order: int, j: int) -> Counted:
        """The derivative of that order of s^k_j."""
        *_, s, k = pieces[j]
        factor = float(np.prod([k - i for i in range(order)]))
        return stored(factor) * s.power(k - order) if k >= order else stored(0 * s.value)

    def dot(vector: Counted, points: Counted) -> Counted:
        return contract("fn,fnp->fp", vector, points)

    def moved(dx: Counted) -> Counted:
        """(I + h Df) dx."""
        terms = [along(c, h * rates(1, j) * dot(w, dx)) for j, (c, w, _, _) in enumerate(pieces)]
        return dx + total(terms)

    def before(dx: Counted, dq: Counted) -> Counted:
        """dp = dq + outer h (Df' dq + D(Df' q) dx)."""
        terms = []
        for j, (c, w, _, _) in enumerate(pieces):
            read, move = adjoint(c, w)
            amount = rates(1, j) * dot(read, dq) + rates(2, j) * dot(read, q) * dot(w, dx)
            terms.append(along(move, kick * amount))
        return dq + total(terms)

    dx, dq, other_dx, other_dq = tangents
    after = _form(moved(dx), dq, moved(other_dx), other_dq)
    start = _form(dx, before(dx, dq), other_dx, before(other_dx, other_dq))
    facts = {
        "adjoint_defect": abs(structure.outer - 1),
        "smallest_step": 1 - abs(structure.step),
    }
    return Trial(facts, (after - start).defect())


@dataclass(frozen=True, repr=False)
class Singular(Structure):
    """f(x) = Mx with I + hM = diag(factors), some of them 0, where p+ = 0 is taken for want of a
    solution."""

    factors: tuple[float, ...]
    seed: int


def _singular(structure: Singular, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    B = np.array(structure.factors)[None, :, None]
    inverse = np.divide(1.0, B, out=np.zeros_like(B), where=B != 0)
    size = (fields, len(structure.factors), points)
    dx, dp, other_dx, other_dp = (stored(rng.standard_normal(size)) for _ in range(4))
    # powers of 2: the divisions are exact
    after = _form(
        stored(B) * dx, stored(inverse) * dp, stored(B) * other_dx, stored(inverse) * other_dp
    )
    missed = (after - _form(dx, dp, other_dx, other_dp)).defect()
    smallest = float(np.abs(B).min())
    return Trial({"adjoint_defect": 0.0, "smallest_step": smallest}, missed)


def _lifts(**changes: st.SearchStrategy) -> st.SearchStrategy[Lift]:
    parts = {
        "variables": st.integers(1, 5),
        "degrees": st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
        "step": draws.multiples(-15 / 16, 15 / 16),
        "seed": draws.seeds,
    }
    return st.builds(Lift, **{**parts, **changes})


HAMILTONIAN_LIFT = Strategy(
    structures=_lifts(),
    draw=_lifted,
    without={
        "adjoint": Violation(
            _lifts(step=draws.multiples(1 / 4, 1 / 2), outer=st.sampled_from((0.0, 2.0, -1.0))),
            _lifted,
            (Lift(2, (1,), 0.5, seed=0, outer=1 + HAIR),),
        ),
        "invertible": Violation(
            st.builds(
                Singular,
                st.lists(st.sampled_from((0.0, 1.0, 0.5)), min_size=1, max_size=4).map(tuple),
                draws.seeds,
            ),
            _singular,
            (Singular((0.0,), seed=0),),
        ),
    },
)
