"""`dsnn check`: derive every verdict of a certificate again."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    certificate: Annotated[Path, typer.Argument(help="The .json file that an audit wrote.")],
    target: Annotated[
        Path | None, typer.Argument(help="The weights it is about, to compare with it.")
    ] = None,
) -> int:
    """Check a certificate with code that shares nothing with what wrote it.

    0: every verdict was derived again. 1: something in it is wrong. 2: it cannot be read. 3: all
    that it holds was derived again, but it names verdicts that were left out of it.
    """
    from verification.checker.__main__ import run

    return run(str(certificate), None if target is None else str(target))
