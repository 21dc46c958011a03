"""The product law [T11] on small networks of three stages: normalise, then per stage ReLU of a
scaled map, a block, max pooling over pairs; then a linear head."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from theory.network import STAGES
from verification.strategies import draws
from verification.strategies.draws import BEYOND
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
from verification.strategies.trial import EulerStep, Strategy, Trial


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
    **claims: float,
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
    return Trial({**facts, **claims}, ratios(images[0], images[1], pairs.x, pairs.y))


def _random(rng: Generator, fields: int, points: int) -> Trial:
    widths = [int(2 * rng.integers(1, 5)) for _ in range(STAGES)]
    columns = int(rng.integers(1, 7))
    stages, incoming = [], columns
    ones = np.ones(fields)
    for width in widths:
        A = draws.square(rng, fields, width)
        step = draws.single(0.99 / singular_range(A)[1] ** 2)
        flow = gradient_step(
            A, step, draws.offsets(rng, A, np.zeros((fields, width))), 0 * ones, ones
        )
        lift = rng.standard_normal((fields, width, incoming)) / np.sqrt(incoming)
        stages.append(Stage(rng.uniform(-3, 3, fields), lift, flow))
        incoming = width // 2
    head = rng.standard_normal((fields, int(rng.integers(1, 5)), incoming))
    std = rng.uniform(0.1, 1, (fields, columns))
    return _trial(draws.pairs(rng, stages[0].lift, points), std, stages, head)


def _plain(
    *,
    overlap: bool = False,
    block: float = 1.0,
    **claims: float,
) -> Trial:
    """Every layer scales: normalisation by 4, scales and lifts by 2, blocks by `block`, head by 3.
    One entry moves, and leads its pooling window; with `overlap` it leads two of them."""
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
    return _trial(pairs, np.full((1, width), 0.25), stages, head, overlap=overlap, **claims)


NETWORK = Strategy(
    sample=_random,
    sharp=_plain,
    without={
        "scale": lambda: _plain(scale_1=1.0),
        "lift": lambda: _plain(lift_max_1=1.0),
        "flow": lambda: _plain(
            block=2.0, flow_lipschitz_0=2.0, flow_lipschitz_1=2.0, flow_lipschitz_2=2.0
        ),
        "pool": lambda: _plain(overlap=True),
        "head": lambda: _plain(head_max=1.0),
        "normalisation": lambda: _plain(std_min=1.0),
    },
)
