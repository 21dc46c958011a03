"""`dsnn check`: derive every verdict of a certificate again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsnn.options import Json

if TYPE_CHECKING:
    from verification.checker.__main__ import Outcome


def check(
    certificate: Annotated[Path, typer.Argument(help="The .json file that an audit wrote.")],
    target: Annotated[
        Path | None, typer.Argument(help="The weights it is about, to compare with it.")
    ] = None,
    json: Json = None,
) -> int:
    """Check a certificate with code that shares nothing with what wrote it.

    0: every verdict was derived again. 1: something in it is wrong. 2: it cannot be read. 3: all
    that it holds was derived again, but it names verdicts that were left out of it.
    """
    from dsnn.errors import UserError
    from dsnn.files import check_result, write_json
    from verification.checker.__main__ import run, show

    def spare(*files: Path | None) -> None:
        read = {file.resolve() for file in files if file is not None}
        if json not in (None, "-") and Path(json).resolve() in read:
            raise UserError(f"--json {json} would write over what is checked: name another file")

    check_result(json)
    spare(certificate, certificate.with_suffix(".safetensors"), target)

    def tell(outcome: "Outcome") -> None:
        spare(outcome.tensors)
        if json is not None:
            write_json(json, outcome.as_json())
        if json != "-":
            show(outcome)

    return run(str(certificate), None if target is None else str(target), tell)
