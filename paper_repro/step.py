"""Artefacts in a process of their own, as the rules of the Snakefile run it.

`python -m paper_repro.step ID ... --out DIR --scale SCALE --data DIR [--deadline SECONDS]` makes
those that are not fresh. Of each that it could not make, `DIR/SCALE/pipeline/failed/ID` holds the
exit code, and why where no command has said it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dsnn.cli import BAD_INPUT
from dsnn.data.folder import VARIABLE
from dsnn.errors import UserError
from dsnn.files import write_text
from paper_repro.registry import registry
from paper_repro.reproduce import UNFINISHED, CommandFailed, Place, Unfinished


def _make(place: Place, deadline: float | None) -> tuple[int, str]:
    """The exit code, and why it is not 0 where nothing has said it yet."""
    try:
        place.make(deadline)
    except UserError as error:
        return BAD_INPUT, str(error)
    except CommandFailed as failure:
        return failure.code, ""
    except Unfinished:
        return UNFINISHED, ""
    return 0, ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the highest exit code of what was made."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.step", description=__doc__)
    parser.add_argument("ids", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--deadline", type=float, help="seconds since the epoch")
    options = parser.parse_args(arguments)
    known = registry(options.scale)
    os.environ[VARIABLE] = str(options.data)
    codes = []
    for name in options.ids:
        place = Place(known[name], options.out, options.data, options.scale)
        failed = place.folder / "pipeline" / "failed" / name
        write_text(failed, "1\n")  # what a crash leaves behind
        code, why = _make(place, options.deadline)
        if code:
            write_text(failed, f"{code}\n{why}\n")
        else:
            failed.unlink()
        codes.append(code)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
