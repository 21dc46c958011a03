"""`python -m paper_repro.NAME` answers wrong usage in one line, with exit code 2."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from paper_repro import demo, deviations, estimates, keep, site
from paper_repro.script import answer


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (keep, [], "RUN"),
        (keep, ["nowhere", "nothing.json"], "cannot read nowhere/run.json"),
        (keep, ["a", "b", "c"], "c"),
        (estimates, [], "FOLDER"),
        (estimates, ["nowhere"], "nothing was timed in nowhere"),
        (site, ["nowhere"], "RESULT"),
        (site, ["nowhere", "nothing.json"], "cannot read nothing.json"),
        (demo, ["--no"], "--no"),
        (deviations, ["first"], "numbers"),
        (deviations, ["26"], "no deviation 26"),
    ],
)
def test_wrong_usage_is_one_line(
    module: ModuleType, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(module.main, arguments) == 2
    out, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert out == ""
    assert line.startswith(f"{module.__name__.rpartition('.')[2]}: ")
    assert said.lower() in line.lower()  # typer has changed how it writes names


def test_help_is_the_module_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(keep.main, ["--help"]) == 0
    text = capsys.readouterr().out
    assert "python -m paper_repro.keep [OPTIONS]" in text
    assert "Keep a trained network" in text


def test_a_result_without_its_entries_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text('{"sha256": "0"}')
    assert answer(keep.main, [str(tmp_path), str(tmp_path / "run.json")]) == 2
    assert "no result of `dsnn train`" in capsys.readouterr().err


def test_the_process_ends_with_the_code() -> None:
    command = [sys.executable, "-m", "paper_repro.keep"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
