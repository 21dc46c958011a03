"""The loop with a step of another kind: resuming, slices, kills, and what goes wrong."""

import errno
import math
import os
import random
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import training_cases as cases
from safetensors.torch import load_file, save_file
from training_cases import BATCH, EPOCHS, PLAN, STEPS, AdamStep, run, until_finished

from dsnn.errors import UserError
from dsnn.models.certified import Sizes, build_certified
from dsnn.training.certified import CertifiedStep
from dsnn.training.checkpoint import KEPT, Checkpoints, Progress, _digest, _read
from dsnn.training.engine import RESTARTS, Limits, Plan, Report, train
from dsnn.training.images import ResidentImages
from dsnn.training.processes import Processes
from dsnn.training.schedule import WarmupLinear


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of a run that nothing disturbed."""
    step, done = run(tmp_path_factory.mktemp("straight"))
    assert done.finished
    assert step.calls == EPOCHS * STEPS
    return step.sha256()


def test_the_loss_goes_down_and_every_epoch_has_its_metrics(tmp_path: Path):
    reports: list[Report] = []
    _, done = run(
        tmp_path,
        report=reports.append,
        at_epoch_end=lambda net, metrics: {"seen": metrics["epoch"]},
    )
    metrics = done.progress.metrics
    assert [entry["epoch"] for entry in metrics] == [1, 2, 3, 4, 5, 6]
    assert [entry["seen"] for entry in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[-1]["cross_entropy"] < metrics[0]["cross_entropy"]
    assert metrics[-1]["rate"] == pytest.approx(0.01 * PLAN.schedule(Fraction(29, 30)))
    assert len(reports) == EPOCHS * STEPS
    assert [r.losses for r in reports if r.step == STEPS][2] == {
        name: metrics[2][name] for name in ("cross_entropy", "decay")
    }
    assert 0 < metrics[0]["training_seconds"] <= metrics[-1]["training_seconds"]
    assert metrics[-1]["training_seconds"] <= metrics[-1]["wall_seconds"]


@pytest.mark.parametrize("limits", [Limits(seconds=0), Limits(seconds=0, steps=2)])
def test_slices_of_one_step_end_with_the_same_bits(tmp_path: Path, straight: str, limits: Limits):
    slices = list(until_finished(tmp_path, limits))
    assert len(slices) == EPOCHS * STEPS  # an epoch of one step stops too, after it
    assert slices[-1][0].sha256() == straight
    _, done = run(tmp_path, resume=True)
    assert done.finished
    assert [entry["epoch"] for entry in done.progress.metrics] == [1, 2, 3, 4, 5, 6]


def test_metrics_and_times_add_up_over_slices(tmp_path: Path):
    _, whole = run(tmp_path / "whole")
    *_, (_, done) = until_finished(tmp_path / "slices", Limits(seconds=0))
    for mine, theirs in zip(done.progress.metrics, whole.progress.metrics, strict=True):
        assert mine["cross_entropy"] == theirs["cross_entropy"]
        assert mine["rate"] == theirs["rate"]
    seconds = [entry["wall_seconds"] for entry in done.progress.metrics]
    assert seconds == sorted(seconds)
    assert done.progress.cpu_seconds > 0


def certified_step() -> CertifiedStep:
    torch.manual_seed(0)
    net = build_certified("certified-switch", sizes=Sizes((12, 48), (1, 1)))
    return CertifiedStep(net, rate=1e-2, dtype=torch.float32)


def test_the_step_of_certified_networks_is_driven_and_resumed_too(tmp_path: Path):
    generator = torch.Generator().manual_seed(1)
    data = ResidentImages(
        torch.randint(256, (12, 32, 32, 3), generator=generator, dtype=torch.uint8),
        torch.arange(12) % 10,
        mean=(0.5, 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
        device=torch.device("cpu"),
    )
    plan = Plan(epochs=2, batch=4, schedule=WarmupLinear(Fraction(1, 5)))
    whole, sliced = certified_step(), certified_step()
    train(whole, data, plan, Checkpoints(tmp_path / "whole", {}))
    done, slices = False, 0
    while not done:
        sliced, slices = certified_step(), slices + 1
        checkpoints = Checkpoints(tmp_path / "sliced", {})
        done = train(
            sliced, data, plan, checkpoints, resume=True, limits=Limits(seconds=0)
        ).finished
    assert slices == 6
    expected = whole.net.state_dict()
    for name, value in sliced.net.state_dict().items():
        assert torch.equal(value, expected[name])


def killed(folder: Path, *, kills: int, seed: int, epochs: int, every: int = 0) -> str:
    """Kill -9 so many runs in this folder, at random moments, and let the last one end. A kill may
    come when a run has ended already, but most must not."""
    draw = random.Random(seed)
    program = [sys.executable, str(Path(__file__).with_name("training_cases.py"))]
    digest, reached, landed = "", 0, 0
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        for kill in range(kills + 1):
            patience, pid, seen, digest = draw.randrange(1, 2 * STEPS), 0, 0, ""
            host.stdin.write(f"{folder} {epochs} {every}\n")
            for word, value in map(str.split, host.stdout):
                if word == "ended":
                    landed += not digest
                    break
                elif word == "pid":
                    pid = int(value)
                elif word == "sha256":
                    digest = value
                else:
                    step = int(word) * STEPS + int(value)
                    if seen == 0:
                        assert step > reached - STEPS  # at most an epoch is done again
                    reached, seen = step, seen + 1
                    if seen == patience and kill < kills:
                        os.kill(pid, signal.SIGKILL)
        host.stdin.close()
    assert landed > kills // 2
    return digest


def undisturbed(folder: Path, epochs: int) -> str:
    return run(folder, plan=cases.long(epochs))[0].sha256()


def test_kills_lose_at_most_an_epoch_and_change_nothing(tmp_path: Path):
    found = killed(tmp_path / "killed", kills=4, seed=1, epochs=60)
    assert found == undisturbed(tmp_path / "straight", 60)


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 1, 2])
def test_twenty_kills_change_nothing(tmp_path: Path, every: int):
    found = killed(tmp_path / "killed", kills=20, seed=every, epochs=400, every=every)
    assert found == undisturbed(tmp_path / "straight", 400)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path):
    run(tmp_path, limits=Limits(steps=2))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"epoch-{n:05d}.safetensors" for n in range(EPOCHS - KEPT + 1, EPOCHS + 1)]


def test_checkpoints_are_in_the_order_of_their_epochs(tmp_path: Path):
    checkpoints, step = Checkpoints(tmp_path, {}), AdamStep()
    for epochs in (99_998, 99_999, 100_000):
        checkpoints.save(step, Progress(epochs=epochs))
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.name == "epoch-100000.safetensors"
    copy = newest.with_name("epoch-100001-copy.safetensors")
    copy.write_bytes(newest.read_bytes())
    assert checkpoints.newest() == newest
    checkpoints.save(step, Progress(epochs=100_001))
    assert copy.exists()


def test_a_stale_partial_checkpoint_is_not_taken(tmp_path: Path, straight: str):
    run(tmp_path, limits=Limits(seconds=0))
    (partial,) = tmp_path.glob("partial-*")
    old = partial.read_bytes()
    run(tmp_path, resume=True)
    partial.write_bytes(old)  # as if the run had been killed before it removed this one
    step, done = run(tmp_path, resume=True)
    assert done.finished
    assert step.calls == 0
    assert step.sha256() == straight


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(UserError, match="--resume"):
        run(tmp_path)


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path):
    def second(step: AdamStep) -> None:
        if step.calls == STEPS + 1:
            with pytest.raises(UserError, match="another run is at work"):
                run(tmp_path, resume=True, name="other")

    assert run(tmp_path, AdamStep(second))[1].finished
    assert run(tmp_path, resume=True)[1].finished  # the lock has ended with the run


class Elsewhere(Processes):
    """The second of two processes, on a machine that has not got the folder of the first."""

    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None: ...

    def same_weights(self, net: torch.nn.Module) -> None: ...


@pytest.mark.parametrize(
    ("said", "message"),
    [([False, True], "not for every process"), ([True], "the first process says")],
)
def test_a_process_without_the_checkpoints_does_not_begin_anew(
    said: list[bool], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor does it begin, or wait, where the first process could not."""
    answers = iter(said)
    monkeypatch.setattr(Elsewhere, "agree", lambda *_: next(answers))
    with pytest.raises(UserError, match=message):
        run(tmp_path, resume=True, group=Elsewhere(2, 1))


