"""Prescribed and flexible switching [T9, T10] with untied weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator

from verification.strategies import draws
from verification.strategies.draws import HAIR, Shape
from verification.strategies.euler import ABOVE_ONE, OTHER_OUTER, TOO_LARGE, gradient_step
from verification.strategies.rounding import Array, placed, ratios, singular_range
from verification.strategies.trial import (
    EulerStep,
    Facts,
    Strategy,
    Structure,
    Trial,
    Violation,
)


def composed(steps: Sequence[EulerStep], facts: Facts, points: draws.Pairs) -> Trial:
    """The steps in their order, first to last."""
    images = []
    for side in (points.x, points.y):
        image = placed(side)
        for step in steps:
            image = step(image)
        images.append(image)
    return Trial(facts, ratios(images[0], images[1], points.x, points.y))


@dataclass(frozen=True, repr=False)
class Block(Structure):
    """S alternations of x + h_2/S sigma(Wx + v) and x - h_1/S B sigma(Ax + b), B = outer A', or
    the flexible block (S = 1): two contractive half steps, then x + h_2 W'sigma(Wx + v).

    Each contractive substep is `contract` over its squared norm, each other one `expand` over the
    norm of W (its square in the flexible block). With `shared` all substeps of a kind have one
    operator. Claims are as in `GradientStep`, of W `claimed_push` times its norm.
    """

    A: Shape
    W: Shape
    a: float
    slopes: tuple[float, float]
    push_slopes: tuple[float, float]
    contract: float
    expand: float
    offset: str
    push_offset: str
    seed: int
    S: int = 1
    shared: bool = False
    outer: float = 1.0
    claimed_norm: float = 1.0
    claimed_smallest: float | None = None
    claimed_push: float = 1.0


def _operators(rng: Generator, structure: Block, shape: Shape, fields: int) -> list[Array]:
    if structure.shared:
        return [draws.matrices(rng, shape, fields)] * structure.S
    return [draws.matrices(rng, shape, fields) for _ in range(structure.S)]


def _spectrum(operators: Sequence[Array]) -> tuple[Array, Array]:
    """The smallest and the largest singular value over all operators, per field."""
    ranges = [singular_range(A) for A in operators]
    return (
        np.min([low for low, _ in ranges], axis=0),
        np.max([high for _, high in ranges], axis=0),
    )


def _facts(structure: Block, contractive: list[Array], push: list[Array]) -> dict[str, Array]:
    low, high = _spectrum(contractive)
    norm, share = _spectrum(push)[1], structure.claimed_smallest
    return {
        "a": np.array(structure.a),
        "S": np.array(float(structure.S)),
        "s_min": low if share is None else share * high,
        "s_max": structure.claimed_norm * high,
        "sigma_min": low,
        "sigma_max": high,
        "w_max": structure.claimed_push * norm,
        "omega_max": norm,
        "adjoint_defect": abs(structure.outer - 1) * high,
        "slope_low": np.array(min(structure.slopes)),
        "slope_high": np.array(max(structure.slopes)),
        "push_low": np.array(min(structure.push_slopes)),
        "push_high": np.array(max(structure.push_slopes)),
    }


@dataclass(frozen=True)
class _Parts:
    """The operators of a block, its facts, and its pairs."""

    rng: Generator
    contractive: list[Array]
    push: list[Array]
    facts: dict[str, Array]
    pairs: draws.Pairs


def _parts(structure: Block, fields: int, points: int) -> _Parts:
    rng = np.random.default_rng(structure.seed)
    contractive = _operators(rng, structure, structure.A, fields)
    push = _operators(rng, structure, structure.W, fields)
    pairs = draws.pairs(rng, contractive[0], points)
    return _Parts(rng, contractive, push, _facts(structure, contractive, push), pairs)


def _contraction(structure: Block, parts: _Parts, A: Array, step: Array) -> EulerStep:
    offset = draws.offsets(parts.rng, structure.offset, A, parts.pairs.x[:, :, 0])
    ones = np.ones(len(A))
    low, high = structure.slopes
    euler = gradient_step(A, step, offset, low * ones, high * ones)
    return replace(euler, outer=structure.outer * A.mT)


def _alternations(structure: Block, fields: int, points: int) -> Trial:
    parts = _parts(structure, fields, points)
    contract = draws.single(structure.contract / parts.facts["sigma_max"] ** 2)
    expand = draws.single(structure.expand / parts.facts["omega_max"])
    ones, steps = np.ones(fields), []
    for A, W in zip(parts.contractive, parts.push, strict=True):
        offset = draws.offsets(parts.rng, structure.push_offset, W, parts.pairs.x[:, :, 0])
        low, high = structure.push_slopes
        steps += [
            EulerStep(expand, W, offset, low * ones, high * ones),
            _contraction(structure, parts, A, contract),
        ]
    facts = {**parts.facts, "h_1": structure.S * contract, "h_2": structure.S * expand}
    return composed(steps, facts, parts.pairs)


def _flexible(structure: Block, fields: int, points: int) -> Trial:
    parts = _parts(structure, fields, points)
    half = draws.single(structure.contract / parts.facts["sigma_max"] ** 2)
    h_2 = draws.single(structure.expand / parts.facts["omega_max"] ** 2)
    (A,), (W,), ones = parts.contractive, parts.push, np.ones(fields)
    substep = _contraction(structure, parts, A, half)
    offset = draws.offsets(parts.rng, structure.push_offset, W, parts.pairs.x[:, :, 0])
    low, high = structure.push_slopes
    last = gradient_step(W, h_2, offset, low * ones, high * ones, sign=1)
    return composed(
        [substep, substep, last], {**parts.facts, "h_1": 2 * half, "h_2": h_2}, parts.pairs
    )


def _blocks(*, flexible: bool, **changes: st.SearchStrategy) -> st.SearchStrategy[Block]:
    """Within the hypotheses, but for what `changes` says. Half of the expansive operators are
    multiples of the identity, which no direction escapes."""
    multiples = st.sampled_from(("identity", "scaled identity"))
    spectra = multiples | st.sampled_from(draws.SPECTRA)
    least = 0.0 if flexible else -1.0

    @cache  # or Hypothesis would look through a new strategy for each draw
    def with_structure(size: int, a: float) -> st.SearchStrategy[Block]:
        slope, push_slope = draws.fractions(a, 1), draws.fractions(1, least)
        parts = {
            "A": draws.with_columns(size),
            "W": st.builds(lambda spectrum: Shape(size, size, spectrum), spectra),
            "a": st.just(a),
            "slopes": st.tuples(slope, slope),
            "push_slopes": st.tuples(push_slope, push_slope),
            "contract": draws.multiples(-0.5, 2.5),
            "expand": draws.multiples(-2.5, 1) if flexible else draws.multiples(-0.5, 2.5),
            "offset": st.sampled_from(draws.OFFSETS),
            "push_offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
            "S": st.just(1) if flexible else st.sampled_from((1, 2, 4)),
            "shared": st.just(False) if flexible else st.booleans(),
        }
        return st.builds(Block, **{**parts, **changes})

    sizes, claims = st.integers(1, 6), st.sampled_from((0.5, 0.0, 0.1, 0.9))
    return st.tuples(sizes, claims).flatmap(lambda both: with_structure(*both))


def _linear(slope: float, contract: float, expand: float, push_slope: float = 1.0) -> Block:
    """Activations that are linear, and identity matrices: attains the law for slope a or 1."""
    slopes, push_slopes, plane = (slope, slope), (push_slope, push_slope), Shape(2, 2, "identity")
    return Block(
        plane, plane, 0.5, slopes, push_slopes, contract, expand, "zero", "zero", 0, shared=True
    )


def _edges(*, flexible: bool) -> dict[str, tuple[Block, ...]]:
    weak, strong = _linear(0.5, 0.5, 0.5), _linear(1.0, 2.5, 0.5)
    least, backwards = (-HAIR, -1.5) if flexible else (-1 - HAIR, -0.5)
    negative = _linear(-HAIR, 0.5, 0.5)
    return {
        "gradient": (replace(strong, outer=1 + HAIR),),
        "slopes": (
            replace(negative, a=-HAIR, A=Shape(2, 2, "gaussian")),
            _linear(0.5 * (1 - HAIR), 0.5, 0.5),
            _linear(1 + HAIR, 2.5, 0.5),
        ),
        "smallest": (
            replace(weak, claimed_smallest=1 + HAIR),
            replace(weak, A=Shape(1, 2, "gaussian"), claimed_smallest=-HAIR),
        ),
        "largest": (replace(strong, claimed_norm=1 - HAIR),),
        "push-slopes": (_linear(0.5, 0.5, 0.5, 1 + HAIR), _linear(0.5, 0.5, backwards, least)),
        "push-norm": (replace(weak, claimed_push=1 - HAIR),),
    }


def _without(draw, *, flexible: bool) -> dict[str, Violation[Block]]:
    edges = _edges(flexible=flexible)
    changes: dict[str, dict[str, st.SearchStrategy]] = {
        "gradient": {"outer": OTHER_OUTER},
        "slopes": {"slopes": st.tuples(ABOVE_ONE, ABOVE_ONE)},
        "smallest": {"claimed_smallest": TOO_LARGE},
        "largest": {"claimed_norm": draws.shares()},
        "push-slopes": {"push_slopes": st.tuples(ABOVE_ONE, ABOVE_ONE)},
        "push-norm": {"claimed_push": draws.shares()},
    }
    return {
        name: Violation(_blocks(flexible=flexible, **change), draw, edges[name])
        for name, change in changes.items()
    }


def _aligned(contract: float, expand: float, slope: float, push_slope: float, S: int = 1) -> Block:
    """Activations that are linear, and an expansion that no direction escapes."""
    slopes, push_slopes = (slope, slope), (push_slope, push_slope)
    any_square, identity = Shape(2, 2, "gaussian"), Shape(2, 2, "scaled identity")
    return Block(
        any_square, identity, 0.5, slopes, push_slopes, contract, expand, "zero", "zero", 0, S, True
    )


SWITCHING = Strategy(
    structures=_blocks(flexible=False),
    draw=_alternations,
    sharp=(
        _aligned(0.25, 0.25, 0.5, 1.0, S=2),
        _aligned(0.5, 0.025, 0.5, 1.0, S=2),
        _aligned(2.5, -0.25, 1.0, -1.0, S=2),
    ),
    without=_without(_alternations, flexible=False),
)

FLEXIBLE = Strategy(
    structures=_blocks(flexible=True),
    draw=_flexible,
    sharp=(
        _aligned(0.25, 0.5, 0.5, 1.0),
        _aligned(0.5, 0.05, 0.5, 1.0),
        _aligned(2.5, 0.5, 1.0, 1.0),
        _aligned(0.5, -1.5, 0.5, 0.0),
        _aligned(0.5, -2.5, 0.5, 1.0),
    ),
    without=_without(_flexible, flexible=True),
)
