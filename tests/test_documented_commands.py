"""Command lines in README and docs are ones that `dsnn` takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from dsnn.cli import build_app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(?:until |torchrun .*-m )?dsnn (.+)$", re.MULTILINE)


def written(page: Path) -> list[str]:
    """The command lines of a page, without their prompt, and without those that say "and so on"."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = [line for fence in FENCE.findall(text) for line in COMMAND.findall(fence)]
    return [line.split(";")[0] for line in found if "..." not in line]


LINES = [(page.name, line) for page in PAGES for line in written(page)]


def takes(line: str) -> None:
    """Raises a usage error where `dsnn` does not take the line; runs nothing."""
    name, *arguments = shlex.split(line, comments=True)
    application: Any = typer.main.get_command(build_app([name]))
    command = application.commands[name]
    context = command.make_context(name, arguments)
    if rest := getattr(context, "_protected_args", []) + context.args:
        command.commands[rest[0]].make_context(rest[0], rest[1:])


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_documented_command_is_one(page: str, line: str) -> None:
    takes(line)


def test_every_command_takes_json() -> None:
    """Every registered command, and of groups every command."""
    application: Any = typer.main.get_command(build_app([]))
    commands = dict(application.commands)
    for name, group in application.commands.items():
        if hasattr(group, "commands"):
            commands |= {f"{name} {sub}": command for sub, command in group.commands.items()}
            del commands[name]
    assert {"check", "convert", "experiment", "theory show"} <= commands.keys()
    without = [n for n, c in commands.items() if not any("--json" in p.opts for p in c.params)]
    assert without == []


def test_commands_are_found_and_a_wrong_option_is_refused() -> None:
    assert len(LINES) > 30
    with pytest.raises(typer.BadParameter.__mro__[2], match="--quickly"):
        takes("verify --quickly")
