"""A hypothesis that is too weak is found: each of its conditions, relaxed by a hair or dropped.

The edges of a strategy break the law a hair outside each condition. Where a weaker condition is
still true of the law, or of nothing that can be measured, it stands in a table, with the reason.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sympy import And, Eq, Ge, Gt, Le, Rational, true

from theory import Hypothesis, Theorem, theorems
from theory.algebra import ratio
from verification import suite
from verification.strategies import STRATEGIES
from verification.strategies.trial import Trial
from verification.strategies.trial_laws import laws, outside, violated

ALL = list(theorems().values())
RELAXED = [ratio(1, share) for share in (10, 100, 1000)]
CASES = [(theorem, hypothesis) for theorem in ALL for hypothesis in theorem.hypotheses]

WHOLE = {"singularities", "state_dimension", "stale", "pool_uses"}  # facts that are whole numbers

STILL_TRUE = {  # without the condition
    ("T2-approximation", "L_1 >= true_L_1"): "the law has no L_1: nothing is moved before it",
    ("T2-strang", "nu >= growth_f"): "it lies between two others",
    ("T2-strang", "nu >= growth_f + growth_g/2"): "no field is known to need it, the proof does",
    ("T4-margin-certificate", "L > 0"): "L = 0 for a constant network alone: any radius",
    ("T6-euler-budget", "decay >= 0"): "a negative decay makes the law larger",
}
STILL_TRUE_NEARBY = {  # where it is relaxed
    ("T2-lie-trotter", "nu >= growth"): "what grows is averaged over the time: half would do",
    ("T2-lie-trotter", "nu >= growth_g"): "as above",
    ("T2-strang", "nu >= growth"): "as above",
    ("T2-strang", "nu >= growth_g/2"): "as above",
    ("T8'-expansive-gradient-euler", "slope_low >= 0"): "|1 + h t| <= 1 + h s for |t| <= s",
    ("T10-tied", "a >= 0"): "for a >= -1 the mixed branches are below the first",
}


def _conditions(hypothesis: Hypothesis) -> list[Any]:
    relation: Any = hypothesis.relation
    return list(relation.args) if isinstance(relation, And) else [relation]


def _relaxed(condition: Any, by: Rational) -> Any:
    """By a share of its right side, or of 1 where that is a number near 0 or it is an equation."""
    left, right = condition.lhs, condition.rhs
    if isinstance(condition, Eq):
        return And(Ge(left, right - by), Le(left, right + by))
    room = by * (1 if right == 0 else abs(right) if right.is_number else right)
    return condition.func(left, right - room if isinstance(condition, Ge | Gt) else right + room)


def _without(theorem: Theorem, hypothesis: Hypothesis, condition: Any, instead: Any) -> Theorem:
    """The theorem with another condition instead of this one."""
    kept = [other for other in _conditions(hypothesis) if other != condition]
    conjunction: Any = And
    relation = conjunction(*kept, instead, evaluate=False)
    changed = [replace(hypothesis, relation=relation)] if kept or instead is not true else []
    others = [other for other in theorem.hypotheses if other is not hypothesis]
    return replace(theorem, hypotheses=(*others, *changed))


@cache
def _edges(name: str, hypothesis: str) -> list[tuple[Trial, NDArray[np.bool_]]]:
    """What each edge is, and which of its pairs break the law."""
    theorem, source = theorems()[name], STRATEGIES[name].without[hypothesis]
    trials = [source.draw(structure, *suite.FEW) for structure in source.edges]
    return [(trial, violated(theorem, trial, laws(theorem, trial))) for trial in trials]


def _let_in(theorem: Theorem, hypothesis: str) -> bool:
    """Whether an edge lies within the hypotheses of the theorem, and breaks its law."""
    return any(
        broken.any()
        for trial, wrong in _edges(theorem.id, hypothesis)
        for broken, names in zip(wrong, outside(theorem, trial), strict=True)
        if not names
    )


@pytest.mark.parametrize(
    ("theorem", "hypothesis"), CASES, ids=lambda case: getattr(case, "id", None) or case.name
)
def test_each_condition_is_needed_to_a_hair(theorem: Theorem, hypothesis: Hypothesis) -> None:
    assert not _let_in(theorem, hypothesis.name)
    for condition in _conditions(hypothesis):
        about = (theorem.id, str(condition))
        if about in STILL_TRUE:
            continue
        weaker = _without(theorem, hypothesis, condition, true)
        assert _let_in(weaker, hypothesis.name), condition
        if about in STILL_TRUE_NEARBY or WHOLE & set(map(str, condition.free_symbols)):
            continue
        for by in RELAXED:
            weaker = _without(theorem, hypothesis, condition, _relaxed(condition, by))
            assert _let_in(weaker, hypothesis.name), (condition, by)


@pytest.mark.parametrize(
    ("theorem", "hypothesis"), CASES, ids=lambda case: getattr(case, "id", None) or case.name
)
def test_an_edge_breaks_the_law_outside_its_hypothesis_alone(
    theorem: Theorem, hypothesis: Hypothesis
) -> None:
    for trial, wrong in _edges(theorem.id, hypothesis.name):
        missed = outside(theorem, trial)
        lone = [names == {hypothesis.name} for names in missed]
        assert any(broken.any() and alone for broken, alone in zip(wrong, lone, strict=True))


def test_what_is_excepted_is_a_condition() -> None:
    conditions = {
        (theorem.id, str(condition))
        for theorem, hypothesis in CASES
        for condition in _conditions(hypothesis)
    }
    assert conditions >= set(STILL_TRUE) | set(STILL_TRUE_NEARBY)
