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
    from dsnn.files import check_outputs, write_json
    from verification.checker.__main__ import run, show

    tensors = certificate.with_suffix(".safetensors") if certificate.name else None
    check_outputs({"--json": json}, certificate, tensors, target)

    def tell(outcome: "Outcome") -> None:
        check_outputs({"--json": json}, outcome.tensors)  # what the certificate names, now known
        if json is not None:
            write_json(json, outcome.as_json())
        if json != "-":
            show(outcome)

    return run(str(certificate), None if target is None else str(target), tell)
