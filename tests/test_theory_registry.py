"""Theorems by id, a package's own among them; `dsnn theory`."""

import dataclasses
import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from sympy import symbols, true

from theory import ProofStep, Theorem, registry, theorems
from theory.nonexpansive import contractive_euler

MINE = dataclasses.replace(contractive_euler, id="X1-mine")


def _raises(_: Theorem) -> bool:
    raise TypeError("cannot determine truth value")


def _theorem(check: Callable[[Theorem], Any], method: Any = "symbolic") -> Theorem:
    return dataclasses.replace(MINE, proof=(ProofStep("both sides agree", check, method),))


x = symbols("x")
DIFFERENCE = _theorem(lambda theorem: x - 1)
PAIR = _theorem(lambda theorem: (False, "no"))
NUMBER = _theorem(lambda theorem: 2)
NEGATIVE = _theorem(lambda theorem: -1, "interval")
NOTHING = _theorem(lambda theorem: None)
RELATION = _theorem(lambda theorem: x > 1)
RAISES = _theorem(_raises)
TRUE = _theorem(lambda theorem: np.True_ and true)
NOT_A_THEOREM = 3


def _register(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    entry = EntryPoint("mine", f"{__name__}:{name}", "dsnn.theorems")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [entry] if group == entry.group else []
    )


def test_the_laws_of_the_paper_are_there() -> None:
    expected = {"T2'", "T8'", "D8"} | {f"T{number}" for number in range(1, 17)}
    assert {name.partition("-")[0] for name in theorems()} >= expected


def test_a_package_adds_its_own(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    _register(monkeypatch, "MINE")
    assert theorems()["X1-mine"] is MINE
    code, out, _ = dsnn("theory", "show", "X1-mine")
    assert code == 0
    assert "X1-mine" in out


def test_a_package_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, refused, tmp_path
) -> None:
    """A field without a velocity was a traceback of every command of theorems."""
    (tmp_path / "a_broken_package.py").write_text("from theory import Field\nfield = Field()\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", "a_broken_package:field", "dsnn.fields")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] * (group == entry.group))
    answer = refused("theory", "list")
    assert "broken = a_broken_package:field of group dsnn.fields: TypeError" in answer


def test_what_is_no_theorem_is_refused(monkeypatch: pytest.MonkeyPatch, refused) -> None:
    _register(monkeypatch, "NOT_A_THEOREM")
    assert "int" in refused("theory", "list")


@pytest.mark.parametrize(
    "name", ["DIFFERENCE", "PAIR", "NUMBER", "NEGATIVE", "NOTHING", "RELATION", "RAISES"]
)
def test_a_check_that_does_not_say_true_proves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    """A difference that is not 0, or a pair with a reason, was taken for true."""
    _register(monkeypatch, name)
    for command in (("theory", "show"), ("verify", "--jobs", "1")):
        answer = refused(*command, "X1-mine")
        assert "X1-mine: the check of 'both sides agree' raised TypeError" in answer


def test_truth_values_of_sympy_and_numpy_count() -> None:
    assert TRUE.proved()


def test_an_id_is_given_once(monkeypatch: pytest.MonkeyPatch, refused) -> None:
    _register(monkeypatch, "contractive_euler")
    assert contractive_euler.id in refused("theory", "list")


@pytest.mark.parametrize("theorem", theorems().values(), ids=lambda theorem: theorem.id)
def test_show_prints_every_part(theorem, dsnn) -> None:
    code, out, error = dsnn("theory", "show", theorem.id)
    assert code == 0
    assert error == ""
    assert out.count("holds") >= len(theorem.proof)
    assert all(hypothesis.name in out for hypothesis in theorem.hypotheses)


def test_a_theorem_without_a_proof_is_undecided(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    monkeypatch.setattr(registry, "OURS", (dataclasses.replace(MINE, proof=()),))
    assert dsnn("theory", "show", "X1-mine")[0] == 3


def test_list_and_show_as_json(dsnn, tmp_path) -> None:
    code, out, _ = dsnn("theory", "list", "--json", "-")
    assert code == 0
    listed = json.loads(out)["theorems"]
    assert [entry["id"] for entry in listed] == list(theorems())
    target = tmp_path / "t7.json"
    assert dsnn("theory", "show", "T7-contractive-euler", "--json", target)[0] == 0
    shown = json.loads(target.read_text())
    assert all(step["holds"] for step in shown["proof"])
    assert shown["constant"] == str(contractive_euler.law)


def test_a_wrong_law_fails_its_own_proof(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    wrong = dataclasses.replace(contractive_euler, constant=contractive_euler.law**2)
    monkeypatch.setattr(registry, "OURS", (wrong,))
    code, out, _ = dsnn("theory", "show", wrong.id)
    assert code == 1
    assert "FAILS" in out


def test_unknown_id_names_close_ones(refused) -> None:
    assert "T7-contractive-euler" in refused("theory", "show", "T7-contractiv-euler")
    assert "T9-switching" in refused("theory", "show", "t9")
    assert "dsnn theory list" in refused("theory", "show", "zzz")


def test_unwritable_json_is_refused(refused, tmp_path) -> None:
    assert str(tmp_path) in refused("theory", "show", "T9-switching", "--json", tmp_path)
    assert str(tmp_path) in refused("theory", "list", "--json", tmp_path)
