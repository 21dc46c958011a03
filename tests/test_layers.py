"""Dependencies point down only, and the command line starts without what it does not need."""

import ast
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from dsnn import cli

ROOT = Path(__file__).parent.parent
FLOORS = ("theory", "dsnn", "verification", "experiments", "paper_repro")


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor: str):
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "benchmarks"}
    for path in (ROOT / floor).rglob("*.py"):
        assert not imported(path) & above, path


def test_theory_has_no_torch():
    for path in (ROOT / "theory").rglob("*.py"):
        assert "torch" not in imported(path), path
    code = "import theory, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_the_sandbox_s_own_process_needs_unix() -> None:
    """Modules are audited on Windows too: what an audit imports imports nothing that it lacks."""
    for floor in ("theory", "dsnn", "verification"):
        for path in (ROOT / floor).rglob("*.py"):
            first = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import)]
            names = {alias.name for node in first for alias in node.names}
            assert path.name == "isolation.py" or not names & {"fcntl", "resource"}, path


def test_help_does_not_import_torch():
    code = "import sys; from dsnn.cli import run; run(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for command in ("audit", "convert", "data", "evaluate", "reproduce", "theory", "verify"):
        assert command in done.stdout


def test_python_m_dsnn_and_unknown_commands():
    done = subprocess.run(
        [sys.executable, "-m", "dsnn", "certify"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "certify" in done.stderr


def test_a_missing_package_that_a_command_imports_later_is_one_line(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], weights: Path
):
    from verification.checker import kinds  # which looks for it once, when it is imported

    assert kinds.flint is not None
    monkeypatch.setitem(sys.modules, "flint", None)
    line = refused("audit", weights, "--claim", "lipschitz<=1")
    assert "flint" in line
    assert "pip install" in line


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("value = 3", "TypeError: a_package:value is a int: register a function or a typer.Typer"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("def value(a: 'Nope'): ...", "NameError: name 'Nope' is not defined"),
    ],
)
def test_a_broken_command_of_a_package_is_one_line_and_leaves_the_others(
    body: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsnn, refused
):
    """It ended `dsnn --help` in a traceback, or in an exit code of its own."""
    (tmp_path / "a_package.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_package", raising=False)
    entry = EntryPoint("broken", "a_package:value", "dsnn.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [*entry_points(group=group), entry])
    assert f"command broken cannot be loaded: {why}" in refused("broken")
    code, out, error = dsnn("--help")
    assert code == 0
    assert "audit" in out
    assert error == f"dsnn: command broken left out: {why}\n"
