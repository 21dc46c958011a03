"""The tutorial on new fields, run as it stands: listing, sessions and commands."""

import doctest
import re
import shlex
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from theory import registry
from verification.strategies import registered

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "damped_oscillators"
PAGE = (ROOT / "docs" / "tutorial-new-field.md").read_text(encoding="utf-8")


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, as `pip install -e` makes it known."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    entries = [
        EntryPoint(name, value, group)
        for group, named in project["entry-points"].items()
        for name, value in named.items()
    ]
    assert entries
    for module in (registry, registered):
        monkeypatch.setattr(
            module, "entry_points", lambda group: [e for e in entries if e.group == group]
        )
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.chdir(EXAMPLE)


def test_the_listings_are_the_files() -> None:
    module = (EXAMPLE / "damped_oscillators.py").read_text()
    assert _blocks("python") == [module]
    assert len(module.splitlines()) < 60
    (toml,) = _blocks("toml")
    assert toml in (EXAMPLE / "pyproject.toml").read_text()


def test_the_sessions(installed: None) -> None:
    sessions = "\n".join(_blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(sessions, {}, "tutorial", None, None)
    assert len(test.examples) >= 10
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


def test_the_commands(installed: None, dsnn) -> None:
    commands = 0
    for block in _blocks("console"):
        for session in block.removeprefix("$ ").split("\n$ "):
            command, *expected = session.splitlines()
            name, *arguments = shlex.split(command)
            assert name == "dsnn"
            jobs = ("--jobs", "1") if arguments[0] == "verify" else ()
            code, out, error = dsnn(*arguments, *jobs)
            assert (code, error) == (0, ""), out
            for line in expected:
                assert line in out, out
            commands += 1
    assert commands == 3
