"""Symplectic steps [T13]: D'JD - J at random points, and norms of Jacobians of chains."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator

from verification.strategies import draws
from verification.strategies.arithmetic import (
    largest_entry,
    minus,
    plus,
    product,
    scaled,
    solve,
    transposed,
)
from verification.strategies.draws import HAIR, Shape
from verification.strategies.jacobians import assembled, corner, identity, nothing, pattern
from verification.strategies.rounding import COVER, Array, Tracked, exact, singular_range
from verification.strategies.trial import Strategy, Structure, Trial, Violation

SCHEMES = {  # which half moves, and by which share of the step
    "Euler": (("q", 1.0), ("p", 1.0)),
    "Verlet": (("p", 0.5), ("q", 1.0), ("p", 0.5)),
    "q p q": (("q", 1.0), ("p", 1.0), ("q", 1.0)),
}


@dataclass(frozen=True, repr=False)
class SymplecticLayers(Structure):
    """`layers` times a scheme of shears q + h B'sigma(Bp + b), p - h C'sigma(Cq + c), with
    h = step / |B|^2 for the matrix of each shear.

    The first row of the outer matrix B' is `stretched` by this share of it; with `stale` all shears
    of a layer read the state before it; `damping` shrinks the state after every layer.
    """

    A: Shape
    slopes: tuple[float, float]
    step: float
    scheme: str
    offset: str
    layers: int
    seed: int
    stretched: float = 0.0
    stale: bool = False
    damping: float = 0.0


def _outer(A: Array, stretched: float) -> Array:
    outer = A.mT.copy()
    outer[:, 0] *= 1 + stretched
    return outer


@dataclass(frozen=True)
class _Shear:
    """The Jacobian of a shear less the identity, and what it adds to the state."""

    jacobian: Tracked
    moved: Array


def _shear(
    rng: Generator, structure: SymplecticLayers, state: Array, half: str, share: float
) -> _Shear:
    fields, size = len(state), structure.A.columns
    A = draws.matrices(rng, structure.A, fields)
    h = share * draws.single(structure.step / singular_range(A)[1] ** 2)
    h = h if half == "q" else -h
    read = state[:, size:] if half == "q" else state[:, :size]
    pre = A @ read + draws.offsets(rng, structure.offset, A, read[..., 0])[..., None]
    slopes, outer = pattern(pre, structure.slopes), _outer(A, structure.stretched)
    block = corner(A, outer, slopes, h)
    zero = nothing(block, size, size)
    rows = [[zero, block], [zero, zero]] if half == "q" else [[zero, zero], [block, zero]]
    push = h[:, None, None] * (outer @ (slopes * pre))
    still = np.zeros_like(push)
    moved = np.concatenate([push, still] if half == "q" else [still, push], axis=1)
    return _Shear(assembled(rows), moved)


def _chain(structure: SymplecticLayers, fields: int, points: int) -> Tracked:
    """The Jacobian of all layers, (fields, points, 2n, 2n)."""
    rng = np.random.default_rng(structure.seed)
    size = 2 * structure.A.columns
    state = rng.standard_normal((fields, size, points))
    whole: Tracked | None = None
    for _ in range(structure.layers):
        before = state
        layer: Tracked | None = None
        for half, share in SCHEMES[structure.scheme]:
            shear = _shear(rng, structure, before if structure.stale else state, half, share)
            state = state + shear.moved
            one = identity(shear.jacobian, size)
            if layer is None:
                layer = plus(one, shear.jacobian)
            elif structure.stale:
                layer = plus(layer, shear.jacobian)
            else:
                layer = product(plus(one, shear.jacobian), layer)
        assert layer is not None  # no scheme is empty
        layer, state = scaled(1 - structure.damping, layer), (1 - structure.damping) * state
        whole = layer if whole is None else product(layer, whole)
    assert whole is not None  # one layer at least
    return whole


def form(size: int) -> Tracked:
    """J = [[0, I], [-I, 0]]."""
    zero, one = np.zeros((size, size)), np.eye(size)
    return exact(np.block([[zero, one], [-one, zero]]))


def _defect(D: Tracked) -> Tracked:
    J = form(D.value.shape[-1] // 2)
    return minus(product(product(transposed(D), J), D), J)


def _symplectic(structure: SymplecticLayers, fields: int, points: int) -> Trial:
    facts = {"adjoint_defect": structure.stretched, "stale": float(structure.stale)}
    return Trial(facts, largest_entry(_defect(_chain(structure, fields, points))))


def _norms(structure: SymplecticLayers, fields: int, points: int) -> Trial:
    """Upper bounds of the norms, at one point in eight."""
    D = _chain(structure, fields, max(8, points // 8))
    size = D.value.shape[-1]
    largest = singular_range(D.value.reshape(-1, size, size))[1].reshape(D.value.shape[:2])
    above = (largest + np.linalg.norm(D.error, axis=(-2, -1)) * COVER) * COVER
    return Trial({"layer_defect": abs(1 - (1 - structure.damping) ** 2)}, above)


def _symplectic_layers(**changes: st.SearchStrategy) -> st.SearchStrategy[SymplecticLayers]:
    slope = draws.fractions(1, -1)
    parts = {
        "A": draws.squares(3),
        "slopes": st.tuples(slope, slope),
        "step": draws.multiples(-0.5, 2.5),
        "scheme": st.sampled_from(tuple(SCHEMES)),
        "offset": st.sampled_from(draws.OFFSETS),
        "layers": st.integers(1, 2),
        "seed": draws.seeds,
    }
    return st.builds(SymplecticLayers, **{**parts, **changes})


def _gaussian(*sizes: int) -> st.SearchStrategy[Shape]:
    """Matrices with a Hessian that is far from diagonal."""
    return st.sampled_from([Shape(size, size, "gaussian") for size in sizes])


_layer = SymplecticLayers(Shape(2, 2, "gaussian"), (1.0, 1.0), 1.0, "Euler", "zero", 1, seed=0)

SYMPLECTIC = Strategy(
    structures=_symplectic_layers(),
    draw=_symplectic,
    without={
        "gradient": Violation(
            _symplectic_layers(A=_gaussian(2, 3), stretched=st.just(1.0)),
            _symplectic,
            (replace(_layer, stretched=HAIR),),
        ),
        "order": Violation(
            _symplectic_layers(stale=st.just(True)), _symplectic, (replace(_layer, stale=True),)
        ),
    },
)

_quarter_turn = SymplecticLayers(
    Shape(1, 1, "identity"), (-1.0, -1.0), 1.0, "q p q", "zero", layers=1, seed=0
)

NO_VANISHING = Strategy(
    structures=_symplectic_layers(layers=st.integers(1, 4)),
    draw=_norms,
    sharp=(
        _quarter_turn,
        SymplecticLayers(Shape(2, 2, "gaussian"), (1.0, 1.0), 0.0, "Verlet", "zero", 3, seed=0),
    ),
    without={
        "symplectic": Violation(
            _symplectic_layers(damping=draws.fractions(1 / 16, 1 / 2)),
            _norms,
            (replace(_quarter_turn, damping=HAIR),),
        )
    },
)

# Implicit midpoint. -------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class MidpointStep(Structure):
    """D = (I - K)^-1 (I + K), K = (h/2) J S with S = A'DA at every point, h = step / |A|^2. The
    first row of S is `stretched` by this share of it: J S is no longer Hamiltonian."""

    A: Shape
    slopes: tuple[float, float]
    step: float
    offset: str
    seed: int
    stretched: float = 0.0


def _midpoint(structure: MidpointStep, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    A = draws.matrices(rng, structure.A, fields)
    size = structure.A.columns
    half = draws.single(structure.step / singular_range(A)[1] ** 2) / 2
    middle = rng.standard_normal((fields, size, points))
    pre = A @ middle + draws.offsets(rng, structure.offset, A, middle[..., 0])[..., None]
    outer = _outer(A, structure.stretched)
    K = product(form(size // 2), corner(A, outer, pattern(pre, structure.slopes), half))
    one = identity(K, size)
    D = solve(minus(one, K), plus(one, K))
    return Trial({"hessian_defect": structure.stretched}, largest_entry(_defect(D)))


def _midpoint_steps(**changes: st.SearchStrategy) -> st.SearchStrategy[MidpointStep]:
    slope = draws.fractions(1, -1)
    parts = {
        "A": st.integers(1, 3).flatmap(lambda n: draws.with_columns(2 * n)),
        "slopes": st.tuples(slope, slope),
        "step": draws.multiples(-1.5, 1.5),
        "offset": st.sampled_from(draws.OFFSETS),
        "seed": draws.seeds,
    }
    return st.builds(MidpointStep, **{**parts, **changes})


MIDPOINT = Strategy(
    structures=_midpoint_steps(),
    draw=_midpoint,
    without={
        "hamiltonian": Violation(
            _midpoint_steps(A=_gaussian(2, 4), stretched=st.just(1.0)),
            _midpoint,
            (
                MidpointStep(
                    Shape(2, 2, "gaussian"), (1.0, 1.0), 0.5, "zero", seed=0, stretched=HAIR
                ),
            ),
        )
    },
)
