"""Every law: its proof, its numeric forms, and an independent computation of what it bounds."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from sympy import Ge, Integer, Le, Matrix, Rational, Symbol

from theory import balls, theorems
from theory.algebra import ratio
from theory.nonexpansive import contractive_euler, expansive_euler, nonexpansive_euler
from theory.projections import (
    flexible,
    largest_step,
    measured,
    nonexpansive,
    prescribed,
)
from theory.runge_kutta import circle_radius
from theory.switching import (
    boundary,
    flexible_boundary,
    flexible_switching,
    maximum,
    paper_flexible,
    paper_switching,
    switching,
)

HALF = ratio(1, 2)
ALL = list(theorems().values())
STEPS = [(theorem, step) for theorem in ALL for step in theorem.proof]


@pytest.mark.parametrize(("theorem", "step"), STEPS, ids=lambda x: getattr(x, "id", None))
def test_proof_step_holds(theorem, step) -> None:
    assert step.holds(theorem)


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
def test_is_complete(theorem) -> None:
    assert theorem.statement
    assert theorem.words
    assert theorem.source
    assert theorem.proof
    names = [hypothesis.name for hypothesis in theorem.hypotheses]
    assert names
    assert len(set(names)) == len(names)


def _values(theorem, rng: np.random.Generator) -> dict[str, float]:
    """Numbers that the assumptions of the symbols admit."""
    values = {}
    for symbol in sorted(theorem.law.free_symbols, key=str):  # the same in every process
        assert isinstance(symbol, Symbol)
        drawn = rng.uniform(0.1, 2) if symbol.is_nonnegative else rng.uniform(-2, 2)
        values[symbol.name] = float(rng.integers(1, 5)) if symbol.is_integer else float(drawn)
    if {"mu", "L"} <= set(values):  # no field contracts or expands faster than its constant
        values["mu"] = max(-values["L"], min(values["mu"], values["L"]))
    return values


@pytest.mark.parametrize("theorem", ALL, ids=lambda theorem: theorem.id)
@pytest.mark.parametrize("seed", range(5))
def test_backends_agree_with_the_enclosure(theorem, seed: int) -> None:
    values = _values(theorem, np.random.default_rng(seed))
    low, high = balls.lower(theorem.law, values), balls.upper(theorem.law, values)
    assert low <= high <= math.nextafter(math.nextafter(low, math.inf), math.inf)
    margin = 1e-12 * (1 + abs(high))
    assert low - margin <= theorem.numeric("math")(**values) <= high + margin
    if not values:  # an identity
        return
    arrays = {name: np.full(3, value) for name, value in values.items()}
    on_arrays = np.asarray(theorem.numeric("numpy")(**arrays))
    assert on_arrays.shape == ((3,) if values else ())
    assert (np.abs(on_arrays - high) <= margin).all()
    tensors = {name: torch.full((3,), v, dtype=torch.float64) for name, v in values.items()}
    on_tensors = torch.as_tensor(theorem.numeric("torch")(**tensors))
    assert (on_tensors - high).abs().max() <= margin


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="jax"):
        contractive_euler.numeric("jax")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_contractive_law_bounds_and_attains_all_slope_patterns(shape, seed: int) -> None:
    """The norm of I - h A'DA over all D with entries a and 1, by enumeration."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal(shape)
    a, step = rng.uniform(0, 1), rng.uniform(-1, 3) / np.linalg.norm(A, 2) ** 2
    norms = [
        np.linalg.norm(np.eye(shape[1]) - step * A.T @ np.diag(D) @ A, 2)
        for D in itertools.product((a, 1.0), repeat=shape[0])
    ]
    s_min = np.linalg.svd(A)[1][-1] if shape[0] >= shape[1] else 0.0
    law = contractive_euler.numeric()(a=a, h=step, s_min=s_min, s_max=np.linalg.norm(A, 2))
    assert max(norms) <= law * (1 + 1e-12)
    assert max(norms) >= law * (1 - 1e-12)


@pytest.mark.parametrize("S", [1, 2, 4])
def test_paper_law_is_one_on_its_boundary_and_below_under_it(S: int) -> None:
    h_1 = 0.7 * S
    edge = _at(boundary, a=0.5, h_1=h_1, S=S)
    assert _at(paper_switching, a=0.5, h_1=h_1, h_2=edge, S=S) == pytest.approx(1, abs=1e-12)
    assert _at(paper_switching, a=0.5, h_1=h_1, h_2=0.9 * edge, S=S) < 1
    assert _at(paper_switching, a=0.5, h_1=h_1, h_2=1.1 * edge, S=S) > 1


def _at(expression, **values: float) -> float:
    return balls.upper(expression, values)


@pytest.mark.parametrize("S", [1, 2, 3, 8])
@pytest.mark.parametrize("a", [0.25, 0.5, 0.9])
def test_maximum_of_the_boundary_against_a_grid(S: int, a: float) -> None:
    grid = np.linspace(0, 2 * a * S, 2001)
    values = S * ((1 - 2 * a * grid / S + (grid / S) ** 2) ** -0.5 - 1)
    peak = _at(maximum, a=a, S=S)
    assert values.max() <= peak * (1 + 1e-12)
    assert values.max() >= peak * (1 - 1e-5)
    assert grid[values.argmax()] == pytest.approx(a * S, abs=2e-3 * S)


