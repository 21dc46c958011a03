"""Derivation for SymPy fields: every verdict, every refusal, a budget that ends, planted errors."""

import math
import threading
import time
from typing import Any

import pytest
from sympy import (
    Abs,
    Add,
    Integer,
    Matrix,
    Max,
    Piecewise,
    Rational,
    Symbol,
    cos,
    exp,
    nan,
    oo,
    sin,
    sqrt,
    symbols,
    tanh,
)

from dsnn.errors import UserError
from theory import Field, activation, derive
from theory.derivation import decided_property, lipschitz, one_sided
from theory.limited import OutOfTime, within
from theory.steps import admissible
from verification import derive as derive_with_test

q, p, c, r = symbols("q p c r", real=True)
loose = Symbol("q")  # not known to be real: sqrt(q^2) / q is the sign of q, and SymPy says 0' = 0
sigma = activation("sigma", 0, 1)
OSCILLATOR = Field((q, p), (p - c * q, -sigma(q) - c * p), {c: (1, 2)}, one_sided=-c)
UNFINISHED = "not finished within the budget"


def test_each_verdict_with_its_evidence() -> None:
    found = derive(OSCILLATOR)
    assert found.one_sided == Rational(-1, 2)
    assert found.constants["one-sided constant"].point[c] == 1
    refuted = found.declared["one-sided constant <= -c"]
    assert refuted.verdict == "refuted"
    assert "exceeded by 1/2" in str(refuted)
    assert found.conserved["gradient"].verdict == "refuted"
    assert found.steps.theorem == "T8-lipschitz-euler"
    # h = -2 nu / L^2 with L^2 the exact norm at c = 2, slope 0: (9 + sqrt 17) / 2
    assert 0 < found.steps.largest <= 2 / (9 + sqrt(17))
    assert found.steps.largest > Rational(152, 1000)
    assert derive(Field((q,), (-(q**3),))).constants["one-sided constant"].verdict == "open"
    assert derive(OSCILLATOR, "implicit-midpoint").steps.largest == oo


@pytest.mark.parametrize(
    ("velocity", "kept", "lost"),
    [
        ((p, -q), {"skew", "norm", "volume", "hamiltonian"}, {"gradient", "mass"}),
        ((p, -sin(q)), {"volume", "hamiltonian"}, {"gradient", "skew", "norm", "mass"}),
        ((-q, -2 * p), {"gradient"}, {"skew", "norm", "mass", "volume", "hamiltonian"}),
        ((sigma(q), -sigma(q)), {"mass"}, {"gradient", "skew", "norm", "volume", "hamiltonian"}),
        ((p * tanh(q), -q * tanh(q)), {"norm"}, {"gradient", "mass", "volume"}),
    ],
)
def test_what_is_conserved(velocity: Any, kept: set[str], lost: set[str]) -> None:
    found = {name: decided_property(Field((q, p), velocity), name).verdict for name in kept | lost}
    assert found == dict.fromkeys(kept, "proved") | dict.fromkeys(lost, "refuted")


def test_integrals_and_a_planted_wrong_one() -> None:
    energy = p**2 / 2 - cos(q)
    pendulum = Field((q, p), (p, -sin(q)), integrals={"H": energy, "wrong": energy + q})
    found = derive(pendulum).conserved
    assert found["H"].verdict == "proved"
    assert found["wrong"].verdict == "refuted"
    assert found["wrong"].point[p] != 0


def test_the_constants_are_the_exact_ones() -> None:
    linear = Field((q, p), (3 * p, -q), {c: (0, 1)})
    assert one_sided(linear).upper == one_sided(linear).lower == 1
    assert lipschitz(linear).upper == lipschitz(linear).lower == 3
    box = one_sided(Field((q,), (-exp(q),), {q: (0, 1)}))
    assert -1 <= box.upper < Rational(-99, 100)
    assert box.lower <= -1


@pytest.mark.parametrize(
    "jump",
    [Piecewise((0, loose < 0), (1, True)), sqrt(loose**2) / loose, 1 / loose],
    ids=str,
)
def test_a_jump_has_no_constant(jump: Any) -> None:
    """Its derivative is 0 or negative on both sides: a bound from that would be wrong."""
    found = derive(Field((loose, p), (jump, -p), {loose: (-1, 1), p: (-1, 1)}))
    assert found.constants["one-sided constant"].verdict == "open"
    assert found.constants["Lipschitz constant"].verdict == "open"
    assert found.conserved["gradient"].verdict == "open"
    assert found.steps.largest == 0


