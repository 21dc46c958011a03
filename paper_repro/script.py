"""`python -m paper_repro.NAME` as a command line: wrong usage and bad input are one line on stderr
and exit code 2, as for `dsnn`."""

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from dsnn.cli import BAD_INPUT, ClickError
from dsnn.errors import UserError


def answer(command: Callable[..., Any], arguments: Sequence[str] | None = None) -> int:
    """The exit code of a function with typer annotations, called with `arguments`, else those of
    the process: what it returns, 0 for None. Its help is the docstring of its module."""
    name = Path(inspect.getfile(command)).stem
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=sys.modules[command.__module__].__doc__)(command)
    try:
        code = app(arguments, prog_name=f"python -m paper_repro.{name}", standalone_mode=False)
    except (UserError, ClickError) as error:
        text = getattr(error, "format_message", error.__str__)()
        print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
        return BAD_INPUT
    return code or 0
