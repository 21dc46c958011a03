"""A run that is killed at random moments ends with the same bytes."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_repro_pipeline import ATTACKED, FIRST, places_of

from paper_repro.plan import jobs


def _made_here(out: Path, data: Path, name: str) -> None:
    for job in jobs(places_of(out, data), [name]):
        job.place.make()


def _killed(command: list[str], seconds: float) -> bool:
    """Run it, and kill it with all its children after so long; whether it was still at work."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, error.decode()
    return False


def _processor_seconds() -> float:
    """Of all child processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _survives(tmp_path: Path, data: Path, name: str, kills: int) -> None:
    """Killed at random moments and gone on with, a run ends with the bytes of a whole one."""
    start = time.monotonic()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _made_here(whole, data, name)
    usual = time.monotonic() - start
    command = [
        *(sys.executable, "-m", "dsnn", "reproduce", name, "--scale", "smoke"),
        *("--out", str(broken), "--data", str(data)),
    ]
    moments = random.Random(7)
    for _ in range(kills):
        _killed(command, moments.uniform(1.0, 5.0 + usual))
    assert not _killed(command, 600.0)
    tables = [path.relative_to(whole) for path in whole.rglob("*.csv")]
    assert tables
    for table in tables:
        assert (broken / table).read_bytes() == (whole / table).read_bytes(), table
    for run in whole.rglob("run.json"):
        weights = [
            json.loads(path.read_text())["sha256"]
            for path in (run, broken / run.relative_to(whole))
        ]
        assert weights[0] == weights[1], "of their canonical bytes: a header has no fixed order"
    plan, before = broken / "smoke" / "pipeline" / "plan.json", _processor_seconds()
    plan.unlink()
    assert not _killed(command, 600.0)
    assert not plan.exists(), "Snakemake is not even started"
    assert _processor_seconds() - before < 10


def test_two_kills_change_no_byte(tmp_path: Path, data_folder: Path) -> None:
    _survives(tmp_path, data_folder, f"evaluation-{FIRST}", 2)


@pytest.mark.slow
def test_ten_kills_change_no_byte(tmp_path: Path, data_folder: Path) -> None:
    _survives(tmp_path, data_folder, ATTACKED, 10)
