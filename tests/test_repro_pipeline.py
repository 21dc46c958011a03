"""The pipeline of `dsnn reproduce`: plans, Snakemake, interrupts, and bad input."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dsnn.data.folder import VARIABLE, data_folder
from dsnn.errors import UserError
from paper_repro import estimates, freshness, models, pipeline
from paper_repro.artefact import Artefact
from paper_repro.lock import held
from paper_repro.networks import FILES
from paper_repro.plan import Job, fitting, jobs
from paper_repro.registry import registry, select
from paper_repro.reproduce import CommandFailed, Place, Unfinished, alarm

Dsnn = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
FIRST, SECOND = "retrained-naive-cifar10-0.15-0", "retrained-naive-cifar100-0.15-0"
ATTACKED = f"evaluation-{SECOND}"
REGIMES = ("unconstrained", "naive", "non-expansive", "switch-prescribed", "switch-flexible")


def places_of(out: Path, data: Path, scale: str = "smoke") -> dict[str, Place]:
    return {name: Place(a, out, data, scale) for name, a in registry(scale).items()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data folder with files of the right names, for what only looks whether they are there."""
    folder = tmp_path / "data"
    for file in (*FILES["cifar10"], *FILES["cifar100"]):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"images")
    return folder


def test_a_plan_has_what_is_needed_in_order(tmp_path: Path, images: Path) -> None:
    plan = jobs(places_of(tmp_path, images), [ATTACKED])
    order = [job.id for job in plan]
    assert sorted(order) == sorted(["data-cifar10", "data-cifar100", FIRST, SECOND, ATTACKED])
    for job in plan:
        assert all(order.index(before) < order.index(job.id) for before in job.after)
    after = {job.id: set(job.after) for job in plan}
    assert after[ATTACKED] == {SECOND, "data-cifar100"}
    assert after[SECOND] == {FIRST, "data-cifar100"}


QUICK = {model.id for model in models.short() if model.regime == "certified-non-expansive"}


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_all_trains_every_regime_at_every_margin(scale: str, tmp_path: Path, images: Path) -> None:
    known = registry(scale)
    plan = jobs(places_of(tmp_path, images, scale), [n for n, a in known.items() if a.in_all])
    trained = {job.id for job in plan if job.rule == "train"}
    grid = {
        f"retrained-{regime}-{dataset}-{margin}-0"
        for regime in REGIMES
        for dataset in ("cifar10", "cifar100")
        for margin in ("0.07", "0.15", "0.3")
    }
    assert grid <= trained
    evaluated = {job.id for job in plan if job.rule in ("attack", "evaluate")}
    assert {f"evaluation-{name}" for name in trained} <= evaluated
    certified = trained - grid
    assert certified
    if scale == "cpu":
        assert certified == QUICK, "half an hour each is named, or not run"
    attacked = [n for n, a in known.items() if n.startswith("autoattack-") and a.in_all]
    assert bool(attacked) == (scale == "paper"), "hours on a processor"
    last = plan[-1]
    assert (last.id, len(last.after)) == ("report", len(plan) - 1)


def test_what_cannot_be_made_takes_what_needs_it_along(tmp_path: Path, images: Path) -> None:
    shutil.rmtree(images / "cifar-100-python")
    places = places_of(tmp_path, images)
    plan = {job.id for job in jobs(places, places)}
    assert FIRST in plan
    assert not {name for name in plan if "cifar100-" in name and name.startswith("retr")}
    assert places[ATTACKED].status() == "not run"


def test_figures_come_after_the_networks_they_draw(tmp_path: Path, images: Path) -> None:
    places = places_of(tmp_path, images)
    plan = {job.id: set(job.after) for job in jobs(places, places)}
    for name, place in places.items():
        drawn = {f"evaluation-{model}" for model in place.artefact.evaluations}
        drawn |= set(place.artefact.runs)
        assert drawn & plan.keys() <= plan.get(name, drawn & plan.keys())


