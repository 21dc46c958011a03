"""The command `dsnn`: finds its subcommands, and turns their outcome into an exit code.

Every floor above registers its subcommands in the entry-point group `dsnn.commands`, so this
module imports none of them. A command is a function with typer annotations (or a `typer.Typer`
for a group) that returns its exit code: 0 all holds, 1 something is refuted or failed,
3 undecided. Wrong usage and bad input are 2, always as one line on stderr.
"""

import errno
import gc
import inspect
import io
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

import typer

from dsnn.errors import UserError

BAD_INPUT, INTERRUPTED = 2, 130

# typer vendors click since 0.26; its base exception has no public name that holds for both.
ClickError = cast(type[Exception], typer.BadParameter.__mro__[2])


def _commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group="dsnn.commands"))}


def _register(app: typer.Typer, entry: EntryPoint) -> None:
    command = entry.load()
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    elif callable(command):
        inspect.signature(command, eval_str=True)  # typer reads it when it is too late to leave out
        app.command(entry.name)(command)
    else:
        raise TypeError(
            f"{entry.value} is a {type(command).__name__}: register a function or a typer.Typer"
        )


def build_app(arguments: list[str]) -> typer.Typer:
    """The application with the one command that `arguments` name, or with all of them for help."""
    app = typer.Typer(
        name="dsnn",
        help="Networks whose promises are theorems, checked on the trained model.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # keeps `dsnn NAME` a subcommand when only one is loaded
    commands = _commands()
    wanted = arguments[0] if arguments else ""
    for name in [wanted] if wanted in commands else commands:
        try:
            _register(app, commands[name])
        except (Exception, SystemExit) as error:
            if name == wanted:
                raise UserError(_unloaded(name, error)) from error
            why = _line(f"{type(error).__name__}: {error}")
            print(f"dsnn: command {name} left out: {why}", file=sys.stderr)
    return app


def _unloaded(name: str, error: BaseException) -> str:
    if isinstance(error, ImportError):
        return _missing(name, error)
    return f"command {name} cannot be loaded: {type(error).__name__}: {error}"


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _missing(name: str, error: ImportError) -> str:
    return (
        f"dsnn {name} needs a package that is missing ({error.name or error}): "
        "install it, for instance with pip install 'dsnn[all]'"
    )


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    _open_output()
    try:
        outcome = build_app(arguments)(args=arguments, prog_name="dsnn", standalone_mode=False)
        sys.stdout.flush()
        if outcome == INTERRUPTED:  # typer's answer to Ctrl-C
            raise KeyboardInterrupt
    except (UserError, ClickError) as error:
        text = getattr(error, "format_message", error.__str__)()
        print(f"dsnn: {_line(text) or 'no command given: see dsnn --help'}", file=sys.stderr)
        return BAD_INPUT
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print("dsnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as stop:  # the reader went away, as `head` does
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
            raise  # not typer's answer to that
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:  # what an extra brings is imported where it is used
        print(f"dsnn: {_missing(' '.join(arguments[:1]), error)}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"dsnn: cannot write the output: {error.strerror}; make room", file=sys.stderr)
        return BAD_INPUT
    return outcome if isinstance(outcome, int) else 0


def _open_output() -> None:
    """stdout as a command may write to it: what its encoding lacks is escaped, as on stderr, and
    where it is closed nothing is written."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    gc.set_threshold(100_000, 20, 20)  # importing torch makes millions of objects, all of them kept
    outcome = run(sys.argv[1:])
    gc.freeze()  # nor does the end of the process have to look through them
    sys.exit(outcome)
