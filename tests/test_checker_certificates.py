"""Certificates: written and derived again, by the command too."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from certificate_cases import Small, Written, finding
from safetensors.torch import save_file

from verification.certificate import Subject, write
from verification.checker import reading, work
from verification.checker.__main__ import run
from verification.norms import Spectra as AuditSpectra


def test_every_verdict_is_derived_again(written: Written, capsys: pytest.CaptureFixture) -> None:
    for target in (None, str(written.weights), str(written.weights.with_suffix(".pt"))):
        assert run(str(written.path), target) == 0
    words = [claim["verdict"] for claim in written.content["claims"]]
    assert set(words) == {"proved", "refuted", "unknown"}
    laws = {line["law"] for graph in written.content["graphs"].values() for line in graph["lines"]}
    steps = {"T7-contractive-euler", "T8'-expansive-gradient-euler", "T8'-expansive-euler"}
    assert steps | {"norm", "chain", "root", "overlap", "windows", "slope", "sum"} <= laws
    said = capsys.readouterr().out
    assert said.count("derived again") == 3 * len(words)
    for low, high in (claim["bound"] for claim in written.content["claims"]):
        assert f"[{low!r}, {math.inf if high is None else high!r}]" in said  # not rounded


def test_an_honest_certificate_is_far_from_the_limit_of_work(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LARGEST", work.LARGEST / 100)
    assert run(str(written.path)) == 0


def test_it_uses_tight_norms_and_the_smallest_singular_value(written: Written) -> None:
    norms = [
        line["values"] for graph in written.content["graphs"].values()
        for line in graph["lines"] if line["law"] == "norm"
    ]  # fmt: skip
    assert any(values["smallest"] and values["smallest"] > 0.5 for values in norms)


def test_other_weights_are_noticed(written: Written, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in Small().state_dict().items()}
    state["head.bias"][0] += 2**-20
    save_file(state, tmp_path / "other.safetensors")
    (tmp_path / "other.pt").write_bytes(written.data)
    for name in ("other.safetensors", "other.pt"):
        assert run(str(written.path), str(tmp_path / name)) == 1
    assert run(str(written.path), str(tmp_path / "missing.pt")) == 2


def test_the_command(
    written: Written, dsnn: Callable[..., tuple[int, str, str]], refused: Callable[..., str]
) -> None:
    code, out, _ = dsnn("check", written.path, written.weights)
    assert code == 0
    assert "refuted" in out
    assert "not a certificate" in refused("check", written.weights)
    assert "is not a file" in refused("check", written.path.with_name("none.json"))


def test_the_command_writes_json(
    written: Written,
    dsnn: Callable[..., tuple[int, str, str]],
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    code, out, _ = dsnn("check", written.path, written.weights, "--json", "-")
    found, claims = json.loads(out), written.content["claims"]
    assert code == 0
    assert found["certificate"] == str(written.path)
    assert (found["accepted"], found["reasons"], found["left_out"]) == (True, [], [])
    assert "those of the certificate" in found["target"]
    for key in ("claim", "module", "verdict", "bound"):
        assert [entry[key] for entry in found["verdicts"]] == [claim[key] for claim in claims]
    file = tmp_path / "result.json"
    (tmp_path / "other.pt").write_bytes(b"other")
    code, out, _ = dsnn("check", written.path, tmp_path / "other.pt", "--json", file)
    found = json.loads(file.read_text())
    assert code == 1
    assert found["reasons"][0] in out
    assert not found["accepted"]
    assert "is not the file that was audited" in found["reasons"][0]
    for read in (written.path, written.path.with_suffix(".safetensors")):
        assert "write over" in refused("check", written.path, "--json", read)
    moved = {**written.content, "tensors": {**written.content["tensors"], "file": "t.bin"}}
    del moved["digest"]
    (tmp_path / "moved.json").write_text(json.dumps(moved | {"digest": reading.digest(moved)}))
    (tmp_path / "t.bin").write_bytes(written.data)
    assert "write over" in refused("check", tmp_path / "moved.json", "--json", tmp_path / "t.bin")
    assert (tmp_path / "t.bin").read_bytes() == written.data
    refused("check", written.weights, "--json", tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()


def test_json_of_what_is_left_out_is_printable(
    written: Written, dsnn: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    entry = {"claim": "contractive", "module": "a\x1b\ud800", "reason": "too\nlarge"}
    content = {**written.content, "left_out": [entry]}
    del content["digest"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**content, "digest": reading.digest(content)}))
    (tmp_path / content["tensors"]["file"]).write_bytes(written.data)
    code, out, _ = dsnn("check", path, "--json", "-")
    found = json.loads(out)
    assert code == 3
    assert found["left_out"] == [{"claim": "contractive", "module": "a??", "reason": "too?large"}]
    assert not found["accepted"]
    assert "1 of 8 verdicts" in found["reasons"][0]


def test_an_audit_writes_what_the_command_checks(
    data_folder: Path, tmp_path: Path, dsnn: Callable[..., tuple[int, str, str]]
) -> None:
    weights = data_folder / "published" / "cifar10_switch_flexible_0.15.pt"
    certificate = tmp_path / "audit.json"
    claims = ("--claim", "stages.0.flow.*:lipschitz<=1.1", "--claim", "head:orthogonal")
    dsnn("audit", weights, "--arch", "switch-flexible", *claims, "--certificate", certificate)
    code, out, _ = dsnn("check", certificate, weights)
    assert code == 0
    assert out.count("derived again") == 3
    assert "unknown  head:orthogonal" in out


def test_what_the_checker_does_not_come_to_is_left_out_and_said(tmp_path: Path) -> None:
    net, spectra = Small().eval(), AuditSpectra()
    one = finding(net, spectra, "head:lipschitz<=10", "head")
    findings = [
        one,
        replace(one, claim="head:lipschitz<=11", verdict="refuted"),
        replace(one, claim="head:orthogonal"),
        replace(one, claim="head:invertible"),
        replace(one, claim="head:lipschitz<=12", arithmetic="float32-execution"),
        one,
    ]
    assert one.constant is not None
    weak = replace(one, constant=replace(one.constant, upper=one.upper * 1.01))
    (line,) = write(tmp_path / "a.json", Subject("small", net.state_dict()), [weak])
    assert "the audit" in line
    said = write(tmp_path / "a.json", Subject("small", net.state_dict()), findings)
    expected = ("calls it proved", "calls it unknown", "no claim", "float32")
    assert [word in line for word, line in zip(expected, said, strict=True)] == [True] * 4
    assert run(str(tmp_path / "a.json")) == 3
    content = json.loads((tmp_path / "a.json").read_text())
    assert len(content["claims"]) == 1
    assert len(content["left_out"]) == 4
