"""The quality of `verify`: what is planted in a law, or in the map it speaks of, is found.

Tables over all registered theorems: one without planted errors fails. An identity (its law is 0)
has nothing to make smaller: errors are planted in its map.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sympy import Abs, Max, Min, Rational, sqrt

from theory import theorems
from theory.approximation import errors, factors, telescoping
from theory.budget import decay, growth
from theory.curvature import curvature as bend
from theory.curvature import slope
from theory.facts import S, a, h, h_1, h_2, s_max, s_min, w_max
from theory.flows import nu, time
from theory.invariants import rate
from theory.lattice import MAXIMUM_STEP
from theory.margin import lipschitz, margin
from theory.network import std_min
from theory.presnov import POTENTIAL_WEIGHT, SKEW_WEIGHT
from theory.presnov_layers import curvature, delta, shift
from theory.runge_kutta import L, mu
from theory.splitting import N, kappa_f, kappa_g
from theory.splitting import nu as growth_bound
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


def _max_to_min(law: Any) -> Any:
    return law.replace(Max, Min)


def _substitute(**changes: Any) -> Callable[[Any], Any]:
    def mutate(law: Any) -> Any:
        by_name = {str(symbol): symbol for symbol in law.free_symbols}
        values = {by_name[name]: value for name, value in changes.items()}
        return law.subs(values, simultaneous=True)

    return mutate


def _growth_left_out(law: Any) -> Any:
    return law.subs(growth_bound, 0)


def _without_a_piece(law: Any) -> Any:
    return law.subs({symbol: 0 for symbol in law.free_symbols if str(symbol) == "time_1"})


SMALLER = {  # each makes the law too small somewhere: fields must be found that exceed it
    "T2-approximation": {
        "half": lambda law: law / 2,
        "factors left out": lambda law: law.subs(dict.fromkeys(factors, 1)),
        "the factors of earlier pieces": lambda law: telescoping(errors[::-1], factors[::-1]),
        "largest error only": lambda law: Max(*errors),
    },
    "T2-lie-trotter": {
        "half": lambda law: law / 2,
        "order 2": lambda law: law / N,
        "growth left out": _growth_left_out,
    },
    "T2-strang": {
        "half": lambda law: law / 2,
        "order 3": lambda law: law / N,
        "constants exchanged": lambda law: law.subs(
            {kappa_f: kappa_g, kappa_g: kappa_f}, simultaneous=True
        ),
        "growth left out": _growth_left_out,
    },
    "T2-obstruction": {"too strong": lambda law: law * 6 / 5},
    "T2'-presnov-networks": {
        "half": lambda law: law / 2,
        "square of delta": lambda law: law * delta,
    },
    "R1-difference-of-convex": {  # a lower bound: too strong
        "curvature left out": lambda law: shift,
        "half the curvature": lambda law: shift - curvature / 2,
    },
    "T4-margin-certificate": {
        "without sqrt 2": lambda law: margin / lipschitz,
        "squared constant": _substitute(L=sqrt(lipschitz)),
    },
    "R2-gradient-radius": {
        "curvature left out": _substitute(curvature=0 * bend),
        "half the curvature": _substitute(curvature=bend / 2),
        "half the slope": _substitute(slope=slope / 2),
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
    "T5-flow": {
        "sign": _substitute(nu=-nu),
        "half": _substitute(time=time / 2),
        "always 1": lambda law: law * 0 + 1,
    },
    "T6-switching-flow": {
        "a piece left out": _without_a_piece,
        "square root": sqrt,
        "inverse": lambda law: 1 / law,
    },
    "T6-euler-budget": {
        "decay twice": _substitute(decay=2 * decay),
        "growth half": _substitute(growth=growth / 2),
        "growth left out": _substitute(growth=0 * growth),
        "sign": lambda law: 1 / law,
    },
    "T8-circle-contractive": {"below 1": lambda law: law * 3 / 4},
    "T8-b-stable": {"below 1": lambda law: law * 3 / 4},
    "T8-lipschitz-euler": {
        "sign": _substitute(h=-h),
        "rate twice": _substitute(mu=2 * mu),
        "half": _substitute(h=h / 2),
        "square left out": lambda law: law.subs(L**2, L),
    },
    "T9-zero-padding": {
        "the paper's assumption": _substitute(s_min=s_max),
        "expansion half": _substitute(h_2=h_2 / 2),
        "contraction twice": _substitute(h_1=2 * h_1),
        "max to min": _max_to_min,
    },
    "T13-no-vanishing-gradient": {"above 1": lambda law: law * 5 / 4},
    "T15-euler-growth": {
        "sign": lambda law: sqrt(2 - law**2),
        "half": _substitute(rate=rate / 2),
        "always 1": lambda law: law * 0 + 1,
    },
    "D8-naive": {
        "one norm left out": _substitute(w_max=w_max / w_max),
        "without the identity": lambda law: law - Rational(1, 2),
        "half": _substitute(s_max=s_max / 2),
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
    "T2-approximation": lambda law: law * 2,
    "T2-lie-trotter": lambda law: law * 2,
    "T2-strang": lambda law: law * 2,
    "T2-obstruction": lambda law: law / 2,
    "T2'-presnov-networks": lambda law: law * 2,
    "R1-difference-of-convex": lambda law: law / 2,
    "T4-margin-certificate": lambda law: law / 2,
    "R2-gradient-radius": lambda law: law / 2,
    "T7-contractive-euler": lambda law: Abs(1 - h * a * s_min**2) + Abs(1 - h * s_max**2),
    "T8-nonexpansive-euler": lambda law: law * 2,
    "T8'-expansive-euler": lambda law: law.subs(s_max, 2 * s_max),
    "T8'-expansive-gradient-euler": lambda law: law.subs(h, 2 * h),
    "T9-switching": lambda law: law * 2,
    "T10-flexible-switching": lambda law: law * 2,
    "T10-tied": lambda law: law * 2,
    "T11-network": lambda law: law * 2,
    "T5-flow": lambda law: law * 2,
    "T6-switching-flow": lambda law: law * 2,
    "T6-euler-budget": lambda law: law * 2,
    "T8-circle-contractive": lambda law: law * 2,
    "T8-b-stable": lambda law: law * 2,
    "T8-lipschitz-euler": lambda law: law * 2,
    "T9-zero-padding": lambda law: law * 2,
    "T13-no-vanishing-gradient": lambda law: law / 2,
    "T15-euler-growth": lambda law: law * 2,
    "D8-naive": lambda law: law * 2,
}


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
        "transpose left out": _in(
            "mass", "_row_sums", lambda size, less_columns: _row_sums(size, less_columns=False)
        )
    },
    "T14-projection": {"not divided": _in("mass", "over", lambda x, y: x)},
    "T15-first-integral": {"transpose left out": _in("invariants", "minus_transpose", lambda X: X)},
    "T15-discrete-gradient": {
        "half of the correction": _in("invariants", "over", lambda x, y: scaled(0.5, over(x, y)))
    },
    "T15-gauss-quadratic": {
        "transpose left out": _in("invariants", "minus_transpose", lambda X: X),
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
