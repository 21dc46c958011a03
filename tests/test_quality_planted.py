"""The quality of `verify`: what is planted in a law, or in the map it speaks of, is found.

Tables over all registered theorems: one without planted errors fails. An identity (its law is 0)
has nothing to make smaller: errors are planted in its map.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planted_laws import LARGER, SMALLER
from sympy import Rational

from theory import theorems
from theory.lattice import MAXIMUM_STEP
from theory.presnov import POTENTIAL_WEIGHT, SKEW_WEIGHT
from verification import suite
from verification.strategies.arithmetic import determinant, minus, over, plus, scaled
from verification.strategies.jacobians import identity
from verification.strategies.mass import _row_sums
from verification.strategies.rounding import Tracked
from verification.strategies.stages import layer
from verification.strategies.switching import composed
from verification.strategies.symmetry import _convolution
from verification.strategies.trial import EulerStep, Trial
from verification.suite import Profile

SMALL = Profile(chunks=1, structures=96, fields=4, points=16)
ALL = list(theorems().values())


# Errors in the map that is executed: what is replaced, and by what.


def _changed(**changes: Callable[[EulerStep], Any]) -> tuple[str, Callable[..., Tracked]]:
    """An Euler step with some of its parts changed."""

    def call(step: EulerStep, x: Tracked) -> Tracked:
        return execute(replace(step, **{name: change(step) for name, change in changes.items()}), x)

    return "verification.strategies.trial.EulerStep.__call__", call


def _not_transposed(step: EulerStep) -> Any:
    """A where A' belongs, if A is square."""
    square = step.inner.shape[-1] == step.inner.shape[-2]
    return step.inner if square and step.outer is not None else step.outer


def _backwards(steps: Any, *rest: Any) -> Trial:
    return composed(list(reversed(steps)), *rest)


STRATEGY = "verification.strategies"


def _in(module: str, name: str, planted: Callable[..., Any]) -> tuple[str, Callable[..., Any]]:
    return f"verification.strategies.{module}.{name}", planted


def _without_last(A: Any, *_: Any) -> Any:
    """A itself where A' belongs, if A is square."""
    return A if A.shape[-1] == A.shape[-2] else A.mT


def _itself(X: Any, *_: Any) -> Any:
    return X


def _first_shear_only(steps: Any, old: Any) -> Any:
    return minus(plus(steps, old), identity(old, old.value.shape[-1]))


def _with_a_border(*arguments: Any) -> Any:
    """A layer whose first entry is lost."""
    field = layer(*arguments)

    def cut(x: Tracked) -> Tracked:
        image = field(x)
        return scaled(np.arange(x.value.shape[1])[:, None] > 0, image)

    return cut


def _cut_off(taps: Any, size: int, *, circular: bool) -> Any:
    return _convolution(taps, size, circular=False)[0], np.zeros(len(taps))


execute = EulerStep.__call__
missing_adjoint = _changed(outer=_not_transposed)
wrong_sign = _changed(step=lambda step: -step.step)
twice_the_step = _changed(step=lambda step: 2 * step.step)

EXECUTED: dict[str, dict[str, tuple[str, Any]]] = {
    "T1-presnov": {
        "Lambda without the weight t": (f"{STRATEGY}.presnov.SKEW_WEIGHT", POTENTIAL_WEIGHT),
        "a weight t in U": (f"{STRATEGY}.presnov.POTENTIAL_WEIGHT", SKEW_WEIGHT),
    },
    "T1-presnov-uniqueness": {
        "a weight t in U": (f"{STRATEGY}.presnov.POTENTIAL_WEIGHT", SKEW_WEIGHT),
    },
    "T2-approximation": {"twice the inner matrix": _changed(inner=lambda step: 2 * step.inner)},
    "T2'-gradient-layer": {
        "missing adjoint": (
            f"{STRATEGY}.presnov_layers.outer",
            lambda A: A if A.shape[-1] == A.shape[-2] else A.mT,
        )
    },
    "T3-hamiltonian-lift": {
        "missing adjoint": (f"{STRATEGY}.hamiltonian_lift.adjoint", lambda c, w: (w, c)),
    },
    "B1-maximum-step": {
        "twice the step": (f"{STRATEGY}.lattice.MAXIMUM_STEP", 2 * MAXIMUM_STEP),
        "half the step": (f"{STRATEGY}.lattice.MAXIMUM_STEP", MAXIMUM_STEP / 2),
    },
    "T7-contractive-euler": {
        "missing adjoint": missing_adjoint,
        "sign": wrong_sign,
        "twice the step": twice_the_step,
    },
    "T8-nonexpansive-euler": {
        "missing adjoint": missing_adjoint,
        "sign": wrong_sign,
        "twice the step": twice_the_step,
    },
    "T8'-expansive-euler": {"twice the step": twice_the_step},
    "T8'-expansive-gradient-euler": {
        "twice the step": twice_the_step,
        "inner matrix twice": _changed(inner=lambda step: 2 * step.inner),
    },
    "T9-switching": {
        "missing adjoint": missing_adjoint,
        "sign": wrong_sign,
        "twice the step": twice_the_step,
    },
    "T10-flexible-switching": {
        "missing adjoint": missing_adjoint,
        "sign": wrong_sign,
        "twice the step": twice_the_step,
    },
    "T10-tied": {
        "missing adjoint": missing_adjoint,
        "twice the step": twice_the_step,
        "wrong order of substeps": ("verification.strategies.tied.composed", _backwards),
    },
    "T9-zero-padding": {"twice the step": twice_the_step, "sign": wrong_sign},
    "D8-naive": {"twice the step": twice_the_step},
    "T12-volume": {
        "both halves from the old state": _in("volume", "product", _first_shear_only),
        "determinant without signs": _in(
            "volume", "determinant", lambda X: determinant(Tracked(abs(X.value), X.error))
        ),
    },
    "T13-symplectic-shears": {"missing adjoint": _in("symplectic", "_outer", _without_last)},
    "T13-implicit-midpoint": {
        "missing adjoint": _in("symplectic", "_outer", _without_last),
        "explicit": _in("symplectic", "solve", lambda M, B: B),
    },
    "T14-mass": {
        "transpose left out": _in("mass", "_row_sums", lambda size, less: _row_sums(size, 0.0))
    },
    "T14-projection": {"not divided": _in("mass", "over", lambda x, y: x)},
    "T15-first-integral": {"transpose left out": _in("invariants", "minus_transpose", _itself)},
    "T15-discrete-gradient": {
        "half of the correction": _in("invariants", "over", lambda x, y: scaled(0.5, over(x, y)))
    },
    "T15-gauss-quadratic": {
        "transpose left out": _in("invariants", "minus_transpose", _itself),
        "explicit": _in("invariants", "solve", lambda M, B: B),
    },
    "T15-relaxation": {"factor 2": _in("spheres", "over", lambda x, y: scaled(2.0, over(x, y)))},
    "T15-projection": {"squares for roots": _in("spheres", "root", lambda x: x)},
    "T16-equivariance": {"border": _in("symmetry", "layer", _with_a_border)},
    "T16-shift": {"cut off at the border": _in("symmetry", "_convolution", _cut_off)},
}


