"""The product law [T11] on small networks of three stages: normalise, then per stage ReLU of a
scaled map, a block, max pooling over pairs; then a linear head."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from theory.network import STAGES
from verification.strategies import draws
from verification.strategies.draws import BEYOND, HAIR, Shape
from verification.strategies.euler import gradient_step
from verification.strategies.rounding import (
    COVER,
    UNDERFLOW,
    UNIT,
    Array,
    Tracked,
    affine,
    piecewise,
    ratios,
    singular_range,
    window_maxima,
)
from verification.strategies.trial import EulerStep, Strategy, Structure, Trial, Violation


@dataclass(frozen=True)
class Stage:
    scale: Array  # (fields,)
    lift: Array
    flow: EulerStep


def _scaled(x: Tracked, factor: Array) -> Tracked:
    value = factor * x.value
    error = (np.abs(factor) * x.error + UNIT * np.abs(value)) * COVER
    return Tracked(value, error + UNDERFLOW)


def _overlapping_maxima(x: Tracked) -> Tracked:
    """Maxima over windows of two with stride one, the last entry alone."""
    value, error = x.value, x.error
    after = np.concatenate([value[:, 1:], value[:, -1:]], axis=1)
    spread = np.concatenate([error[:, 1:], error[:, -1:]], axis=1)
    return Tracked(np.maximum(value, after), np.maximum(error, spread))


def _forward(pixels: Array, std: Array, stages: list[Stage], head: Array, overlap: bool) -> Tracked:
    zeros, ones = np.zeros(len(std)), np.ones(len(std))
    value = pixels / std[..., None]
    x = Tracked(value, 2 * UNIT * np.abs(value))
    for stage in stages:
        x = piecewise(_scaled(affine(stage.lift, x), stage.scale[:, None, None]), zeros, ones)
        x = stage.flow(x)
        x = _overlapping_maxima(x) if overlap else window_maxima(x, 2)
    return affine(head, x)


def _trial(
    pairs: draws.Pairs,
    std: Array,
    stages: list[Stage],
    head: Array,
    *,
    overlap: bool = False,
) -> Trial:
    """Blocks have constant at most 1 here (T8): their steps are at most 1 / |A|^2."""
    images = [_forward(side, std, stages, head, overlap) for side in (pairs.x, pairs.y)]
    norm = singular_range(head)[1]
    smallest = std.min(axis=1)
    facts: dict[str, Array | float] = {
        "head_max": norm,
        "head_norm": norm,
        "std_min": smallest,
        "smallest_std": smallest,
        "pool_uses": 2.0 if overlap else 1.0,
    }
    for i, stage in enumerate(stages):
        lift = singular_range(stage.lift)[1]
        facts |= {f"scale_{i}": stage.scale, f"used_scale_{i}": np.abs(stage.scale)}
        facts |= {f"lift_max_{i}": lift, f"lift_norm_{i}": lift}
        facts |= {f"flow_max_{i}": 1.0, f"flow_lipschitz_{i}": 1.0}
    return Trial(facts, ratios(images[0], images[1], pairs.x, pairs.y))


@dataclass(frozen=True, repr=False)
class RandomNetwork(Structure):
    """Gaussian lifts to the three widths, blocks with this spectrum, and a Gaussian head."""

    columns: int
    widths: tuple[int, ...]
    classes: int
    spectrum: str
    offset: str
    seed: int


@dataclass(frozen=True, repr=False)
class ScalingNetwork(Structure):
    """Every layer scales: normalisation by `1 / std`, scales and lifts by 2, blocks by `block`,
    the head by 3. One entry moves, and leads its pooling window; with `overlap` it leads two of
    them. Claimed of the fact that `claim` names is `share` times it."""

    std: float = 0.25
    block: float = 1.0
    overlap: bool = False
    claim: str = ""
    share: float = 1.0


def _random(structure: RandomNetwork, fields: int, points: int) -> Trial:
    rng, ones = np.random.default_rng(structure.seed), np.ones(fields)
    stages, incoming = [], structure.columns
    for width in structure.widths:
        A = draws.matrices(rng, Shape(width, width, structure.spectrum), fields)
        step = draws.single(0.99 / singular_range(A)[1] ** 2)
        offset = draws.offsets(rng, structure.offset, A, np.zeros((fields, width)))
        lift = rng.standard_normal((fields, width, incoming)) / np.sqrt(incoming)
        flow = gradient_step(A, step, offset, 0 * ones, ones)
        stages.append(Stage(rng.uniform(-3, 3, fields), lift, flow))
        incoming = width // 2
    head = rng.standard_normal((fields, structure.classes, incoming))
    std = rng.uniform(0.1, 1, (fields, structure.columns))
    return _trial(draws.pairs(rng, stages[0].lift, points), std, stages, head)


def _scaling(structure: ScalingNetwork) -> Trial:
    """One field with one pair."""
    overlap, block = structure.overlap, structure.block
    width = 4 if overlap else 2
    one, square = np.ones(1), np.eye(width)
    enter = square if overlap else np.eye(2, 1)  # from the pooled width of the stage before
    # x - (1 - block) ReLU(x + BEYOND) has the slope `block` where it is used
    flow = gradient_step(square[None], (1 - block) * one, np.full((1, width), BEYOND), 0 * one, one)
    stages = [Stage(2 * one, 2 * (square if i == 0 else enter)[None], flow) for i in range(STAGES)]
    head = 3 * (square if overlap else np.eye(1))[None]
    x = np.zeros((1, width, 1))
    x[0, -1 if overlap else 0] = 1.0
    pairs = draws.Pairs(x, 1.5 * x)
    trial = _trial(pairs, np.full((1, width), structure.std), stages, head, overlap=overlap)
    facts = dict(trial.facts)
    for i in range(STAGES):
        facts[f"flow_lipschitz_{i}"] = max(1.0, block)
    if structure.claim:
        facts[structure.claim] = structure.share * np.asarray(facts[structure.claim])
    return replace(trial, facts=facts)


def _draw(structure: RandomNetwork | ScalingNetwork, fields: int, points: int) -> Trial:
    if isinstance(structure, ScalingNetwork):
        return _scaling(structure)
    return _random(structure, fields, points)


_width = st.sampled_from((2, 4, 6, 8))
_networks = st.builds(
    RandomNetwork,
    columns=st.integers(1, 6),
    widths=st.tuples(*[_width] * STAGES),
    classes=st.integers(1, 4),
    spectrum=st.sampled_from(draws.SPECTRA),
    offset=st.sampled_from(draws.OFFSETS),
    seed=draws.seeds,
)


def _scalings(
    *edges: ScalingNetwork, **changes: st.SearchStrategy
) -> Violation[RandomNetwork | ScalingNetwork]:
    structures = st.builds(ScalingNetwork, **{"std": draws.fractions(1, 0.25), **changes})
    return Violation(structures, _draw, edges)


def _claimed(names: list[str], share: float = 1 - HAIR) -> list[ScalingNetwork]:
    return [ScalingNetwork(claim=name, share=share) for name in names]


def _claims(*names: str) -> Violation[RandomNetwork | ScalingNetwork]:
    edges = _claimed(list(names))
    return _scalings(*edges, claim=st.sampled_from(names), share=draws.shares())


NETWORK: Strategy[RandomNetwork | ScalingNetwork] = Strategy(
    structures=_networks,
    draw=_draw,
    sharp=(ScalingNetwork(),),
    without={
        "scale": _claims(*(f"scale_{i}" for i in range(STAGES))),
        "lift": _claims(*(f"lift_max_{i}" for i in range(STAGES))),
        "flow": _scalings(
            *_claimed([f"flow_max_{i}" for i in range(STAGES)]),
            block=draws.fractions(2, 17 / 16, 15),
        ),
        "pool": _scalings(ScalingNetwork(overlap=True), overlap=st.just(True)),
        "head": _claims("head_max"),
        "normalisation": _scalings(
            *_claimed(["std_min"], 1 + HAIR),
            *_claimed(["std_min"], -HAIR),
            claim=st.just("std_min"),
            share=draws.fractions(2, 17 / 16, 15),
        ),
    },
)