@pytest.mark.parametrize(
    "velocity",
    [
        (Abs(q + p), Piecewise((q + p, q + p >= 0), (-q - p, True))),
        (Max(q + p, -q - p), Abs(q + p)),
    ],
    ids=str,
)
def test_a_kink_refutes_nothing(velocity: Any) -> None:
    """Both entries are |q + p|, whose derivatives are written differently where q + p = 0."""
    found = derive(Field((q, p), velocity)).conserved["gradient"]
    assert found.verdict == "open"
    assert "write it as an activation" in found.text
    integral = {"nothing": velocity[0] - velocity[1]}
    still = derive(Field((q, p), (Integer(1), q), integrals=integral))
    assert still.conserved["nothing"].verdict == "open"


@pytest.mark.parametrize(
    ("assumed", "word", "ends"),
    [
        ({"positive": True}, "positive", None),
        ({"positive": True}, "positive", (0, 1)),
        ({"nonnegative": True}, "nonnegative", (-1, 1)),
        ({"negative": True}, "negative", (-1, 1)),
        ({"nonpositive": True}, "nonpositive", (-1, 1)),
        ({"nonzero": True}, "nonzero", (-1, 1)),
        ({"integer": True}, "an integer", (0, 1)),
        ({"irrational": True}, "an integer", (0, 1)),
        ({"noninteger": True}, "an integer", (0, 1)),
        ({"imaginary": True}, "no real number", (0, 1)),
        ({"commutative": False}, "no real number", (0, 1)),
        ({"extended_nonnegative": True}, "nonnegative", None),
        ({"extended_nonpositive": True}, "nonpositive", (-1, 1)),
        ({"polar": True}, "polar", (-1, 1)),
        ({"integer": True}, "an integer", (Rational(1, 2), Rational(1, 2))),
        ({"odd": True}, "an integer", (2, 2)),
    ],
)
def test_a_symbol_is_assumed_to_be_no_more_than_its_range(
    assumed: dict[str, bool], word: str, ends: Any
) -> None:
    """SymPy has simplified by it: -|x| was -x for a positive x, and contracts on no other."""
    x = Symbol("x", **assumed)
    with pytest.raises(ValueError, match=f"x is declared {word}.*: declare it real=True only"):
        Field((x,), (-Abs(x),), {} if ends is None else {x: ends}, one_sided=Integer(-1))


def test_what_the_range_says_may_be_assumed() -> None:
    n = Symbol("n", integer=True)
    assert Field((q,), (-n * q,), {n: (2, 2)}).ranges[n] == (2, 2)
    x, c = Symbol("x", nonnegative=True), Symbol("c", positive=True)
    field = Field((x,), (-c * Abs(x),), {x: (0, 1), c: (1, 2)}, one_sided=-c)
    assert derive(field).declared["one-sided constant <= -c"].verdict == "proved"


def test_two_slopes_at_one_place_refute_nothing() -> None:
    """sigma(q (1 + p)) - sigma(q + q p) is 0, though its slopes look independent."""
    velocity = sigma(q * (1 + p)) - sigma(q + q * p), Integer(0)
    nothing = Field((q, p), velocity, {q: (-1, 1), p: (-1, 1)}, one_sided=Integer(0))
    assert derive(nothing).declared["one-sided constant <= 0"].verdict == "open"
    one = Field((q,), (sigma(q) - sigma(q + c - 1),), {c: (1, 1)}, one_sided=Integer(0))
    assert derive(one).declared["one-sided constant <= 0"].verdict == "open"
    apart = Field((q,), (sigma(2 * q) - sigma(q),), one_sided=Rational(1))
    assert derive(apart).declared["one-sided constant <= 1"].verdict == "refuted"


@pytest.mark.parametrize("real", [True, None])
@pytest.mark.parametrize("name", ["slope_0", "_slope_0", "value_0"])
def test_a_parameter_keeps_its_range_whatever_its_name(name: str, real: bool | None) -> None:
    """Slopes, and the sines of what is unbounded, become symbols of their own."""
    own = Symbol(name, real=real)
    field = Field((q,), (own * sigma(q) + own * sin(q) - q,), {own: (5, 6)})
    found = derive(field).constants["one-sided constant"]
    assert found.verdict == "proved"
    assert found.point[own] == 6
    assert derive(field).one_sided >= 11 - Rational(1, 1000)