def test_only_what_fits_is_chosen(tmp_path: Path, images: Path) -> None:
    plan = jobs(places_of(tmp_path, images), [ATTACKED, "auc-cifar10"])
    seconds = {"data-cifar10": 1.0, "data-cifar100": 1.0, FIRST: 10.0, SECOND: 10.0, ATTACKED: 5.0}
    seconds["auc-cifar10"] = 2.0

    def chosen(budget: float) -> set[str]:
        return {job.id for job in fitting(plan, seconds, budget)}

    assert chosen(0.0) == {"auc-cifar10"}
    assert chosen(28.0) == chosen(20.0) == set(seconds) - {ATTACKED}, "trainings stop in time"
    assert chosen(29.0) == set(seconds)
    assert chosen(8.0) == {"auc-cifar10", "data-cifar10", "data-cifar100", FIRST}


def test_estimates_know_kinds_and_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert estimates.kind("evaluation-retrained-naive-cifar10-0.15-0") == (
        "evaluation-retrained-naive-cifar10"
    )
    assert estimates.kind("contractivity-s1") == "contractivity-s1"
    kept = {"calibration": 2.0, "seconds": {estimates.kind(FIRST): 30.0}}
    (tmp_path / "kept" / "smoke").mkdir(parents=True)
    (tmp_path / "kept" / "smoke" / "seconds.json").write_text(json.dumps(kept))
    monkeypatch.setattr(estimates, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(estimates, "calibration", lambda: 3.0)
    place = places_of(tmp_path, tmp_path)[FIRST]
    assert estimates.estimates([place], "smoke") == {FIRST: 45.0}
    freshness.write_record(place.record, {}, [], [], 5.0)
    assert estimates.estimates([place], "smoke") == {FIRST: 40.0}, "less what is done"
    made = tmp_path / "made"
    made.write_text("")
    freshness.write_record(place.record, {}, [made], [], 7.0)
    assert estimates.estimates([place], "smoke") == {FIRST: 7.0}
    assert estimates.estimates([place], "paper") == {FIRST: 7.0}
    assert estimates.calibration() > 0


def test_a_home_that_cannot_be_written_stops_nothing(
    dsnn: Dsnn, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    where = ("--scale", "smoke", "--out", tmp_path / "out", "--data", images)
    code, _, error = dsnn("reproduce", "data-cifar10", *where)
    assert code == 1
    assert "is not the published file" in error, "the job ran, and has found what is wrong"


def test_groups_stand_for_all_of_a_kind() -> None:
    known = registry("cpu")
    assert set(select(["figures"], known)) == {n for n, a in known.items() if a.kind == "figure"}
    assert {name for name in select(["models"], known) if "certified" in name} == QUICK
    assert select(["auc-cifar10", "auc-cifar10"], known) == ["auc-cifar10"]
    with pytest.raises(UserError, match="figures, tables"):
        select(["figure"], known)


def test_a_run_at_work_is_not_disturbed(refused: Refused, tmp_path: Path, images: Path) -> None:
    where = ("--scale", "smoke", "--out", tmp_path / "out", "--data", images)
    with held(tmp_path / "out" / "smoke" / "pipeline" / "lock", wait=False):
        line = refused("reproduce", FIRST, *where)
    assert "at work" in line
    assert "--out" in line


def test_an_interrupt_of_this_process_alone_ends_the_jobs(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `kill -INT`, where a terminal would tell Snakemake and its jobs as well."""
    job = "import signal, subprocess; signal.signal(signal.SIGINT, signal.default_int_handler); "
    job += "subprocess.run(['sleep', '60'])"  # begun in the background, tests may ignore the signal
    monkeypatch.setattr(pipeline, "command", lambda plan, profile: [sys.executable, "-c", job])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_watch", interrupted)
    plan, start = jobs(places_of(tmp_path / "out", images), ["data-cifar10"]), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(plan, None)
    assert time.monotonic() - start < 30


def test_an_interrupt_of_a_terminal_lets_the_jobs_of_a_cluster_be_cancelled(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake has it too, and `scancel` may take longer than jobs of this machine take to end."""
    done = tmp_path / "cancelled"
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    print(1, flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1)\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
    )
    monkeypatch.setattr(
        pipeline, "command", lambda plan, profile: [sys.executable, "-c", program, str(done)]
    )

    def interrupted(process: subprocess.Popen[bytes], jobs: object, folder: Path) -> None:
        while not (folder / "snakemake.txt").read_text():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_watch", interrupted)
    monkeypatch.setattr(pipeline, "_GRACE", 0.1)
    plan = jobs(places_of(tmp_path / "out", images), ["data-cifar10"])
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(plan, "cluster")
    assert done.exists()


def test_training_files_that_are_missing(refused: Refused, tmp_path: Path, images: Path) -> None:
    (images / "cifar-100-python" / "train").unlink()
    out = tmp_path / "out"
    where = ("--scale", "smoke", "--out", out, "--data", images)
    for asked in ("--all", SECOND):
        line = refused("reproduce", asked, *where)
        assert str(images / "cifar-100-python" / "train") in line
        assert "dsnn data cifar100" in line
    assert not out.exists()


def test_results_of_another_version_are_kept(
    refused: Refused, tmp_path: Path, images: Path
) -> None:
    out = tmp_path / "out"
    place = places_of(out, images)[FIRST]
    weights = place.stem / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"hours of work")
    where = ("--scale", "smoke", "--out", out, "--data", images)
    assert "another version" in refused("reproduce", ATTACKED, *where), "no record at all"
    came_from = place.origin()
    code = {**came_from["code"], "experiments.train": "other"}
    freshness.write_record(place.record, {**came_from, "code": code}, [], [], 1.0)
    line = refused("reproduce", FIRST, *where)
    assert str(place.stem) in line
    assert "code" in line
    assert "move it away" in line
    assert weights.read_bytes() == b"hours of work"
    freshness.write_record(place.record, came_from, [], [], 1.0)
    place.check_version()


def test_a_profile_takes_the_plan_to_slurm(tmp_path: Path, images: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    profile = tmp_path / "profile"
    profile.mkdir()
    settings = "executor: slurm\njobs: 64\nset-resources:\n  train:\n    runtime: 600\n"
    (profile / "config.yaml").write_text(settings)
    plan = jobs(places_of(tmp_path, images, "paper"), [ATTACKED, "auc-cifar10"])
    file = pipeline.write_plan(tmp_path / "paper" / "pipeline", plan, None)
    done = subprocess.run(
        [*pipeline.command(file, str(profile)), "--dry-run"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    counted = dict(
        line.split() for line in done.stdout.splitlines() if len(line.split()) == 2
    )  # of the job table
    assert {rule: counted.get(rule) for rule in ("prepare", "train", "attack", "figure")} == (
        {"prepare": "2", "train": "2", "attack": "1", "figure": "1"}
    )
    assert "runtime=600" in done.stdout


def test_the_report_says_of_each_that_is_left_out_what_it_waits_for(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNN_DATA", str(images))
    report = places_of(tmp_path / "out", images, "cpu")["report"]
    report.make()
    text = report.files[0].read_text(encoding="utf-8")
    assert "it waits for its name: it takes too long for --all" in text, "its data is there"
    assert f"it waits for the file {images / 'published'}" in text
    assert "it cannot be made with the data that is here" not in text
    assert "on this machine" in text, "estimated"


def test_a_profile_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    line = refused("reproduce", "auc-cifar10", "--out", tmp_path, "--profile", "nowhere")
    assert "snakemake" in line
    assert "nowhere" in line


def test_a_profile_for_what_is_fresh_is_not_needed(dsnn: Dsnn, tmp_path: Path) -> None:
    command = ("reproduce", "contractivity-s1", "--scale", "smoke", "--out", tmp_path)
    assert dsnn(*command)[0] == 0
    assert dsnn(*command, "--profile", "nowhere")[0] == 0


def test_a_job_that_fails_is_told_and_the_rest_is_made(
    dsnn: Dsnn, tmp_path: Path, images: Path
) -> None:
    out = tmp_path / "out"
    locks = out / "smoke" / "pipeline" / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(str(out))  # of a Snakemake that was killed
    code, text, error = dsnn(
        "reproduce", "data-cifar10", "auc-cifar10", "report",
        "--scale", "smoke", "--out", out, "--data", images,
    )  # fmt: skip
    assert code == 1
    (line,) = error.splitlines()
    assert line.startswith("dsnn: data-cifar10: ")
    assert "is not the published file" in line
    assert "fresh    auc-cifar10" in text
    assert "fresh    report" in text, "it waits for all that is made, and can do without"


def test_what_is_made_in_this_process_looks_into_the_folder_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is, where a job failed or its time was up, and it says what is there."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "another"))
    seen: list[Path] = []

    def make(inputs: object, stem: Path) -> list:
        seen.append(data_folder().path)
        stem.parent.mkdir(parents=True)
        stem.with_suffix(".csv").write_text("made\n")
        return []

    Place(Artefact("made", "data", "", make, ("csv",)), tmp_path, tmp_path / "data").make()
    assert seen == [tmp_path / "data"]
    assert os.environ[VARIABLE] == str(tmp_path / "another")


def test_no_time_leaves_all_to_the_next_run(dsnn: Dsnn, tmp_path: Path, images: Path) -> None:
    where = ("--scale", "smoke", "--out", tmp_path / "out", "--data", images)
    code, text, error = dsnn("reproduce", "data-cifar10", *where, "--minutes", "0")
    assert (code, error) == (3, "")
    assert text.startswith("missing")


def test_a_training_stops_in_time_and_goes_on(tmp_path: Path, data_folder: Path) -> None:
    place = places_of(tmp_path, data_folder)[FIRST]
    with pytest.raises(Unfinished):
        place.make(time.time() + 0.1)
    assert place.status() == "missing"
    begun = freshness.read_record(place.record)
    assert begun is not None
    assert begun["files"] == {}
    assert begun["seconds"] > 0
    place.make()
    assert place.status() == "fresh"
    made = freshness.read_record(place.record)
    assert made is not None
    assert made["seconds"] >= begun["seconds"]
    with pytest.raises(Unfinished):
        place.make(time.time())


@pytest.mark.parametrize("name", ["{id} {x}", "a #1", "a: b", "100 %s"])
def test_names_of_folders_are_no_patterns(
    name: str, dsnn: Dsnn, tmp_path: Path, images: Path
) -> None:
    """Snakemake reads braces as wildcards, and values on its command line as YAML."""
    data = images.rename(tmp_path / f"data {name}")
    where = ("--scale", "smoke", "--out", tmp_path / name, "--data", data)
    code, _, error = dsnn("reproduce", "data-cifar10", *where)
    assert (code, error.count("\n")) == (1, 1), error
    assert error.startswith("dsnn: data-cifar10: "), "the job ran, and has found what is wrong"
    assert str(data) in error


def test_the_alarm_is_no_error_that_others_catch() -> None:
    def works() -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    with pytest.raises(Unfinished), alarm(0.05):
        works()
    with alarm(None), alarm(60.0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_command_that_fails_has_no_record(tmp_path: Path, images: Path) -> None:
    place = places_of(tmp_path / "out", images)["data-cifar10"]
    with pytest.raises(CommandFailed, match="1"):
        place.make()
    assert place.status() != "fresh"
    assert Job(place, ()).rule == "prepare"
