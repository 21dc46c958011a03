"""Volume preservation [T12]: determinants of layers of two shears at random points."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.arithmetic import (
    at_least,
    determinant,
    minus,
    plus,
    product,
    scaled,
)
from verification.strategies.draws import HAIR, Shape
from verification.strategies.jacobians import assembled, corner, identity, nothing, pattern
from verification.strategies.rounding import Tracked, exact, singular_range
from verification.strategies.trial import Strategy, Structure, Trial, Violation


@dataclass(frozen=True, repr=False)
class VolumeLayers(Structure):
    """`layers` times x+ = x + h sigma(Av + a), v+ = v + h sigma(Bx+ + b) with h = step / |A|.

    `own` adds h own x to the first shear; with `stale` the second one reads the old x.
    """

    top: int
    bottom: int
    slopes: tuple[float, float]
    step: float
    offset: str
    layers: int
    seed: int
    own: float = 0.0
    stale: bool = False


def _volume(structure: VolumeLayers, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    top, bottom = structure.top, structure.bottom
    state = rng.standard_normal((fields, top + bottom, points))
    x, v = state[:, :top], state[:, top:]
    jacobian: Tracked | None = None
    for _ in range(structure.layers):
        A = draws.matrices(rng, Shape(top, bottom, "gaussian"), fields)
        B = draws.matrices(rng, Shape(bottom, top, "gaussian"), fields)
        h = draws.single(structure.step / singular_range(A)[1])
        pre = A @ v + draws.offsets(rng, structure.offset, A, v[..., 0])[..., None]
        first = pattern(pre, structure.slopes)
        own = structure.own * h
        moved = x + h[:, None, None] * first * pre + own[:, None, None] * x
        read = x if structure.stale else moved
        pre = B @ read + draws.offsets(rng, structure.offset, B, read[..., 0])[..., None]
        second = pattern(pre, structure.slopes)
        x, v = moved, v + h[:, None, None] * second * pre
        up, low = corner(A, None, first, h), corner(B, None, second, h)
        one, other = identity(up, top), identity(up, bottom)
        grown = plus(one, scaled(own[:, None, None, None], one))
        if structure.stale:
            layer = assembled([[grown, up], [low, other]])
        else:
            upper = assembled([[grown, up], [nothing(up, bottom, top), other]])
            lower = assembled([[one, nothing(up, top, bottom)], [low, other]])
            layer = product(lower, upper)
        jacobian = layer if jacobian is None else product(layer, jacobian)
    assert jacobian is not None  # one layer at least
    value = determinant(jacobian)
    size = Tracked(np.abs(value.value), value.error)
    facts = {"own_dependence": abs(structure.own), "stale": float(structure.stale)}
    return Trial(facts, at_least(minus(size, exact(np.ones(1)))))


def _volume_layers(**changes: st.SearchStrategy) -> st.SearchStrategy[VolumeLayers]:
    slope = draws.fractions(1, -1)
    parts = {
        "top": st.integers(1, 3),
        "bottom": st.integers(1, 3),
        "slopes": st.tuples(slope, slope),
        "step": draws.multiples(-0.5, 2.5),
        "offset": st.sampled_from(draws.OFFSETS),
        "layers": st.integers(1, 3),
        "seed": draws.seeds,
    }
    return st.builds(VolumeLayers, **{**parts, **changes})


_layer = VolumeLayers(1, 1, (1.0, 1.0), 1.0, "zero", 1, seed=0)

VOLUME = Strategy(
    structures=_volume_layers(),
    draw=_volume,
    without={
        "shear": Violation(
            _volume_layers(own=draws.multiples(1 / 16, 1)), _volume, (replace(_layer, own=HAIR),)
        ),
        "order": Violation(
            _volume_layers(stale=st.just(True)), _volume, (replace(_layer, stale=True),)
        ),
    },
)