def test_a_single_value_is_not_rounded_to_refute() -> None:
    """The double nearest to 1/10 is above it."""
    tenth = Field((q,), (c**2 * q,), {c: (Rational(1, 10), Rational(1, 10))}, Rational(1, 100))
    assert derive(tenth).declared["one-sided constant <= 1/100"].verdict == "open"


@pytest.mark.parametrize("slope", [math.inf, -math.inf, math.nan, oo])
def test_a_slope_that_is_not_finite_is_refused(slope: Any) -> None:
    """SymPy makes the fraction 0 of such floats."""
    with pytest.raises(ValueError, match="give two rational numbers"):
        activation("steep", 0, slope)
    with pytest.raises(ValueError, match="give two rational numbers"):
        activation("steep", slope, 1)


def test_what_overflows_has_no_bound() -> None:
    found = one_sided(Field((q,), (exp(1000 * q),), {q: (0, 1)}))
    assert found.upper == oo
    assert found.reason


@pytest.mark.parametrize("number", [oo, -oo, nan])
def test_no_constant_of_what_is_not_finite(number: Any) -> None:
    found = derive(Field((q,), (number,)))
    assert {finding.verdict for finding in found.constants.values()} == {"open"}
    assert found.conserved["gradient"].verdict == "open"


def test_a_budget_ends() -> None:
    started = time.monotonic()
    with pytest.raises(OutOfTime):
        within(0.2, time.sleep, 30)
    angles = symbols("x0:7", real=True)
    big = Add(*map(sin, angles)) ** 12
    slow = Field(angles, tuple(big.diff(x) for x in angles), dict.fromkeys(angles, (-1, 1)))
    found = derive(slow, budget_seconds=0.5)
    assert time.monotonic() - started < 20  # of which starting the process is the most
    assert UNFINISHED in found.constants["one-sided constant"].text
    assert found.conserved["volume"].verdict == "open"
    assert found.steps.largest == 0


def test_a_budget_may_be_without_end() -> None:
    threads = threading.excepthook
    failed: list[Any] = []
    threading.excepthook = failed.append
    try:
        assert within(math.inf, abs, -2) == 2
    finally:
        threading.excepthook = threads
    assert failed == []


def test_a_field_may_not_expand_by_a_wrong_law() -> None:
    """The step of a field that may expand, or that only the wrong law would admit, is 0."""
    assert admissible("explicit-euler", Rational(1, 100), 1, gradient=True).largest == 0
    assert admissible("explicit-euler", 0, 1, gradient=False).largest == 0
    assert admissible("rk4", -1, 2, gradient=False).largest == 0
    assert admissible("explicit-euler", -1, 2, gradient=True).largest == 1
    assert admissible("explicit-euler", -1, 2, gradient=False).largest == Rational(1, 2)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (((q, p), (p, -c * q)), "c in its velocity is neither a state nor a parameter"),
        (((q, p), (p,)), "1 velocities for 2 states"),
        (((q, p), Matrix([[p, q], [q, p]])), "shape"),
        (((q, p), (p, -q), {}, None, None, ("enrgy",)), "no property is called 'enrgy'"),
        (((q, p), (p, -q), {}, None, None, (), {"gradient": q**2 + p**2}), "otherwise"),
        (((q, loose), (-q, -loose)), "a name of its own"),
        (((q,), (-(loose**2) * q,), {loose: (1, 2)}), "a name of its own"),
        (((q,), (-q,), {c: (2, 1)}), "low first"),
        (((q, p), (-q, p), {p: (1, 1)}, Integer(-1)), "p has the one value 1: make it a param"),
        (((q,), (-q,), {}, q), "q in a declared law is no parameter"),
        (((q, p), (sigma(q), activation("sigma", 0, 2)(p))), "sigma has slopes"),
    ],
)
def test_bad_fields_are_named(arguments: tuple[Any, ...], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as refusal:
        Field(*arguments)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("options", [{"integrator": "leapfrog"}, {"budget_seconds": 0}])
def test_bad_options_are_the_users(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"one of explicit-euler|more than 0"):
        derive(OSCILLATOR, **options)
    with pytest.raises(UserError, match=r"one of explicit-euler|more than 0"):
        derive_with_test(OSCILLATOR, **options)


def test_the_ready_test_passes_and_fails() -> None:
    report = derive_with_test(OSCILLATOR)
    report.as_hypothesis_test()()
    with pytest.raises(AssertionError, match=r"exceeds -0\.75 at Sample\("):
        report.as_hypothesis_test(one_sided=-0.75)()