def _cases(table: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(
        ("name", "planted"),
        [
            pytest.param(name, planted, id=f"{name}: {kind}")
            for name, errors in table.items()
            for kind, planted in errors.items()
        ],
    )


def test_every_theorem_is_in_a_table() -> None:
    """A law that is sharp must also be caught when it is too large."""
    identities = {t.id for t in ALL if t.constant is None or t.constant == 0}
    assert set(SMALLER) | set(EXECUTED) == {t.id for t in ALL}
    assert set(SMALLER) == {t.id for t in ALL} - identities
    assert set(LARGER) == {t.id for t in ALL if t.sharp} - identities


@_cases(SMALLER)
def test_a_law_that_is_too_small_is_violated(name: str, planted: Callable[[Any], Any]) -> None:
    theorem = theorems()[name]
    assert suite.attack(replace(theorem, constant=planted(theorem.law)), SMALL).violations > 0


@_cases(SMALLER)
def test_the_proof_is_about_the_law(name: str, planted: Callable[[Any], Any]) -> None:
    theorem = theorems()[name]
    mutant = replace(theorem, constant=planted(theorem.law))
    assert mutant.law != theorem.law
    assert not mutant.proved()


@pytest.mark.parametrize("hundredths", [99, 101])
@pytest.mark.parametrize("name", SMALLER)
def test_a_hundredth_of_the_law_is_missed_by_its_proof(name: str, hundredths: int) -> None:
    theorem = theorems()[name]
    assert not replace(theorem, constant=theorem.law * Rational(hundredths, 100)).proved()


@pytest.mark.parametrize("name", LARGER)
def test_a_law_that_is_too_large_is_not_attained(name: str) -> None:
    theorem = theorems()[name]
    part = suite.sharpen(replace(theorem, constant=LARGER[name](theorem.law)))
    assert part.violations == 0
    assert part.sharpness is not None
    assert part.sharpness < suite.ATTAINED


@_cases(EXECUTED)
def test_an_error_in_the_map_is_found(
    name: str, planted: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*planted)
    assert suite.attack(theorems()[name], SMALL).violations > 0


@pytest.mark.parametrize(
    ("name", "dropped"),
    [(theorem.id, hypothesis.name) for theorem in ALL for hypothesis in theorem.hypotheses],
)
def test_a_dropped_hypothesis_is_missed(name: str, dropped: str) -> None:
    theorem = theorems()[name]
    left = tuple(h for h in theorem.hypotheses if h.name != dropped)
    assert suite.drop(replace(theorem, hypotheses=left), dropped).violations > 0


def test_the_whole_command_fails_for_a_planted_error() -> None:
    """End to end: violations, a proof that no longer holds, exit code 1."""
    theorem = theorems()["T7-contractive-euler"]
    mutant = replace(theorem, constant=SMALLER[theorem.id]["max to min"](theorem.law))
    (verdict,) = suite.verify([mutant], SMALL)
    assert any("violations" in reason for reason in verdict.failures)
    assert any("proof step fails" in reason for reason in verdict.failures)
    assert suite.exit_code([verdict]) == 1
