"""`dsnn train` end to end on generated images: results, slices, several processes, refusals."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import training_cases as cases
from safetensors.torch import load_file

from dsnn.data.generated import generated
from dsnn.data.statistics import training
from dsnn.errors import UserError
from dsnn.files import atomic
from dsnn.models import ARCHITECTURES, build
from dsnn.published import key_map
from dsnn.training.checkpoint import Checkpoints
from dsnn.weights import Card, canonical_sha256, load, save
from experiments.result import Task, carry_out
from verification.bound import network_bound

Dsnn = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
TINY = {
    "channels": [2, 3, 4],
    "epochs": 2,
    "batch": 16,
    "images": 48,
    "monitored": 20,
    "tested": 40,
    "bound_every": 0,
    "dtype": "float32",
}
STEPS = TINY["epochs"] * (TINY["images"] // TINY["batch"])


def config(folder: Path, **changes: Any) -> Path:
    """A TOML file of tiny settings; JSON writes these values as TOML does."""
    path = folder / "config.toml"
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in (TINY | changes).items()))
    return path


def arguments(folder: Path, regime: str = "switch-flexible", **changes: Any) -> list[object]:
    asked = ["--regime", regime, "--dataset", "generated", "--margin", 0.15, "--scale", "smoke"]
    return ["train", *asked, "--config", config(folder, **changes), "--out", folder / "out"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("regime", ARCHITECTURES)
def test_every_regime_trains_and_its_result_says_where_it_came_from(
    regime: str, tmp_path: Path, dsnn: Dsnn
):
    code, out, error = dsnn(*arguments(tmp_path, regime))
    assert (code, error) == (0, "")
    folder = tmp_path / "out"
    content = json.loads((folder / "run.json").read_text())
    loaded = load(folder / "weights.safetensors")
    mean, std = training("generated")
    assert loaded.card == Card(regime, "generated", 0.15, mean, std, True)
    assert content["sha256"] == loaded.sha256
    assert content["finished"] is True
    assert content["configuration"]["channels"] == TINY["channels"]
    assert content["configuration"]["seed"] == 0
    assert content["environment"]["device"] == "cpu"
    assert content["environment"]["processes"] == 1
    assert len(content["code"]["commit"]) == 40
    assert 0 < content["training_seconds"] <= content["wall_seconds"]
    metrics = lines(folder / "metrics.jsonl")
    assert [entry["epoch"] for entry in metrics] == [1, 2]
    assert [entry["test_images"] for entry in metrics] == [20, 40]
    assert content["result"] == metrics[-1]
    assert metrics[-1]["test_accuracy"] == pytest.approx(accuracy(loaded.net, 40))
    assert f"{metrics[-1]['test_accuracy']:.4f} on 40 images" in out


def accuracy(net: torch.nn.Module, count: int) -> float:
    """As plainly as it can be written."""
    images, labels = generated("test", count)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in training("generated"))
    with torch.no_grad():
        scores = net(((images * 255).round() / 255 - mean) / std)
    return float((scores.argmax(1) == labels).float().mean())


def test_the_bound_in_the_metrics_is_that_of_the_stored_weights(tmp_path: Path, dsnn: Dsnn):
    assert dsnn(*arguments(tmp_path, "non-expansive", bound_every=2))[0] == 0
    first, last = lines(tmp_path / "out" / "metrics.jsonl")
    assert "lipschitz" not in first
    loaded = load(tmp_path / "out" / "weights.safetensors")
    bound = network_bound(loaded.net, loaded.card.std)
    assert (last["lipschitz"], last["lipschitz_pixel"]) == (bound.lipschitz, bound.lipschitz_pixel)


def test_slices_end_with_the_weights_of_an_undisturbed_run(tmp_path: Path, dsnn: Dsnn):
    (tmp_path / "whole").mkdir()
    assert dsnn(*arguments(tmp_path / "whole"))[0] == 0
    sliced = [*arguments(tmp_path), "--resume", "--max-seconds", 0, "--save-steps", 1]
    for _ in range(STEPS - 1):
        code, out, _ = dsnn(*sliced)
        assert code == 3
        assert "--resume" in out
        assert not (tmp_path / "out" / "weights.safetensors").exists()
    assert dsnn(*sliced)[0] == 0
    ends = [load(p / "out" / "weights.safetensors").sha256 for p in (tmp_path, tmp_path / "whole")]
    assert ends[0] == ends[1]
    metrics = lines(tmp_path / "out" / "metrics.jsonl")
    for mine, theirs in zip(metrics, lines(tmp_path / "whole/out/metrics.jsonl"), strict=True):
        assert {k: v for k, v in mine.items() if "seconds" not in k} == {
            k: v for k, v in theirs.items() if "seconds" not in k
        }
    code, out, _ = dsnn(*sliced, "--json", "-")  # a finished run stays as it is
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "run.json").read_text())
    assert load(tmp_path / "out" / "weights.safetensors").sha256 == ends[0]


def test_two_processes_train_as_one_does(tmp_path: Path, dsnn: Dsnn):
    (tmp_path / "one").mkdir()
    assert dsnn(*arguments(tmp_path / "one", epochs=1))[0] == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "dsnn", *map(str, arguments(tmp_path, epochs=1))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert content["environment"]["processes"] == 2
    alone = load_file(tmp_path / "one" / "out" / "weights.safetensors")
    start = build("switch-flexible", channels=(2, 3, 4)).state_dict()
    for name, value in load_file(tmp_path / "out" / "weights.safetensors").items():
        torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-6)
        assert value.shape == start[name].shape
    one = lines(tmp_path / "one" / "out" / "metrics.jsonl")[0]
    two = lines(tmp_path / "out" / "metrics.jsonl")[0]
    assert two["hinge"] == pytest.approx(one["hinge"], rel=1e-5)
    assert two["penalty"] == pytest.approx(one["penalty"], rel=1e-5)


def test_tensorboard_gets_the_metrics(tmp_path: Path, dsnn: Dsnn):
    code, _, error = dsnn(*arguments(tmp_path, epochs=1), "--tensorboard")
    assert (code, error) == (0, "")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    (found,) = events.Scalars("hinge")
    (entry,) = lines(tmp_path / "out" / "metrics.jsonl")
    assert found.value == pytest.approx(entry["hinge"], rel=1e-6)
    assert found.step == 1


def test_a_step_of_another_kind_gets_the_same_result_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = cases.AdamStep()
    plain = cases.images(augment=False)
    task = Task(
        step=step,
        plan=cases.PLAN,
        configuration={"name": "tiny"},
        images=cases.images(),
        monitored=plain,
        tested=plain,
        save=lambda net, path: path.write_text(canonical_sha256(net.state_dict())),
        bound=lambda net: {"lipschitz": 2.0},
        bound_every=4,
    )
    with monkeypatch.context() as patch:
        patch.setattr("experiments.result.write_text", full_disk)
        with pytest.raises(UserError, match=r"metrics.*No space left.*--resume"):
            carry_out(task, tmp_path)
    result = carry_out(task, tmp_path, resume=True)
    assert result.content == json.loads((tmp_path / "run.json").read_text())
    assert result.content["sha256"] == step.sha256()
    metrics = lines(tmp_path / "metrics.jsonl")
    assert ["lipschitz" in entry for entry in metrics] == [False, False, False, True, False, True]
    assert metrics[-1]["test_accuracy"] > 0.5
    assert (tmp_path / "weights.safetensors").read_text() == step.sha256()


def full_disk(path: Path, text: str) -> None:
    with atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_on_a_gpu_train_as_the_plain_step_does(tmp_path: Path, dsnn: Dsnn):
    found = []
    for name, option in (("graphs", "--compile"), ("plain", "--no-compile")):
        (tmp_path / name).mkdir()
        chosen = [*arguments(tmp_path / name, epochs=1), "--device", "cuda", option]
        assert dsnn(*chosen)[0] == 0
        found.append(lines(tmp_path / name / "out" / "metrics.jsonl")[0])
    assert found[0]["hinge"] == pytest.approx(found[1]["hinge"], rel=1e-3)


def test_memory_that_is_full_before_the_first_step_is_one_line(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr("experiments.train.network", full)
    assert "out of memory before" in refused(*arguments(tmp_path, "naive"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--margin", "-0.1"), "margin -0.1"),
        (("--margin", "nan"), "margin nan"),
        (("--margin", "inf"), "margin inf"),
        (("--margin", "0"), "margin 0.0"),
        (("--regime", "expansive"), "'expansive': one of unconstrained"),
        (("--dataset", "mnist"), "'mnist': one of cifar10"),
        (("--scale", "huge"), "huge"),
        (("--dataset", "cifar10", "--data", "nowhere"), "run `dsnn data cifar10`"),
        (("--device", "cuda"), "CUDA"),
        (("--config", "missing.toml"), "missing.toml"),
        (("--from", "weights.safetensors"), "--from is for cifar100"),
        (("--out", "file/below"), "file is not a folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    changes: tuple[str, ...],
    message: str,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
):
    if "cuda" in changes:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert message in refused(*arguments(tmp_path), *changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 0", "epochs 0 is not allowed"),
        ("epochs = 2.5", "epochs = 2.5: expected"),
        ("epoch = 2", "'epoch' is unknown: known are rate"),
        ("margin = 0.3", "'margin' is named on the command line"),
        ("channels = [2, 3]", "expected 3 integers"),
        ("channels = [2, 3, 0]", "three positive numbers"),
        ("momentum = 1.0", "momentum 1.0"),
        ("rate = nan", "rate nan"),
        (f"rate = 1{'0' * 400}", "expected a number"),
        ("augment = 1", "expected of type bool"),
        ("reduction = 1.0", "reduction 1.0"),
        ("batch = 1000", "fewer than one batch of 1000"),
        ('dtype = "float16"', "unknown dtype 'float16'"),
        ("epochs = ", "not a TOML file"),
        ("\\x00", "not a TOML file"),
    ],
)
def test_bad_settings_are_one_line(text: str, message: str, tmp_path: Path, refused: Refused):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    given = ["--regime", "naive", "--dataset", "generated", "--scale", "smoke", "--config", path]
    assert message in refused("train", *given, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_run_keeps_the_commit_that_trained_it(
    tmp_path: Path, dsnn: Dsnn, monkeypatch: pytest.MonkeyPatch
):
    assert dsnn(*arguments(tmp_path, "naive", epochs=1))[0] == 0
    before = (tmp_path / "out" / "run.json").read_text()
    monkeypatch.setattr("experiments.result.commit", lambda: {"commit": 40 * "f"})
    assert dsnn(*arguments(tmp_path, "naive", epochs=1), "--resume")[0] == 0
    assert (tmp_path / "out" / "run.json").read_text() == before


def test_a_result_is_not_overwritten_and_not_mixed(tmp_path: Path, dsnn: Dsnn, refused: Refused):
    assert dsnn(*arguments(tmp_path, "naive", epochs=1))[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert "--resume" in refused(*arguments(tmp_path, "naive", epochs=1))
    assert "rate = 0.01, this one has 0.02" in refused(
        *arguments(tmp_path, "naive", epochs=1, rate=0.02), "--resume"
    )
    other = refused(*arguments(tmp_path, "non-expansive", epochs=1), "--resume")
    assert "regime = 'naive', this one has 'non-expansive'" in other
    newest = Checkpoints(tmp_path / "out" / "checkpoints", {}).newest()
    assert newest is not None
    for taken in (newest, tmp_path / "out" / "metrics.jsonl"):
        line = refused(*arguments(tmp_path, "naive", epochs=1), "--resume", "--json", taken)
        assert "would write over another file" in line
    assert {p: p.read_bytes() for p in before} == before
    newest.write_bytes(before[newest][:-9])
    assert "damaged" in refused(*arguments(tmp_path, "naive", epochs=1), "--resume")


def test_a_result_whose_checkpoints_are_gone_is_not_overwritten(
    tmp_path: Path, dsnn: Dsnn, refused: Refused
):
    assert dsnn(*arguments(tmp_path, "naive", epochs=1))[0] == 0
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    before = (tmp_path / "out" / "weights.safetensors").read_bytes()
    for more in ((), ("--resume",)):
        line = refused(*arguments(tmp_path, "naive", epochs=1), "--seed", 1, *more)
        assert "would be written over" in line
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == before


def test_weights_of_another_kind_are_no_start(tmp_path: Path, refused: Refused):
    given = ["train", "--regime", "naive", "--dataset", "cifar100", "--scale", "smoke"]
    mean, std = training("cifar10")
    files = {}
    for name, regime, classes, channels in (
        ("classes", "naive", 100, (4, 6, 8)),
        ("regime", "non-expansive", 10, (4, 6, 8)),
        ("width", "naive", 10, (4, 6, 9)),
    ):
        files[name] = tmp_path / f"{name}.safetensors"
        dataset = "cifar100" if classes == 100 else "cifar10"
        card = Card(regime, dataset, 0.15, mean, std)
        save(files[name], build(regime, classes, channels=channels), card)
    for name, message in (
        ("classes", "holds cifar100 weights"),
        ("regime", "holds non-expansive weights"),
        ("width", "set channels"),
    ):
        line = refused(*given, "--from", files[name], "--out", tmp_path / "out")
        assert message in line
    assert not (tmp_path / "out").exists()


def test_published_weights_are_a_start(tmp_path: Path, refused: Refused):
    """What is missing in the end is images, not the name of the regime."""
    ours = build("non-expansive").state_dict()
    keys = key_map("non-expansive").items()
    state = {s.key: ours[name] for name, s in keys if s.entries is None}
    for k in range(3):
        state |= {f"seq.{k}.u": torch.ones(4), f"seq.{k}.rescalings": torch.ones(3)}
    torch.save(state, tmp_path / "start.pt")
    given = ["--regime", "non-expansive", "--dataset", "cifar100", "--scale", "paper"]
    where = ["--from", tmp_path / "start.pt", "--data", tmp_path, "--out", tmp_path / "out"]
    assert "no cifar100 images" in refused("train", *given, *where)
