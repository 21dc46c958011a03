"""`assert_proved` in somebody's tests: what a failure says, and what the plugin costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from verification import assert_proved
from verification.asserting import NotProved

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit.md"


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_theirs.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_the_example_of_the_document_fails_and_passes_as_it_says(tmp_path: Path):
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    done = run(tmp_path, source)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "def assert_proved" not in done.stdout, "a reader sees their own line"
    assert re.search(r"lipschitz<=1: REFUTED \[[3-7]\.\d+, 7\.\d+\]", done.stdout), (
        "verdict and interval"
    )
    assert "two inputs at distance" in done.stdout
    assert "y − x" in done.stdout, "the witness"
    section = done.stdout.split("dsnn evidence", 1)[1]
    assert "the product of" in section
    assert re.search(r"2  norm  norm ≤ \d", section)
    assert "Gram matrix, Cholesky" in section


def test_the_plugin_imports_nothing_heavy(tmp_path: Path):
    source = """
import sys
LOADED = {name.partition(".")[0] for name in sys.modules}
def test_loaded():
    assert "verification.pytest_plugin" in sys.modules
    assert not LOADED & {"torch", "numpy", "sympy", "dsnn", "theory"}
    assert False, "a failure of their own"
"""
    done = run(tmp_path, source)
    assert "a failure of their own" in done.stdout, done.stdout + done.stderr
    assert "dsnn evidence" not in done.stdout


def test_a_failure_holds_its_report():
    with pytest.raises(NotProved, match=r"orthogonal: REFUTED \[.*at a point of norm") as raised:
        assert_proved(nn.Linear(2, 2), "lipschitz<=100", "orthogonal", input_shape=(2,))
    assert [v.outcome for v in raised.value.report.verdicts] == ["proved", "refuted"]
    assert "lipschitz<=100" not in str(raised.value), "only what is not proved"
    assert "[1]" in str(raised.value), "the point, entry by entry"


def test_nothing_claimed_is_nothing_proved():
    with pytest.raises(AssertionError, match="no claims"):
        assert_proved(nn.Linear(2, 2), input_shape=(2,))
