"""The mathematics stands on its own: no floor above it, no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import theory

MODULES = sorted(Path(theory.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_down(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    allowed = set(sys.stdlib_module_names) | {"theory", "sympy", "numpy", "flint"}
    assert imported <= allowed


def test_every_proof_runs_where_torch_is_not_installed() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'dsnn', 'verification'): sys.modules[name] = None\n"
        "from theory import theorems\n"
        "assert all(t.proved() for t in theorems().values())\n"
        "assert not any(m.partition('.')[0] == 'torch' and sys.modules[m] for m in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
