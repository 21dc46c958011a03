"""Derivation for torch fields: bounds from the graph, claims refuted by pairs, a test that fails;
and fields and strategies of other packages at the command line."""

import json
import math
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from sympy import Abs, Expr, Integer, Integral, Piecewise, Symbol, oo, symbols, tan
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import VectorField
from theory import Field, activation, registry, theorems
from verification import derive
from verification.capture import capture
from verification.field_pairs import ModuleSample, images
from verification.interpret import Interpreter
from verification.strategies import STRATEGIES, registered

q, p = symbols("q p", real=True)


class Linear(VectorField):
    """x -> Mx."""

    def __init__(self, rows: list[list[float]], **declared: Any):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor(rows))
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


class Descent(VectorField):
    """x -> -Aᵀ ReLU(Ax + b)."""

    one_sided = 0.0
    properties = ("gradient",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return -torch.relu(self.inner(x)) @ self.inner.weight


def test_a_gradient_field_contracts_and_may_step() -> None:
    report = derive(Descent(), (3,))
    assert report.one_sided == 0
    assert report.findings["declared one_sided <= 0"].verdict == "proved"
    assert report.findings["declared gradient"].verdict == "proved"
    assert report.steps.theorem == "T8-circle-contractive"
    weight = Descent().inner.weight.detach().double()
    exact = float(torch.linalg.matrix_norm(weight, 2)) ** 2
    assert float(report.lipschitz) >= exact * (1 - 1e-12)
    assert float(report.steps.largest) == pytest.approx(2 / exact, rel=1e-6)
    report.as_hypothesis_test()()


def test_claims_that_are_too_good_are_refuted() -> None:
    """lambda_max of the symmetric part of [[-1, 1], [0, -1]] is -1/2, its norm (1 + sqrt 5) / 2."""
    wrong = Linear([[-1.0, 1.0], [0.0, -1.0]], one_sided=-0.51, lipschitz=1.6)
    report = derive(wrong, (2,))
    assert report.findings["declared one_sided <= -0.51"].verdict == "refuted"
    assert report.findings["declared lipschitz <= 1.6"].verdict == "refuted"
    with pytest.raises(AssertionError, match=r"Linear: -0\.5.* exceeds -0\.51 at ModuleSample\("):
        report.as_hypothesis_test(one_sided=-0.51)()
    right = Linear([[-1.0, 1.0], [0.0, -1.0]], one_sided=-0.499, lipschitz=1.6181)
    found = derive(right, (2,)).findings
    assert found["declared lipschitz <= 1.6181"].verdict == "proved"
    assert found["declared one_sided <= -0.499"].verdict in ("proved", "open")
    derive(right, (2,)).as_hypothesis_test(one_sided=-0.499)()


def test_what_a_module_conserves() -> None:
    turn = derive(Linear([[0.0, 1.0], [-1.0, 0.0]], properties=("hamiltonian",)), (2,)).findings
    assert turn["declared hamiltonian"].verdict == "proved"
    assert turn["gradient"].verdict == turn["mass"].verdict == "refuted"
    share = derive(Linear([[-1.0, 1.0], [1.0, -1.0]]), (2,)).findings
    assert share["mass"].verdict == share["gradient"].verdict == "proved"


def test_what_no_rule_bounds_is_open() -> None:
    class Cubic(VectorField):
        lipschitz = 1e9

        def forward(self, x: Tensor) -> Tensor:
            return -x * x * x

    report = derive(Cubic(), (2,))
    assert report.lipschitz == oo
    assert report.findings["Lipschitz constant"].verdict == "open"
    assert report.findings["declared lipschitz <= 1e+09"].verdict == "open"
    with pytest.raises(UserError, match="no proved one-sided constant"):
        report.as_hypothesis_test()


@pytest.mark.parametrize("law", ["one_sided", "lipschitz"])
@pytest.mark.parametrize(
    "number",
    [-math.inf, math.nan, math.inf, "a", lambda: 1.0, pytest.param(10**400, id="huge")],
)
def test_only_finite_numbers_are_declared(law: str, number: Any) -> None:
    """SymPy makes the fraction 0 of floats that are not."""
    declared = Linear([[-1.0, 0.0], [0.0, -1.0]], **{law: number})
    with pytest.raises(UserError, match="declare a finite number"):
        derive(declared, (2,))


def test_an_operator_without_a_rule_is_named() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumprod(x, -1)

    with pytest.raises(UserError, match=r"cannot be evaluated with bounds: .*cumprod"):
        derive(Product(), (3,))


def test_pairs_are_bounded_with_their_rounding() -> None:
    executed = Interpreter(capture(Descent(), (3,))).double()
    pairs = images(executed, (3,), ModuleSample(1.0, 0.5, "symmetric", 7))
    assert float(pairs.at_x.error.min()) > 0
    assert float(pairs.at_x.error.max()) < 1e-12


def test_refusals() -> None:
    with pytest.raises(UserError, match="a field keeps the shape"):
        derive(nn.Linear(3, 2), (3,))
    with pytest.raises(UserError, match="no property of a module is called 'norm'"):
        derive(Linear([[0.0]], properties=("norm",)), (1,))
    for names in ("gradient", 3, lambda: ("gradient",)):
        with pytest.raises(UserError, match="declare a tuple of names"):
            derive(Linear([[0.0]], properties=names), (1,))
    with pytest.raises(UserError, match="give input_shape"):
        derive(Descent())
    with pytest.raises(UserError, match="give input_shape"):
        derive(nn.Tanh(), ())
    with pytest.raises(UserError, match="one of explicit-euler"):
        derive(Descent(), (3,), "leapfrog")
    report = derive(Field((q,), (-q,)))
    with pytest.raises(UserError, match="draw nothing"):
        replace(report, samples=st.nothing()).as_hypothesis_test()


# Entry points. -------------------------------------------------------------------------------


def _install(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: Any) -> None:
    package = ModuleType("a_package")
    package.value = value  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_package", package)
    entry = EntryPoint(name, "a_package:value", group)
    for module in (registry, registered):
        monkeypatch.setattr(module, "entry_points", lambda group: [entry] * (entry.group == group))


def test_a_box_is_left_on_both_sides(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    """Above it -q^3 contracts all the more: only below it the law fails."""
    cubic = Field((q,), (-(q**3),), {q: (1, 2)}, one_sided=Integer(-1), id="cubic")
    _install(monkeypatch, "dsnn.fields", "cubic", cubic)
    code, out, _ = dsnn("verify", "cubic", "--profile", "quick", "--jobs", "1")
    assert code == 0, out
    assert "cubic without box: Sample(" in out


def test_a_wrong_law_of_a_registered_field_exits_1(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    wrong = Field((q, p), (p - q, -2 * p), one_sided=Integer(-1), id="planted")
    _install(monkeypatch, "dsnn.fields", "planted", wrong)
    code, out, _ = dsnn("verify", "planted", "--profile", "quick", "--jobs", "1")
    assert code == 1
    assert "proof step fails: (J + J')/2 is at most the law" in out
    assert "violations, a minimal one: Sample(" in out


@pytest.mark.parametrize(
    ("assumed", "ends", "sign"),
    [("nonnegative", (0, 2), -1), ("nonpositive", (-2, 0), 1)],
)
def test_the_range_of_a_parameter_is_a_hypothesis_whatever_is_assumed(
    assumed: str, ends: tuple[int, int], sign: int, monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    """SymPy took 0 <= c for true, and what lies outside counted against the law."""
    c = Symbol("c", **{assumed: True})
    damped = Field((q,), (sign * c * q,), {c: ends}, one_sided=Integer(0), id="damped")
    _install(monkeypatch, "dsnn.fields", "damped", damped)
    code, out, _ = dsnn("verify", "damped", "--profile", "quick", "--jobs", "1")
    assert code == 0, out
    assert "1/1" in out


def test_a_field_that_cannot_be_decided_exits_3_and_says_why(
    monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    """|q| - 2q contracts, and so it was a failure that nothing proved it."""
    kinked = Field((q,), (Abs(q) - 2 * q,), one_sided=Integer(-1), id="kinked")
    _install(monkeypatch, "dsnn.fields", "kinked", kinked)
    why = "(J + J')/2 is at most the law: Abs(q) may jump or have no derivative: write it as"
    for command in (("theory", "show"), ("verify", "--profile", "quick", "--jobs", "1")):
        code, out, _ = dsnn(*command, "kinked")
        assert code == 3
        assert why in " ".join(out.split())
        assert "FAILS" not in out
        assert "proof step fails" not in out


def test_a_wrong_integral_of_a_registered_field_exits_1(
    monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    """It was declared, and nothing looked at it."""
    right = Field((q, p), (p, -q), one_sided=Integer(0), integrals={"H": q**2 + p**2}, id="turn")
    for field, code in ((right, 0), (replace(right, integrals={"H": q**2}), 1)):
        _install(monkeypatch, "dsnn.fields", "turn", field)
        found, out, _ = dsnn("verify", "turn", "--profile", "quick", "--jobs", "1")
        assert found == code, out
        assert ("proof step fails: H is constant along the flow" in out) == bool(code)


@pytest.mark.parametrize(
    "velocity", [Piecewise((-q, q > 0), (-2 * q, True)), Integral(p**2, (p, 0, q)), tan(q)], ids=str
)
def test_a_field_without_enclosure_exits_2(
    velocity: Expr, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    """Of an integral it was a KeyError, and of the ready test a ValueError."""
    bent = Field((q,), (velocity,), one_sided=Integer(-1), id="bent")
    with pytest.raises(UserError, match="bent: no pair can be bounded: "):
        derive(bent).as_hypothesis_test(one_sided=1.0)
    _install(monkeypatch, "dsnn.fields", "bent", bent)
    answer = refused("verify", "bent", "--profile", "quick", "--jobs", "1")
    assert "bent cannot be evaluated with bounds" in answer
    assert "write it with an activation" in answer


@pytest.mark.parametrize(
    ("parameter", "force"),
    [("lambda", "s"), ("c'", "s"), ("outside", "s"), ("s_low", "s"), ("c", "leaky relu")],
)
def test_a_field_may_call_its_parts_as_it_likes(
    parameter: str, force: str, monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    """A keyword was no argument, and facts of the box or of slopes took a parameter's place."""
    c = Symbol(parameter, real=True)
    velocity = c * activation(force, 0, 1)(q)
    field = Field((q,), (velocity,), {c: (0, 1), q: (-1, 1)}, one_sided=c, id="named")
    _install(monkeypatch, "dsnn.fields", "named", field)
    code, out, _ = dsnn("verify", "named", "--profile", "quick", "--jobs", "1")
    assert code == 3, out
    assert "no counterexample without hypothesis box" in out  # which it does not need


def test_what_is_no_field_exits_2(monkeypatch: pytest.MonkeyPatch, refused) -> None:
    _install(monkeypatch, "dsnn.fields", "odd", 3)
    assert "register a theory.Field" in refused("theory", "list")


@pytest.mark.parametrize("group", ["dsnn.fields", "dsnn.theorems", "dsnn.strategies"])
def test_a_package_that_ends_the_process_verifies_nothing(
    group: str, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    """`sys.exit(0)` at its import ended `dsnn verify` with 0, which says that all holds."""
    ends = EntryPoint("T5-flow", "a_package:value", group)
    package = ModuleType("a_package")
    package.__getattr__ = lambda _: sys.exit(0)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "a_package", package)
    for module in (registry, registered):
        monkeypatch.setattr(module, "entry_points", lambda group: [ends] * (ends.group == group))
    monkeypatch.setattr(registered, "STRATEGIES", {})
    answer = refused("verify", "T5-flow", "--profile", "quick", "--jobs", "1")
    assert f"T5-flow = a_package:value of group {group}" in answer
    assert "SystemExit: 0" in answer


def test_a_package_that_prints_leaves_the_json_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    (tmp_path / "a_package.py").write_text("print('hello'); value = ()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_package", raising=False)
    prints = EntryPoint("prints", "a_package:value", "dsnn.fields")
    monkeypatch.setattr(registry, "entry_points", lambda group: [prints] * (prints.group == group))
    code, out, error = dsnn("theory", "list", "--json", "-")
    assert code == 0
    assert json.loads(out)["theorems"]
    assert error == "hello\n"


def test_a_strategy_whose_package_prints_leaves_stdout_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_package.py").write_text("print('hello'); value = 3")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_package", raising=False)
    entry = EntryPoint("T5-flow", "a_package:value", "dsnn.strategies")
    monkeypatch.setattr(registered, "entry_points", lambda group: [entry])
    monkeypatch.setattr(registered, "STRATEGIES", {})
    with pytest.raises(UserError, match=r"register a verification\.strategies\.trial\.Strategy"):
        registered.strategy_of(theorems()["T5-flow"])
    assert capsys.readouterr() == ("", "hello\n")


def test_a_law_without_enclosure_exits_2(monkeypatch: pytest.MonkeyPatch, refused) -> None:
    """A ValueError, and all of its traceback."""
    c = symbols("c", real=True)
    law = Piecewise((-c, c < 2), (-1, True))
    bent = Field((q,), (-2 * c * q,), {c: (1, 3)}, one_sided=law, id="bent")
    _install(monkeypatch, "dsnn.fields", "bent", bent)
    answer = refused("verify", "bent", "--profile", "quick", "--jobs", "1")
    assert "the law of bent cannot be evaluated with bounds" in answer


def test_a_theorem_brings_its_strategy(monkeypatch: pytest.MonkeyPatch, dsnn, refused) -> None:
    ours = theorems()["T8-nonexpansive-euler"]
    monkeypatch.setattr(registry, "OURS", (replace(ours, id="mine"),))
    _install(monkeypatch, "dsnn.strategies", "mine", STRATEGIES[ours.id])
    assert dsnn("verify", "mine", "--profile", "quick", "--jobs", "1")[0] == 0
    nothing = replace(STRATEGIES[ours.id], structures=st.nothing())
    _install(monkeypatch, "dsnn.strategies", "mine", nothing)
    assert "draws nothing" in refused("verify", "mine", "--profile", "quick", "--jobs", "1")
    _install(monkeypatch, "dsnn.strategies", "mine", "no strategy")
    assert "register a verification.strategies" in refused("verify", "mine", "--jobs", "1")


@pytest.mark.parametrize("value", [Integer(1) / 10, Integer(1) / 3], ids=str)
def test_a_parameter_of_one_value_that_is_no_double(
    value: Any, monkeypatch: pytest.MonkeyPatch, dsnn
) -> None:
    """The double beside it was drawn, which is outside the range."""
    c = symbols("c", real=True)
    slow = Field((q,), (-c * q,), {c: (value, value)}, one_sided=-value, id="slow")
    _install(monkeypatch, "dsnn.fields", "slow", slow)
    assert dsnn("verify", "slow", "--profile", "quick", "--jobs", "1")[0] == 0
