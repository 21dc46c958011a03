"""`verify` finds nothing wrong with our laws, and says clearly where it cannot look."""

import json
import time
from dataclasses import dataclass, replace
from multiprocessing import active_children
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sympy import And, Ge, Integer, Le, Rational

from dsnn.errors import UserError
from theory import Theorem, theorems
from theory.facts import h, h_1, s_min, sigma_min
from theory.runge_kutta import nu, r
from theory.volume import own_dependence
from verification import suite
from verification.strategies import STRATEGIES, trial_laws
from verification.strategies.search import NothingDrawn, find
from verification.strategies.trial import Strategy, Structure, Trial
from verification.suite import Profile, verify

SMALL = Profile(chunks=1, structures=48, fields=4, points=16)
ALL = list(theorems().values())
T7, T9 = theorems()["T7-contractive-euler"], theorems()["T9-switching"]


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
def test_our_laws_hold(theorem: Theorem) -> None:
    (verdict,) = verify([theorem], SMALL, 1)
    assert verdict.failures == []
    assert verdict.gaps == []
    assert verdict.outcome == "holds"
    assert verdict.part.instances > 0


def _with_relation(theorem: Theorem, name: str, relation: Any) -> Theorem:
    hypotheses = tuple(
        replace(known, relation=relation) if known.name == name else known
        for known in theorem.hypotheses
    )
    return replace(theorem, hypotheses=hypotheses)


@pytest.mark.parametrize(
    ("name", "weakened", "relation"),
    [
        ("T7-contractive-euler", "smallest", Le(s_min, 101 * sigma_min / 100)),
        ("T8-b-stable", "step", Ge(h, -Rational(1, 100))),
        ("T8-circle-contractive", "step", And(Ge(h, 0), Le(h, Rational(101, 50) * nu * r))),
        ("T10-tied", "step", Le(h_1, Rational(101, 50))),
        ("T12-volume", "shear", Le(own_dependence, Rational(1, 100))),
    ],
)
def test_a_hypothesis_that_is_too_weak_is_found(name: str, weakened: str, relation: Any) -> None:
    theorem = theorems()[name]
    part = suite.drop(_with_relation(theorem, weakened, relation), weakened)
    assert part.violations > 0
    assert part.violation
    assert suite.drop(theorem, weakened).violations == 0


def test_every_theorem_has_a_strategy_and_the_reverse() -> None:
    assert set(STRATEGIES) == set(theorems())


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
def test_every_hypothesis_is_dropped(theorem: Theorem) -> None:
    assert set(STRATEGIES[theorem.id].without) == {h.name for h in theorem.hypotheses}


def test_same_bytes_on_one_process_and_two() -> None:
    texts = []
    for jobs in (1, 2):
        verdicts = verify([ALL[0], T7], replace(SMALL, chunks=2), 7, jobs)
        texts.append(json.dumps(suite.report(verdicts, "quick", 7)))
    assert texts[0] == texts[1]


def test_an_interrupted_verify_ends_at_once_with_its_processes() -> None:
    """Ctrl-C once waited for all tasks that were left, minutes of them."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    long = Profile(chunks=2000, structures=400, fields=16, points=64)
    start, before = time.monotonic(), set(active_children())
    with pytest.raises(KeyboardInterrupt):
        verify([T7], long, 0, 2, interrupt)
    for process in set(active_children()) - before:
        assert wait([process.sentinel], 20)  # its exit code is the pool's to collect
    assert time.monotonic() - start < 60


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    """Not on the constants of whatever source files are loaded, which Hypothesis would mix in."""
    drawn: list[list[object]] = []
    for seed in (3, 3, 4):
        drawn.append([])
        find(STRATEGIES[T7.id].structures, lambda s: bool(drawn[-1].append(s)), seed, 30)
        exec(compile("ANOTHER = 271828", "another.py", "exec"), {})
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 20


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
def test_a_batch_is_a_function_of_its_structure(theorem: Theorem) -> None:
    strategy, structures = STRATEGIES[theorem.id], []
    find(strategy.structures, lambda s: bool(structures.append(s)), 0, 3)
    for structure in structures:
        one, two = (strategy.draw(structure, 2, 8) for _ in range(2))
        assert np.array_equal(one.measured, two.measured)
        assert repr(structure).startswith(type(structure).__name__)


def test_a_violation_is_shrunk_to_a_readable_one() -> None:
    """Half of T8's law: the first structure drawn is complicated, the one printed is not."""
    theorem = theorems()["T8-nonexpansive-euler"]
    part = suite.attack(replace(theorem, constant=theorem.law - Integer(1) / 4), SMALL)
    assert part.violations > 0
    assert part.violation.startswith("GradientStep(A=1x1 identity,")
    assert "seed=0)" in part.violation
    assert "1 against 0.75" in part.violation


