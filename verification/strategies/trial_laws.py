"""What a batch says of a law: who is outside a hypothesis, who breaks the law, who attains it."""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsnn.errors import UserError
from theory import Theorem, balls
from theory.compile import arguments, compiled
from verification.strategies.rounding import Array
from verification.strategies.trial import Trial


def laws(theorem: Theorem, trial: Trial) -> Array:
    """The constant for each field (fields, 1), rounded away from what could refute it. Raises
    UserError for a law that ball arithmetic does not know."""
    bound = balls.upper if theorem.bound == "upper" else balls.lower
    names = arguments(theorem.law)

    @functools.cache
    def value(*numbers: float) -> float:
        try:
            return bound(theorem.law, dict(zip(names, numbers, strict=True)))
        except ValueError as error:
            raise UserError(
                f"the law of {theorem.id} cannot be evaluated with bounds: {error}: write it in "
                "functions that theory.balls knows"
            ) from error

    columns = trial.columns(names)
    return np.array([value(*row) for row in columns]).reshape(-1, 1)


def violated(theorem: Theorem, trial: Trial, law: Array) -> NDArray[np.bool_]:
    """Which pairs contradict the law, (fields, points). Raises UserError for a NaN, or for another
    shape, whose fields would be held against each other's laws."""
    if trial.measured.ndim != 2:
        raise UserError(
            f"the strategy of {theorem.id} measured an array of shape {trial.measured.shape}: give "
            "(fields, points)"
        )
    if np.isnan(trial.measured).any():
        raise UserError(
            f"the strategy of {theorem.id} measured what is not a number: keep its fields finite"
        )
    return trial.measured > law if theorem.bound == "upper" else trial.measured < law


def outside(theorem: Theorem, trial: Trial) -> list[set[str]]:
    """The names of the hypotheses that each field violates."""
    found: list[set[str]] = [set() for _ in trial.measured]
    for hypothesis in theorem.hypotheses:
        names, relation = arguments(hypothesis.relation), compiled(hypothesis.relation, "math")
        for violations, row in zip(found, trial.columns(names), strict=True):
            if not relation(**dict(zip(names, row, strict=True))):
                violations.add(hypothesis.name)
    return found


def described(theorem: Theorem, structure: Any, trial: Trial, law: Array, wrong: Any) -> str:
    """The structure, and the pair that is furthest on the wrong side."""
    excess = np.where(wrong, np.abs(trial.measured - law), -1)
    index, point = np.unravel_index(int(excess.argmax()), excess.shape)
    names = arguments(theorem.law)
    values = trial.columns(names)[int(index)]
    where = ", ".join(f"{n} = {v:.6g}" for n, v in zip(names, values, strict=True))
    measured, limit = trial.measured[index, point], law[index, 0]
    return f"{structure!r}: {measured:.9g} against {limit:.9g}" + (f" at {where}" if where else "")


def attained(theorem: Theorem, trial: Trial, law: Array) -> float | None:
    """How close every field of the trial comes to its law: the least over fields of the best over
    pairs, cut to nine decimals. None where a law is not positive, which no ratio describes."""
    if not (law > 0).all() or not np.isfinite(law).all():
        return None
    if theorem.bound == "upper":
        quotients = trial.measured.max(axis=1) / law[:, 0]
    else:
        quotients = law[:, 0] / trial.measured.min(axis=1)
    return math.floor(float(quotients.min()) * 1e9) / 1e9
