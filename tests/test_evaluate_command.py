"""`dsnn evaluate` end to end on a small network and generated images, and what it refuses."""

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitted_networks import fitted

from dsnn.data.generated import generated
from dsnn.models import ARCHITECTURES, CERTIFIED, Sizes, build_certified
from dsnn.training.certified import finalise
from dsnn.weights import Card, save
from experiments import attacks, pieces
from verification.radius import Radii

Dsnn = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
EPSILONS = ("0", "8/255", "0.5")
IMAGES = 150


def attack_arguments(out: Path) -> list[object]:
    options = [part for epsilon in EPSILONS for part in ("--eps", epsilon)]
    return ["--attack", "clean", "--attack", "pgd-paper", *options, "--limit", IMAGES, "--out", out]


@pytest.fixture(scope="module")
def attacked(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished evaluation: its JSON and the folder of its shards."""
    from dsnn.cli import run

    folder = tmp_path_factory.mktemp("evaluation")
    out, result = folder / "out", folder / "result.json"
    arguments = ["evaluate", weights, *attack_arguments(out), "--json", result]
    assert run([str(a) for a in arguments]) == 0
    return result, out


def test_the_result_says_what_the_design_promises(attacked: tuple[Path, Path], weights: Path):
    result = json.loads(attacked[0].read_text())
    assert result["target"] == str(weights)
    assert result["dataset"] == "generated"
    assert result["protocol"] == "consistent"
    assert result["images"] == IMAGES
    assert result["lipschitz_pixel"] > 0
    rows = {(row["attack"], row["epsilon"]): row for row in result["results"]}
    assert list(rows) == [("clean", 0.0), *(("pgd-paper", e) for e in (0.0, 8 / 255, 0.5))]
    clean = rows["clean", 0.0]
    assert 15 < clean["correct"] <= IMAGES  # above chance, so that the chain has links
    assert rows["pgd-paper", 0.0]["correct"] == clean["correct"]
    assert rows["pgd-paper", 0.5]["correct"] < clean["correct"]
    for row in rows.values():
        assert row["accuracy"] == row["correct"] / IMAGES
        assert row["certified"] <= row["correct"] <= clean["correct"]
    survivors = [row["correct"] for row in result["results"] if row["attack"] == "pgd-paper"]
    assert survivors == sorted(survivors, reverse=True)
    assert result["certified_sample"]["attacked"] == pieces.SAMPLE
    assert result["certified_sample"]["broken"] == 0
    assert result["violations"] == []


def test_the_table_has_a_row_an_image_and_adds_up(attacked: tuple[Path, Path]):
    result = json.loads(attacked[0].read_text())
    with Path(result["table"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(IMAGES))
    assert [int(row["label"]) for row in rows] == generated("test", IMAGES)[1].tolist()
    for row in rows:
        right = row["label"] == row["prediction"]
        assert int(row["clean"]) == right
        assert float(row["margin"]) >= 0 if right else float(row["margin"]) <= 0
        assert float(row["radius"]) >= 0
        assert float(row["radius"]) == 0 or right
    by_name = {f"pgd-paper@{row['epsilon']!r}": row for row in result["results"][2:]}
    for name, row in by_name.items():
        assert sum(int(r[name]) for r in rows) == row["correct"]
        assert sum(int(r[f"{name} alone"]) for r in rows) == row["correct_alone"]
        assert sum(float(r["radius"]) > row["epsilon"] for r in rows) == row["certified"]


def test_radii_are_those_of_the_margin_certificate(attacked: tuple[Path, Path]):
    result = json.loads(attacked[0].read_text())
    with Path(result["table"]).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["radius"]) > 0]
    assert rows
    for row in rows:
        ideal = float(row["margin"]) / (math.sqrt(2) * result["lipschitz_pixel"])
        assert float(row["radius"]) < ideal


def test_a_second_run_computes_nothing_and_says_the_same(
    dsnn: Dsnn,
    weights: Path,
    attacked: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def forbidden(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    for name in ("clean", "pgd", "sample"):
        monkeypatch.setattr(pieces, name, forbidden)
    result, out = attacked
    code, text, _ = dsnn("evaluate", weights, *attack_arguments(out), "--json", "-")
    assert code == 0
    ours, theirs = json.loads(text), json.loads(result.read_text())
    assert {**ours, "table": ""} == {**theirs, "table": ""}
    assert Path(ours["table"]).read_bytes() == Path(theirs["table"]).read_bytes()


def test_an_interrupted_run_goes_on_and_ends_the_same(
    dsnn: Dsnn,
    weights: Path,
    attacked: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    arguments = ["evaluate", weights, *attack_arguments(tmp_path), "--json", tmp_path / "r.json"]
    attack, calls = pieces.pgd, []

    def stopping(*parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return attack(*parts)

    monkeypatch.setattr(pieces, "pgd", stopping)
    assert dsnn(*arguments)[0] == 130
    assert not (tmp_path / "r.json").exists()
    before = sorted((tmp_path / "shards").iterdir())
    assert len(before) == 2
    before[0].write_text("torn")
    kept = before[1].stat().st_mtime_ns
    assert dsnn(*arguments)[0] == 0
    assert before[1].stat().st_mtime_ns == kept
    result, out = attacked
    assert (tmp_path / "r.csv").read_bytes() == result.with_suffix(".csv").read_bytes()
    names = sorted(p.name for p in (out / "shards").iterdir())
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == names
    for name in names:
        assert (tmp_path / "shards" / name).read_bytes() == (out / "shards" / name).read_bytes()


def test_whole_shards_of_a_shorter_run_are_used_again(
    dsnn: Dsnn, weights: Path, attacked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    def forbidden(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(pieces, "clean", forbidden)
    code, text, _ = dsnn(
        "evaluate", weights, "--limit", pieces.SHARD, "--out", attacked[1], "--json", "-",
        "--eps", "1e-5",
    )  # fmt: skip
    assert code == 0
    result = json.loads(text)
    assert result["images"] == pieces.SHARD
    assert [row["epsilon"] for row in result["results"]] == [0.0, 1e-5]
    assert {row["correct"] for row in result["results"]} == {result["results"][0]["correct"]}


def test_a_certificate_that_an_attack_refutes_fails_the_run(
    dsnn: Dsnn, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = pieces.radii

    def enlarged(*parts: Any) -> Radii:
        found = honest(*parts)
        return Radii(np.where(found.largest > 0, 2.0, 0.0), found.by_constant)

    monkeypatch.setattr(pieces, "radii", enlarged)
    code, out, error = dsnn(
        "evaluate", weights, *attack_arguments(tmp_path), "--limit", 60, "--json", "-"
    )
    assert code == 1
    result = json.loads(out)
    assert result["certified_sample"]["broken"] > 0
    attacked_ones = [line for line in result["violations"] if "found an adversarial" in line]
    sampled = [line for line in result["violations"] if "broken by" in line]
    assert attacked_ones
    assert len(sampled) == result["certified_sample"]["broken"]
    assert f"image {result['certified_sample']['broken_index'][0]} " in error


def test_a_certificate_of_a_misclassified_image_fails_the_run(
    dsnn: Dsnn, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny = np.full(40, 1e-9)
    monkeypatch.setattr(pieces, "radii", lambda *parts: Radii(tiny, tiny))
    code, _, error = dsnn("evaluate", weights, "--limit", 40, "--out", tmp_path)
    assert code == 1
    assert "is certified" in error
    assert "but predicted" in error


def test_protocols_differ_where_the_authors_did(
    dsnn: Dsnn, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attacks, "AT_RADIUS", attacks.Pgd(1, 0.1))
    target = data_folder / "published" / "cifar10_switch_prescribed_0.07.pt"
    found = {}
    for protocol in ("consistent", "published"):
        code, out, _ = dsnn(
            "evaluate", target, "--arch", "switch-prescribed", "--protocol", protocol,
            "--limit", 8, "--data", data_folder, "--out", tmp_path, "--json", "-",
        )  # fmt: skip
        assert code == 0
        found[protocol] = json.loads(out)
    assert found["consistent"]["std"] != found["published"]["std"]
    assert found["consistent"]["lipschitz_pixel"] > found["published"]["lipschitz_pixel"]


def test_the_authors_evaluated_no_network_of_ours(refused: Refused, tmp_path: Path):
    """It was normalised as theirs are, for which it was not trained."""
    net = finalise(build_certified("certified-smooth", sizes=Sizes((12, 48), (1, 1))))
    card = Card("certified-smooth", "generated", None, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    save(tmp_path / "net.safetensors", net, card)
    arguments = ("evaluate", tmp_path / "net.safetensors", "--limit", 4, "--out", tmp_path)
    assert "--protocol published" in refused(*arguments, "--protocol", "published")


def test_the_terminal_gets_a_table_and_no_progress(dsnn: Dsnn, weights: Path, tmp_path: Path):
    code, out, error = dsnn("evaluate", weights, "--limit", 20, "--out", tmp_path)
    assert code == 0
    assert error == ""
    assert "clean" in out
    assert "/20" in out


def test_a_device_that_takes_the_result_has_no_table_beside_it(
    dsnn: Dsnn, weights: Path, tmp_path: Path
):
    code, out, _ = dsnn(
        "evaluate", weights, "--limit", 4, "--out", tmp_path, "--json", os.devnull
    )  # fmt: skip
    assert code == 0
    (table,) = tmp_path.glob("*.csv")
    assert str(table) in out


def test_no_table_is_written_over_that_of_another_network_or_result(
    dsnn: Dsnn, weights: Path, tmp_path: Path
):
    (tmp_path / "other").mkdir()
    other = fitted("naive", 10, "generated", tmp_path / "other" / weights.name)
    first, second = tmp_path / "margin-0.07", tmp_path / "margin-0.15"
    for target, result in ((weights, "-"), (other, "-"), (weights, first), (weights, second)):
        where = ("--limit", 4, "--out", tmp_path, "--json", result)
        assert dsnn("evaluate", target, *where)[0] == 0
    assert len(list(tmp_path.glob("*.csv"))) == 4


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_evaluated(dsnn: Dsnn, tmp_path: Path, arch: str):
    target = fitted(arch, 10, "generated", tmp_path / "net.safetensors")
    code, out, _ = dsnn(
        "evaluate", target, "--attack", "clean", "--attack", "pgd-paper", "--eps", "0.3",
        "--limit", "24", "--out", tmp_path, "--json", "-",
    )  # fmt: skip
    assert code == 0
    clean, attacked = json.loads(out)["results"]
    assert attacked["certified"] <= attacked["correct"] <= clean["correct"]
    assert clean["certified"] > 0


@pytest.mark.parametrize("arch", CERTIFIED)
def test_networks_of_ours_are_evaluated(dsnn: Dsnn, tmp_path: Path, arch: str):
    torch.manual_seed(0)
    net = finalise(build_certified(arch, sizes=Sizes((12, 48), (1, 1))))
    card = Card(arch, "generated", None, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    save(tmp_path / "net.safetensors", net, card)
    code, out, error = dsnn(
        "evaluate", tmp_path / "net.safetensors", "--limit", "24", "--out", tmp_path, "--json", "-"
    )
    assert code == 0, error
    assert json.loads(out)["results"][0]["certified"] > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--dataset", "mnist"], "cifar10, cifar100, generated"),
        (["--dataset", "cifar100"], "100"),
        (["--dataset", "cifar10"], "generated"),
        (["--eps", "-0.1"], "-0.1"),
        (["--eps", "nan"], "nan"),
        (["--eps", "1/0"], "1/0"),
        (["--eps", "1e38", "--attack", "pgd-paper"], "55.43"),
        (["--protocol", "mine"], "mine"),
        (["--device", "tpu"], "tpu"),
        (["--limit", "0"], "--limit"),
        (["--arch", "switch-flexible"], "non-expansive"),
        (["--json", "result.csv"], ".json"),
    ],
)
def test_bad_usage_is_refused(
    refused: Refused, weights: Path, tmp_path: Path, options: list[str], expected: str
):
    out = tmp_path / "out"
    assert expected in refused("evaluate", weights, "--out", out, *options)
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_absent_is_refused(refused: Refused, weights: Path, tmp_path: Path):
    line = refused("evaluate", weights, "--device", "cuda", "--out", tmp_path / "out")
    assert "--device cpu" in line
    assert not (tmp_path / "out").exists()


def test_no_images_is_refused(refused: Refused, tmp_path: Path):
    target = fitted("non-expansive", 10, "cifar10", tmp_path / "net.safetensors")
    line = refused("evaluate", target, "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert str(tmp_path / "none") in line
    assert "dsnn data cifar10" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_a_folder_that_cannot_be_written_is_refused(
    refused: Refused, weights: Path, tmp_path: Path, option: str
):
    file = tmp_path / "file"
    file.write_text("")
    arguments = {"--out": tmp_path / "out", option: file / "below"}
    flat = [part for pair in arguments.items() for part in pair]
    assert str(file) in refused("evaluate", weights, *flat)
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_refused(refused: Refused, tmp_path: Path):
    line = refused("evaluate", tmp_path / "no.safetensors", "--out", tmp_path / "out")
    assert "no.safetensors" in line