def test_minimal_counterexamples_are_printed_and_break_the_law_visibly() -> None:
    (verdict,) = verify([T7], SMALL)
    for text in verdict.part.counterexamples.values():
        assert text is not None
        measured, law = text.split("): ")[1].split(" at ")[0].split(" against ")
        assert float(measured) > float(law) * (1 + suite.READABLE / 2)


def test_the_tied_law_fails_for_a_rounded_orthogonal_matrix() -> None:
    """An orthogonality defect of 1e-7 costs 5 %: the law is no certificate for stored weights."""
    from verification.strategies.tied import RoundedReflection

    rounded = STRATEGIES["T10-tied"].without["orthogonal"]
    trial = rounded.draw(RoundedReflection((1, 2, 3), 0.5, 0.11), *suite.FEW)
    ((defect,),) = trial.columns(["orthogonality_defect"])
    law = trial_laws.laws(theorems()["T10-tied"], trial)
    assert 0 < defect < 1e-6
    assert trial.measured.max() > law.max() * 1.05


def test_without_a_strategy_the_verdict_is_open() -> None:
    (verdict,) = verify([replace(T7, id="X1-mine")], SMALL)
    assert verdict.outcome == "undecided"
    assert suite.exit_code([verdict]) == 3
    assert verdict.proof == "symbolic"


def test_the_number_of_boxes_is_counted() -> None:
    (verdict,) = verify([theorems()["T10-flexible-switching"]], Profile(1, 1, 1, 4))
    assert verdict.proof == "interval"
    assert verdict.boxes >= 1
    assert any("box" in claim for claim, _ in verdict.part.steps)


@dataclass(frozen=True, repr=False)
class Nothing(Structure):
    seed: int = 0


def _with(monkeypatch: pytest.MonkeyPatch, theorem: Theorem, **changes) -> None:
    monkeypatch.setitem(STRATEGIES, theorem.id, replace(STRATEGIES[theorem.id], **changes))


def test_a_strategy_outside_the_hypotheses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, T9, structures=STRATEGIES[T9.id].without["slopes"].structures)
    with pytest.raises(UserError, match="slopes"):
        suite.attack(T9, SMALL)


def test_a_strategy_that_draws_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for empty in (st.nothing(), st.integers().filter(lambda _: False)):
        with pytest.raises(NothingDrawn):
            find(empty, lambda _: True, 0, 10)
        _with(monkeypatch, T9, structures=empty)
        with pytest.raises(UserError, match=r"T9-switching draws nothing from .*: widen"):
            suite.attack(T9, SMALL)


def test_a_strategy_whose_batches_are_empty_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    names = STRATEGIES[T7.id].draw(STRATEGIES[T7.id].sharp[0], 1, 4).facts
    nothing = Strategy(
        structures=st.builds(Nothing, st.integers(0, 9)),
        draw=lambda *_: Trial(dict.fromkeys(names, 0.0), np.zeros((0, 1))),
    )
    monkeypatch.setitem(STRATEGIES, T7.id, nothing)
    with pytest.raises(UserError, match="no field"):
        suite.attack(T7, SMALL)


def test_a_measurement_that_is_not_a_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = STRATEGIES[T7.id].draw

    def spoilt(*arguments) -> Trial:
        trial = draw(*arguments)
        return replace(trial, measured=np.full_like(trial.measured, np.nan))

    _with(monkeypatch, T7, draw=spoilt)
    with pytest.raises(UserError, match="not a number"):
        suite.attack(T7, SMALL)


def test_a_batch_of_another_shape_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number per field would be held against the laws of all fields."""
    draw = STRATEGIES[T7.id].draw

    def flat(*arguments) -> Trial:
        trial = draw(*arguments)
        return replace(trial, measured=trial.measured[:, 0])

    _with(monkeypatch, T7, draw=flat)
    with pytest.raises(UserError, match="give \\(fields, points\\)"):
        suite.attack(T7, SMALL)


def test_a_fact_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = STRATEGIES[T7.id].draw

    def poor(*arguments) -> Trial:
        trial = draw(*arguments)
        return replace(trial, facts={k: v for k, v in trial.facts.items() if k != "s_max"})

    _with(monkeypatch, T7, draw=poor)
    with pytest.raises(UserError, match="no fact 's_max'"):
        suite.attack(T7, SMALL)


@pytest.mark.parametrize("name", [T7.id, T9.id, "T10-tied"])
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ],
)
def test_a_torch_device_reports_the_same(name: str, device: str) -> None:
    """Of a law, and of the minimal violation of one that is 5 % too small."""
    theorem = theorems()[name]
    for law in (theorem.law, theorem.law * 19 / 20):
        mutant = replace(theorem, constant=law)
        here, there = (suite.attack(mutant, SMALL, 5, device=where) for where in (None, device))
        assert here == there
        assert bool(here.violations) == (law != theorem.law)
