"""`dsnn verify`: the contract of its JSON, its exit codes, its refusals."""

import json
import sys
from dataclasses import replace

import pytest

from theory import registry, theorems

ID = "T8-nonexpansive-euler"


def test_json_is_the_contract(dsnn, tmp_path) -> None:
    target, times = tmp_path / "verify.json", tmp_path / "times.json"
    code, out, error = dsnn(
        "verify", ID, "--profile", "quick", "--seed", "3", "--jobs", "1",
        "--json", target, "--timings", times,
    )  # fmt: skip
    assert code == 0
    assert ID in out
    assert error == ""
    content = json.loads(target.read_text())
    assert list(content) == ["profile", "seed", "theorems"]
    assert content["profile"] == "quick"
    assert content["seed"] == 3
    (entry,) = content["theorems"]
    assert list(entry) == sorted(entry)
    assert set(entry) == {"id", "proof", "instances", "violations", "sharpness", "hypotheses"}
    assert entry["id"] == ID
    assert entry["proof"] == "symbolic"
    assert entry["instances"] > 10_000
    assert entry["violations"] == 0
    assert entry["sharpness"] >= 1 - 1e-6
    assert [h["name"] for h in entry["hypotheses"]] == [h.name for h in theorems()[ID].hypotheses]
    assert all(h["counterexample_without"] is True for h in entry["hypotheses"])
    assert all(h["minimal"].startswith("GradientStep(") for h in entry["hypotheses"])
    assert "without gradient: GradientStep(" in out
    assert set(json.loads(times.read_text())) == {ID}


def test_stdout_holds_nothing_but_the_json_and_the_same_bytes(dsnn) -> None:
    arguments = ("verify", ID, "--profile", "quick", "--json", "-", "--jobs")
    texts = {dsnn(*arguments, jobs)[1] for jobs in (1, 2)}
    assert len(texts) == 1
    assert json.loads(texts.pop())["seed"] == 0


def test_a_wrong_law_exits_1_and_says_where(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    theorem = theorems()[ID]
    monkeypatch.setattr(registry, "OURS", (replace(theorem, constant=theorem.law / 2),))
    code, out, _ = dsnn("verify", "--profile", "quick", "--jobs", "1")
    assert code == 1
    assert "failed" in out
    assert "violations, a minimal one: GradientStep(" in out


def test_what_nothing_attacks_exits_3(monkeypatch: pytest.MonkeyPatch, dsnn) -> None:
    monkeypatch.setattr(registry, "OURS", (replace(theorems()[ID], id="X1-mine"),))
    code, out, _ = dsnn("verify", "--profile", "quick", "--jobs", "1")
    assert code == 3
    assert "no strategy" in out


def test_bad_input(refused, tmp_path) -> None:
    assert ID in refused("verify", "T8-nonexpansive")
    assert "quick" in refused("verify", "--profile", "fast")
    assert str(tmp_path) in refused("verify", ID, "--json", tmp_path)
    assert "--jobs" in refused("verify", ID, "--jobs", "0")
    assert "--seed" in refused("verify", ID, "--seed", "-1")
    assert "cuda" in refused("verify", ID, "--device", "tpu")
    assert "stdout" in refused("verify", ID, "--json", "-", "--timings", "-")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, refused, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)
    target = tmp_path / "verify.json"
    line = refused("verify", ID, "--profile", "quick", "--jobs", "1", "--json", target)
    assert "flint" in line
    assert "pip install" in line
    assert not target.exists()
    assert "flint" in refused("theory", "show", "T10-flexible-switching")
