"""One artefact in a process of its own, as the rules of the Snakefile run it.

`python -m paper_repro.step ID --out DIR --scale SCALE --data DIR [--deadline SECONDS]` makes it
unless it is fresh. Where it does not, `DIR/SCALE/pipeline/failed/ID` holds the exit code.
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


def _make(place: Place, deadline: float | None) -> int:
    try:
        place.make(deadline)
    except UserError as error:
        print(f"dsnn: {error}", file=sys.stderr)
        return BAD_INPUT
    except CommandFailed as failure:
        return failure.code
    except Unfinished:
        return UNFINISHED
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code of what was made."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.step", description=__doc__)
    parser.add_argument("id")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--deadline", type=float, help="seconds since the epoch")
    options = parser.parse_args(arguments)
    known = registry(options.scale)
    os.environ[VARIABLE] = str(options.data)
    place = Place(known[options.id], options.out, options.data, options.scale)
    failed = place.folder / "pipeline" / "failed" / options.id
    write_text(failed, "1\n")  # what a crash leaves behind
    code = _make(place, options.deadline)
    if code:
        write_text(failed, f"{code}\n")
    else:
        failed.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main())