def test_regions_nest_with_substeps_below_the_threshold_only() -> None:
    def at(a: float, S: int) -> float:
        return _at(boundary, a=a, h_1=0.4, S=S)

    assert at(0.5, 1) < at(0.5, 2) < at(0.5, 4) < 0.5 * 0.4
    assert at(0.9, 1) > at(0.9, 2) > at(0.9, 4) > 0.9 * 0.4


def test_the_published_box_and_its_overhang() -> None:
    orthogonal = {"a": 0.5, "s_min": 1.0, "s_max": 1.0, "w_max": 1.0}
    for h_1 in (0.11, 1.89):
        for h_2 in (-1.9, 0.05):
            assert _at(flexible_switching.law, h_1=h_1, h_2=h_2, **orthogonal) <= 1
            if h_2 > 0:
                assert _at(paper_flexible, h_1=h_1, h_2=h_2) <= 1
    assert balls.lower(paper_flexible, {"h_1": 1.9, "h_2": 0.05}) > 1
    assert _at(flexible_boundary, h_1=1.0) == pytest.approx(1 / 3)


def test_non_expansive_steps_are_admitted_up_to_two_over_the_square() -> None:
    edge = 2 / 1.5**2
    assert nonexpansive_euler.admits(h=math.nextafter(edge, 0), s_max=1.5)
    assert not nonexpansive_euler.admits(h=edge * (1 + 1e-9), s_max=1.5)
    assert not nonexpansive_euler.admits(h=-1e-9, s_max=1.5)


@pytest.mark.parametrize("s_max", [1.1, 1.3, 0.7, 3.3])
def test_a_step_is_admitted_for_the_number_that_it_is(s_max: float) -> None:
    """h s_max^2 in floating point is 2 for steps that are beyond."""
    step = 2 / s_max**2
    for h in (step, math.nextafter(step, 0), math.nextafter(step, 9)):
        exactly = Fraction(h) * Fraction(s_max) ** 2 <= 2
        assert nonexpansive_euler.admits(h=h, s_max=s_max) == exactly


def test_what_is_too_large_or_no_number_is_not_admitted() -> None:
    assert not nonexpansive_euler.admits(h=1.0, s_max=1e200)
    assert nonexpansive_euler.admits(h=0.0, s_max=1e200)
    assert not nonexpansive_euler.admits(h=math.nan, s_max=1.0)
    assert not nonexpansive_euler.admits(h=0.0, s_max=math.inf)


ADMISSIBLE = [theorem for theorem in ALL if theorem.admissible is not None]


@pytest.mark.parametrize("theorem", ADMISSIBLE, ids=lambda theorem: theorem.id)
def test_admissible_steps_are_those_of_constant_at_most_one(theorem) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        values = _values(theorem, rng)
        values["a"] = rng.uniform(0.1, 1)
        values |= {name: rng.uniform(0, 3) for name in ("h", "h_1")}
        values |= {name: rng.uniform(0.5, 1.2) for name in ("s_min", "s_max", "w_max")}
        values["s_max"] = max(values["s_min"], values["s_max"])
        names = {str(symbol) for symbol in theorem.law.free_symbols}
        law = theorem.numeric("math")(**{name: values[name] for name in names})
        admitted = theorem.admits(**values)
        outcomes.add(admitted)
        if admitted:
            assert law <= 1 + 1e-12
        elif values.get("h_1", 0) <= 2:
            assert law >= 1 - 1e-12
    assert outcomes == {True, False}


@pytest.mark.parametrize("theorem", ADMISSIBLE, ids=lambda theorem: theorem.id)
def test_a_proof_is_about_the_admissible_set(theorem) -> None:
    """One condition a hair too weak is enough."""
    conditions = sorted(theorem.admissible.atoms(Ge, Le), key=str)
    assert conditions
    for condition in conditions:
        hair = Rational(1, 1000)
        sign = 1 if isinstance(condition, Le) else -1
        weaker = condition.func(condition.lhs, condition.rhs + sign * hair, evaluate=False)
        mutant = replace(theorem, admissible=theorem.admissible.subs(condition, weaker))
        assert mutant.admissible != theorem.admissible
        assert not mutant.proved()


FORMS = [(theorem, name) for theorem in ALL for name in theorem.forms]


@pytest.mark.parametrize(("theorem", "form"), FORMS, ids=lambda x: getattr(x, "id", x))
def test_a_proof_is_about_the_other_forms(theorem, form: str) -> None:
    changed = {**theorem.forms, form: theorem.forms[form] * Rational(999, 1000)}
    assert not replace(theorem, forms=changed).proved()


def test_laws_without_an_admissible_set_say_so() -> None:
    with pytest.raises(ValueError, match="T8'-expansive-euler"):
        expansive_euler.admits(h=1.0, s_max=1.0)


