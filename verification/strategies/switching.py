"""Prescribed and flexible switching [T9, T10] with untied weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from verification.strategies import draws
from verification.strategies.euler import gradient_step, unit_pairs
from verification.strategies.rounding import Array, exact, ratios, singular_range
from verification.strategies.trial import EulerStep, Facts, Strategy, Trial


def composed(steps: Sequence[EulerStep], facts: Facts, points: draws.Pairs) -> Trial:
    """The steps in their order, first to last."""
    images = []
    for side in (points.x, points.y):
        image = exact(side)
        for step in steps:
            image = step(image)
        images.append(image)
    return Trial(facts, ratios(images[0], images[1], points.x, points.y))


def _spectrum(operators: Sequence[Array]) -> tuple[Array, Array]:
    """The smallest and the largest singular value over all operators, per field."""
    ranges = [singular_range(A) for A in operators]
    return (
        np.min([low for low, _ in ranges], axis=0),
        np.max([high for _, high in ranges], axis=0),
    )


def _slope_facts(prefix: str, slopes: tuple[Array, Array]) -> Facts:
    return {f"{prefix}_low": np.minimum(*slopes), f"{prefix}_high": np.maximum(*slopes)}


def _operator_facts(contractive: Sequence[Array], push: Sequence[Array]) -> dict[str, Array]:
    low, high = _spectrum(contractive)
    norm = _spectrum(push)[1]
    return {
        "s_min": low,
        "s_max": high,
        "sigma_min": low,
        "sigma_max": high,
        "w_max": norm,
        "omega_max": norm,
    }


def _drawn(rng: Generator, fields: int, points: int, count: int):
    """`count` operators for each kind of step, either all different or sharing directions: then
    the contractive ones are equal and the others multiples of the identity."""
    columns = int(rng.integers(1, 7))
    if rng.random() < 0.5:
        contractive = [draws.inner(rng, fields, columns)] * count
        push = [2 ** rng.uniform(-1, 1, (fields, 1, 1)) * np.eye(columns)] * count
    else:
        contractive = [draws.inner(rng, fields, columns) for _ in range(count)]
        push = [draws.square(rng, fields, columns) for _ in range(count)]
    return contractive, push, draws.pairs(rng, contractive[0], points)


def _alternations(rng: Generator, fields: int, points: int) -> Trial:
    S = int(rng.choice([1, 2, 4]))
    contractive, push, pairs = _drawn(rng, fields, points, S)
    facts = _operator_facts(contractive, push)
    a = float(rng.choice([0.0, 0.1, 0.5, 0.9]))
    slopes = draws.slopes(rng, fields, a)
    push_slopes = draws.slopes(rng, fields, -1.0)
    contract = draws.steps(rng, facts["s_max"] ** 2)
    expand = draws.steps(rng, facts["w_max"])
    point, steps = pairs.x[:, :, 0], []
    for A, W in zip(contractive, push, strict=True):
        steps += [
            EulerStep(expand, W, draws.offsets(rng, W, point), *push_slopes),
            gradient_step(A, contract, draws.offsets(rng, A, point), *slopes),
        ]
    facts = {
        **facts,
        "a": a,
        "S": float(S),
        "h_1": S * contract,
        "h_2": S * expand,
        "adjoint_defect": 0.0,
        **_slope_facts("slope", slopes),
        **_slope_facts("push", push_slopes),
    }
    return composed(steps, facts, pairs)


def _flexible(rng: Generator, fields: int, points: int) -> Trial:
    contractive, push, pairs = _drawn(rng, fields, points, 1)
    A, W = contractive[0], push[0]
    facts = _operator_facts(contractive, push)
    a = float(rng.choice([0.0, 0.1, 0.5, 0.9]))
    slopes = draws.slopes(rng, fields, a)
    push_slopes = draws.slopes(rng, fields, 0.0)
    half = draws.steps(rng, facts["s_max"] ** 2)
    h_2 = draws.steps(rng, facts["w_max"] ** 2, low=-2.5, high=1.0)
    point = pairs.x[:, :, 0]
    substep = gradient_step(A, half, draws.offsets(rng, A, point), *slopes)
    last = gradient_step(W, h_2, draws.offsets(rng, W, point), *push_slopes, sign=1)
    facts = {
        **facts,
        "a": a,
        "h_1": 2 * half,
        "h_2": h_2,
        "adjoint_defect": 0.0,
        **_slope_facts("slope", slopes),
        **_slope_facts("push", push_slopes),
    }
    return composed([substep, substep, last], facts, pairs)


def _linear_block(
    *,
    S: int | None,
    h_1: Sequence[float],
    h_2: Sequence[float],
    slope: Sequence[float],
    push_slope: Sequence[float],
    spectrum: tuple[float, ...] = (0.5, 1.0),
    w: float = 1.0,
    outer: float = 1.0,
    **claims: float,
) -> Trial:
    """S alternations, or for S = None the flexible block, one field per entry of `h_1`, moved along
    the axes: A has `spectrum` on the diagonal and two columns, W = w I, the activations are linear
    with the given slopes, and the outer matrix is `outer` A'.
    """
    fields, ones, zeros = len(h_1), np.ones(len(h_1)), np.zeros((len(h_1), 2))
    rows = len(spectrum)
    A = np.broadcast_to(np.diag(spectrum) @ np.eye(rows, 2), (fields, rows, 2))
    W = np.broadcast_to(w * np.eye(2), (fields, 2, 2))
    first, second = np.array(h_1), np.array(h_2)
    pull, push_pull = np.array(slope), np.array(push_slope)
    contract = EulerStep(-first / (S or 2), A, zeros[:, :rows], pull, pull, outer * A.mT)
    if S is None:
        push = gradient_step(W, second, zeros, push_pull, push_pull, sign=1)
        steps = [contract, contract, push]
    else:
        steps = [EulerStep(second / S, W, zeros, push_pull, push_pull), contract] * S
    facts = {
        "a": 0.5,
        "S": float(S or 1),
        "h_1": first,
        "h_2": second,
        "s_min": min(spectrum),
        "s_max": max(spectrum),
        "sigma_min": min(spectrum) if len(spectrum) == 2 else 0.0,
        "sigma_max": max(spectrum),
        "w_max": w * ones,
        "omega_max": w * ones,
        "slope_low": pull,
        "slope_high": pull,
        "push_low": push_pull,
        "push_high": push_pull,
        "adjoint_defect": abs(outer - 1) * max(spectrum),
        **claims,
    }
    return composed(steps, facts, unit_pairs(fields, 2))


def _breaking(S: int | None) -> dict[str, Callable[[], Trial]]:
    def block(
        slope: float = 0.5, push_slope: float = 1.0, h_1: float = 0.5, **changes: Any
    ) -> Callable[[], Trial]:
        return lambda: _linear_block(
            S=S, h_1=[h_1], h_2=[0.5], slope=[slope], push_slope=[push_slope], **changes
        )

    return {
        "gradient": block(outer=-1.0),
        "slopes": block(slope=0.25),
        "smallest": block(spectrum=(1.0,)),
        "largest": block(slope=1.0, h_1=4.0, spectrum=(0.5, 2.0), s_max=1.0),
        "push-slopes": block(push_slope=2.0),
        "push-norm": block(w=2.0, w_max=1.0),
    }


SWITCHING = Strategy(
    sample=_alternations,
    sharp=lambda: _linear_block(
        S=2,
        h_1=[0.5, 1.0, 5.0],
        h_2=[0.5, 0.05, -0.5],
        slope=[0.5, 0.5, 1.0],
        push_slope=[1.0, 1.0, -1.0],
    ),
    without=_breaking(2),
)

FLEXIBLE = Strategy(
    sample=_flexible,
    sharp=lambda: _linear_block(
        S=None,
        h_1=[0.5, 1.0, 5.0, 1.0, 1.0],
        h_2=[0.5, 0.05, 0.5, -1.5, -2.5],
        slope=[0.5, 0.5, 1.0, 0.5, 0.5],
        push_slope=[1.0, 1.0, 1.0, 0.0, 1.0],
    ),
    without=_breaking(None),
)