def test_a_run_of_another_configuration_is_refused(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(UserError, match="name = 'tiny', this one has 'other'"):
        run(tmp_path, resume=True, name="other")


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_serves(
    tmp_path: Path, straight: str, damage: str
):
    run(tmp_path)
    path = max(tmp_path.glob("epoch-*"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    damaged = {"cut": content[: len(content) // 2], "bit": content, "empty": b"", "text": b"{}"}
    path.write_bytes(bytes(damaged[damage]))
    with pytest.raises(UserError, match="damaged") as caught:
        run(tmp_path, resume=True)
    assert str(path) in str(caught.value)
    path.unlink()
    assert run(tmp_path, resume=True)[0].sha256() == straight


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    run(tmp_path)
    other = AdamStep()
    other.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 36, 3))
    with pytest.raises(UserError, match="does not fit"):
        run(tmp_path, other, resume=True)


def test_a_whole_checkpoint_of_other_content_is_refused(tmp_path: Path):
    run(tmp_path)
    path = max(tmp_path.glob("epoch-*"))
    tensors, text = _read(path)
    tensors["optimizer.99.exp_avg"] = torch.zeros(1)
    for content in ("{}", "[]", text):
        save_file(tensors, path, {"json": content, "sha256": _digest(tensors, content)})
        with pytest.raises(UserError, match="does not fit"):
            run(tmp_path, resume=True)


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_saved(
    tmp_path: Path, straight: str, monkeypatch: pytest.MonkeyPatch
):
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    run(tmp_path, limits=Limits(seconds=0))
    with monkeypatch.context() as patch:
        patch.setattr("dsnn.training.checkpoint.save_file", full)
        with pytest.raises(UserError, match=r"No space left.*--resume"):
            run(tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert run(tmp_path, resume=True)[0].sha256() == straight


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("tried to allocate 80 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"),
    ],
)
def test_a_full_device_is_one_line_and_the_run_goes_on(
    tmp_path: Path, straight: str, error: Exception
):
    def exhausted(step: AdamStep) -> None:
        if step.calls == 2 * STEPS + 2:
            raise error

    with pytest.raises(UserError, match="out of memory with batches of 8") as caught:
        run(tmp_path, AdamStep(exhausted))
    assert "epoch-00002" in str(caught.value)
    step, _ = run(tmp_path, resume=True)
    assert step.calls == (EPOCHS - 2) * STEPS
    assert step.sha256() == straight


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError])
def test_an_error_that_is_no_lack_of_memory_is_not_called_one(
    tmp_path: Path, kind: type[RuntimeError]
):
    def broken(step: AdamStep) -> None:
        raise kind("shapes do not match")

    with pytest.raises(kind, match="shapes"):
        run(tmp_path, AdamStep(broken))


