"""`verify` finds nothing wrong with our laws, and finds what was planted."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sympy import Abs, Max, Min, sqrt

from theory import Theorem, theorems
from theory.facts import S, a, h, h_1, h_2, s_max, s_min, w_max
from theory.margin import lipschitz, margin
from theory.network import std_min
from verification import suite
from verification.strategies import STRATEGIES
from verification.suite import Profile, verify

SMALL = Profile(chunks=6, fields=16, points=16)
ALL = list(theorems().values())


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
@pytest.mark.parametrize("seed", [0, 1])
def test_our_laws_hold(theorem: Theorem, seed: int) -> None:
    (verdict,) = verify([theorem], SMALL, seed)
    assert verdict.failures == []
    assert verdict.gaps == []
    assert verdict.outcome == "holds"
    assert verdict.part.instances > 0


def test_every_theorem_has_a_strategy_and_the_reverse() -> None:
    assert set(STRATEGIES) == set(theorems())


def test_same_bytes_on_one_process_and_two() -> None:
    chosen = ALL[1:3]
    texts = [
        json.dumps(suite.report(verify(chosen, SMALL, 7, jobs), "quick", 7)) for jobs in (1, 2)
    ]
    assert texts[0] == texts[1]


def test_seeds_draw_different_fields() -> None:
    strategy = STRATEGIES["T7-contractive-euler"]
    one, two = (strategy.sample(np.random.default_rng(s), 4, 4).measured for s in (0, 1))
    assert not np.array_equal(one, two)


def _max_to_min(law: Any) -> Any:
    return law.replace(Max, Min)


def _substitute(**changes: Any) -> Callable[[Any], Any]:
    def mutate(law: Any) -> Any:
        by_name = {str(symbol): symbol for symbol in law.free_symbols}
        values = {by_name[name]: value for name, value in changes.items()}
        return law.subs(values, simultaneous=True)

    return mutate


SMALLER = {  # each makes the law too small somewhere: fields must be found that exceed it
    "T4-margin-certificate": {
        "without sqrt 2": lambda law: margin / lipschitz,
        "squared constant": _substitute(L=sqrt(lipschitz)),
    },
    "T7-contractive-euler": {
        "sign": _substitute(h=-h),
        "factor 2": _substitute(h=2 * h),
        "half": _substitute(h=h / 2),
        "max to min": _max_to_min,
        "norm for its square": _substitute(s_max=sqrt(s_max), s_min=sqrt(s_min)),
        "square of the square": _substitute(s_max=s_max**2, s_min=s_min**2),
        "strongest slope only": lambda law: Abs(1 - h * s_max**2),
        "weakest slope only": lambda law: Abs(1 - h * a * s_min**2),
        "no slope": _substitute(a=a / a),
    },
    "T8-nonexpansive-euler": {
        "sign": _substitute(h=-h),
        "half": _substitute(h=h / 2),
        "max to min": _max_to_min,
        "norm for its square": _substitute(s_max=sqrt(s_max)),
        "always 1": lambda law: law * 0 + 1,
    },
    "T8'-expansive-euler": {
        "sign": lambda law: 1 - Abs(h) * s_max,
        "half": _substitute(h=h / 2),
        "signed": lambda law: 1 + h * s_max,
        "root of the norm": _substitute(s_max=sqrt(s_max)),
    },
    "T8'-expansive-gradient-euler": {
        "sign": _substitute(h=-h),
        "half": _substitute(h=h / 2),
        "norm for its square": lambda law: 1 + h * s_max,
    },
    "T9-switching": {
        "contraction sign": _substitute(h_1=-h_1),
        "expansion sign": lambda law: law.subs(Abs(h_2), -Abs(h_2)),
        "contraction twice": _substitute(h_1=2 * h_1),
        "expansion half": _substitute(h_2=h_2 / 2),
        "max to min": _max_to_min,
        "one substep too many": lambda law: law ** ((S + 1) / S),
        "push norm left out": lambda law: law.subs(w_max, w_max / w_max),
        "contraction squared": _substitute(s_min=s_min**2, s_max=s_max**2),
    },
    "T10-flexible-switching": {
        "expansion sign": _substitute(h_2=-h_2),
        "expansion half": _substitute(h_2=h_2 / 2),
        "max to min": _max_to_min,
        "full steps": _substitute(h_1=2 * h_1),
        "norm for its square": _substitute(w_max=sqrt(w_max)),
        "three contractive steps": lambda law: (
            law * Max(Abs(1 - h_1 / 2 * a * s_min**2), Abs(1 - h_1 / 2 * s_max**2))
        ),
    },
    "T10-tied": {
        "expansion sign": _substitute(h_2=-h_2),
        "max to min": _max_to_min,
        "full steps": _substitute(h_1=2 * h_1),
        "first branch only": lambda law: (1 - h_1 / 2) ** 2 * Abs(1 + h_2),
        "second branch only": lambda law: (1 - a * h_1 / 2) ** 2,
    },
    "T11-network": {
        "normalisation left out": lambda law: law * std_min,
        "lifting scale left out": lambda law: law.subs(
            {s: 1 for s in law.free_symbols if str(s).startswith("scale")}
        ),
        "inverse of the head": lambda law: law / 9,
    },
}
LARGER = {  # each makes the law too large: it is no longer attained, and its proof fails
    "T4-margin-certificate": lambda law: law / 2,
    "T7-contractive-euler": lambda law: Abs(1 - h * a * s_min**2) + Abs(1 - h * s_max**2),
    "T8-nonexpansive-euler": lambda law: law * 2,
    "T8'-expansive-euler": lambda law: law.subs(s_max, 2 * s_max),
    "T8'-expansive-gradient-euler": lambda law: law.subs(h, 2 * h),
    "T9-switching": lambda law: law * 2,
    "T10-flexible-switching": lambda law: law * 2,
    "T10-tied": lambda law: law * 2,
    "T11-network": lambda law: law * 2,
}
PLANTED = [
    pytest.param(name, mutate, id=f"{name}: {kind}")
    for name, mutations in SMALLER.items()
    for kind, mutate in mutations.items()
]
planted = pytest.mark.parametrize(("name", "mutate"), PLANTED)


@planted
def test_a_law_that_is_too_small_is_violated(name: str, mutate) -> None:
    theorem = theorems()[name]
    (verdict,) = verify([replace(theorem, constant=mutate(theorem.law), proof=())], SMALL)
    assert verdict.part.violations > 0
    assert verdict.outcome == "failed"


@pytest.mark.parametrize("name", LARGER)
def test_a_law_that_is_too_large_is_not_attained(name: str) -> None:
    theorem = theorems()[name]
    (verdict,) = verify([replace(theorem, constant=LARGER[name](theorem.law), proof=())], SMALL)
    assert verdict.part.violations == 0
    assert verdict.part.sharpness is not None
    assert verdict.part.sharpness < suite.ATTAINED
    assert verdict.outcome == "failed"


@planted
def test_the_proof_is_about_the_law(name: str, mutate) -> None:
    theorem = theorems()[name]
    mutant = replace(theorem, constant=mutate(theorem.law))
    assert mutant.law != theorem.law
    assert not mutant.proved()


@pytest.mark.parametrize(
    ("name", "dropped"),
    [(theorem.id, hypothesis.name) for theorem in ALL for hypothesis in theorem.hypotheses],
)
def test_a_dropped_hypothesis_is_missed(name: str, dropped: str) -> None:
    theorem = theorems()[name]
    left = tuple(h for h in theorem.hypotheses if h.name != dropped)
    (verdict,) = verify([replace(theorem, hypotheses=left)], Profile(1, 4, 4))
    assert verdict.part.violations > 0
    assert verdict.outcome == "failed"


def test_the_tied_law_fails_for_a_rounded_orthogonal_matrix() -> None:
    """An orthogonality defect of 1e-7 costs 5 %: the law is no certificate for stored weights."""
    trial = STRATEGIES["T10-tied"].without["orthogonal"]()
    defect, law = trial.of(0)["orthogonality_defect"], suite.laws(theorems()["T10-tied"], trial)
    assert 0 < defect < 1e-6
    assert trial.measured.max() > law.max() * 1.05


def test_without_a_strategy_the_verdict_is_open() -> None:
    mine = replace(theorems()["T7-contractive-euler"], id="X1-mine")
    (verdict,) = verify([mine], SMALL)
    assert verdict.outcome == "undecided"
    assert suite.exit_code([verdict]) == 3
    assert verdict.proof == "symbolic"


def test_a_strategy_outside_the_hypotheses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    theorem = theorems()["T9-switching"]
    careless = replace(STRATEGIES[theorem.id], sharp=STRATEGIES[theorem.id].without["slopes"])
    monkeypatch.setitem(STRATEGIES, theorem.id, careless)
    with pytest.raises(ValueError, match="slopes"):
        verify([theorem], SMALL)