def test_hypotheses_are_predicates_of_numbers() -> None:
    slopes = next(hy for hy in contractive_euler.hypotheses if hy.name == "slopes")
    assert slopes.holds(a=0.5, slope_low=0.5, slope_high=1.0)
    assert not slopes.holds(a=0.5, slope_low=math.nextafter(0.5, 0), slope_high=1.0)
    assert not slopes.holds(a=-0.5, slope_low=0.0, slope_high=1.0)
    with pytest.raises(KeyError):
        slopes.holds(a=0.5)


RAW = np.concatenate([np.linspace(-5, 5, 41), np.random.default_rng(0).uniform(-3, 3, 200)])


def test_projected_non_expansive_steps_satisfy_their_law_in_float32() -> None:
    (steps,) = nonexpansive.numeric("torch")(h=torch.tensor(RAW, dtype=torch.float32))
    for step in steps.tolist():
        assert _at(nonexpansive_euler.law, h=step, s_max=1.0) <= 1


def test_projected_prescribed_steps_satisfy_the_papers_law_in_float32() -> None:
    contractive, expansive = prescribed.numeric("torch")(h_C=torch.tensor(RAW, dtype=torch.float32))
    for h_1, h_2 in zip(contractive.tolist(), expansive.tolist(), strict=True):
        assert _at(paper_switching, a=0.5, S=2, h_1=h_1, h_2=h_2) <= 1
        assert _at(paper_switching, a=0.5, S=2, h_1=h_1, h_2=h_2) >= 1 - 1e-5
        assert _at(switching.law, a=0.5, S=2, h_1=h_1, h_2=h_2, s_min=1, s_max=1, w_max=1) <= 1


def test_projected_flexible_steps_satisfy_their_law_in_float32() -> None:
    raw = torch.tensor(RAW, dtype=torch.float32)
    h_1, h_2 = flexible.numeric("torch")(h_1=raw[:, None], h_2=raw[None, :])
    orthogonal = {"a": 0.5, "s_min": 1.0, "s_max": 1.0, "w_max": 1.0}
    for first in h_1.unique().tolist():
        for second in [*h_2.unique().tolist()[::10], float(h_2.max())]:
            assert _at(flexible_switching.law, h_1=first, h_2=second, **orthogonal) <= 1


@pytest.mark.parametrize("norm", [0.01, 1 / 3, 1.0, 7.0, 205.0])
def test_the_largest_step_of_a_measured_norm_is_admissible_in_float32_and_no_smaller(norm: float):
    (step,) = largest_step.numeric("torch")(s_max=torch.tensor(norm))
    assert _at(nonexpansive_euler.law, h=float(step), s_max=norm) <= 1
    assert _at(nonexpansive_euler.law, h=1.00001 * float(step), s_max=norm) > 1


def test_projections_leave_admissible_steps_where_they_are() -> None:
    assert nonexpansive.numeric("math")(h=1.5) == (1.5,)
    assert flexible.numeric("math")(h_1=1.0, h_2=-0.5) == (1.0, -0.5)
    assert prescribed.numeric("math")(h_C=0.6)[0] == 0.6


def test_circle_radii_of_methods() -> None:
    """Euler in two halves has radius 2, and a weight 0 leaves no circle."""
    halves = Matrix([[0, 0], [HALF, 0]]), Matrix([HALF, HALF])
    assert circle_radius(*halves) == 2
    with pytest.raises(ValueError, match="positive"):
        circle_radius(Matrix([[0, 0], [HALF, 0]]), Matrix([0, 1]))  # explicit midpoint


IDENTITIES = [theorem for theorem in ALL if theorem.constant == 0]


@pytest.mark.parametrize("theorem", IDENTITIES, ids=lambda theorem: theorem.id)
def test_an_identity_with_another_constant_has_no_proof(theorem) -> None:
    assert theorem.proved()
    assert not replace(theorem, constant=Integer(1)).proved()


@pytest.mark.parametrize("seed", range(20))
def test_measured_switches_satisfy_their_law_in_float32_and_use_it_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(0.1, 2, 2))
    w, slope = rng.uniform(0.05, 2), rng.uniform(0.01, 1)
    spectra = {"s_min": float(low), "s_max": float(high), "w_max": float(w)}
    for raw in ((np.inf, np.inf), (rng.uniform(-1, 3), rng.uniform(-1, 3))):
        down, up = measured.numeric("math")(a=slope, h_C=raw[0], h_E=raw[1], **spectra)
        h_1, h_2 = float(np.float32(down)), float(np.float32(up))
        assert h_1 >= 0
        assert h_2 >= 0
        law = _at(switching.law, a=slope, S=1, h_1=h_1, h_2=h_2, **spectra)
        assert law <= 1
        if np.isinf(raw[0]):
            assert law > 1 - 1e-5
            assert h_1 > 1.99999 / (high**2 + slope * low**2)
        stretched = _at(switching.law, a=slope, S=1, h_1=h_1, h_2=h_2 * 1.01 + 0.01, **spectra)
        assert not np.isinf(raw[0]) or stretched > 1  # the plant: a little more is too much