def spoilt(above: float, at: int = 2) -> AdamStep:
    """A step whose weights turn to NaN in its `at`-th epoch while the rate exceeds `above`."""

    def spoil(step: AdamStep) -> None:
        if step.calls > (at - 1) * STEPS + 2 and step.optimizer.param_groups[0]["lr"] > above:
            with torch.no_grad():
                next(step.net.parameters()).fill_(math.nan)

    return AdamStep(spoil)


def test_a_nan_takes_the_run_back_with_a_smaller_rate(tmp_path: Path):
    step, done = run(tmp_path, spoilt(above=2e-4))
    assert done.finished
    (first, second) = done.progress.restarts
    assert first["epoch"] == second["epoch"] == 2
    assert "nan" in first["reason"]
    assert [round(r["reduction"], 6) for r in (first, second)] == [0.1, 0.01]
    assert [entry["restarts"] for entry in done.progress.metrics] == [0, 2, 2, 2, 2, 2]
    rates = [entry["rate"] for entry in done.progress.metrics]
    assert rates[1] < 0.011 * rates[0]
    assert all(bool(value.isfinite().all()) for value in step.net.state_dict().values())


def test_a_nan_only_in_the_weights_of_the_last_step_is_found(tmp_path: Path):
    step = AdamStep()
    inner = step.optimizer.step

    def planted() -> None:
        inner()
        if step.calls == STEPS:  # after the loss of the epoch's last step was computed
            with torch.no_grad():
                next(step.net.parameters())[0] = math.inf

    step.optimizer.step = planted  # pyright: ignore[reportAttributeAccessIssue]
    _, done = run(tmp_path, step)
    (restart,) = done.progress.restarts
    assert restart["reason"].startswith("weight ")


def test_a_rate_that_no_reduction_mends_ends_the_run(tmp_path: Path):
    with pytest.raises(UserError, match=f"after {RESTARTS} reductions"):
        run(tmp_path, spoilt(above=-1.0))
    newest = Checkpoints(tmp_path, {}).newest()
    assert newest is not None
    assert newest.name == "epoch-00001.safetensors"
    assert all(bool(t.isfinite().all()) for n, t in load_file(newest).items() if n[:3] == "net")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"epochs": 0}, "0 epochs"),
        ({"batch": 0}, "batches of 0"),
        ({"batch": 45}, "44 images are fewer than one batch of 45"),
        ({"reduction": 1.0}, "reduction 1.0"),
        ({"reduction": math.nan}, "reduction nan"),
    ],
)
def test_impossible_plans_are_refused(tmp_path: Path, plan: dict[str, float], message: str):
    settings = {"epochs": 2, "batch": BATCH, "schedule": PLAN.schedule} | plan
    with pytest.raises(UserError, match=message):
        run(tmp_path, plan=Plan(**settings))  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())
