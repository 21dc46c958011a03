"""`dsnn audit`: a verdict per claim, with evidence."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsnn.options import Json

if TYPE_CHECKING:
    from verification.verdicts import Verdict


def audit(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="Weights (.safetensors, published .pt), package.module:factory, arch:NAME "
            "or zoo:ID/DATASET/MARGIN."
        ),
    ],
    claim: Annotated[
        list[str],
        typer.Option(
            metavar="CLAIM",
            help="[MODULE-GLOB:]PROPERTY, repeatable. PROPERTY: lipschitz<=L, lipschitz[pixel]<=L, "
            "contractive, orthogonal, gradient-field, norm-preserving, mass-preserving, "
            "volume-preserving, symplectic or equivariant:shift.",
        ),
    ],
    arch: Annotated[str | None, typer.Option(help="The regime; needed for a .pt file.")] = None,
    input_shape: Annotated[
        str | None, typer.Option(help="Shape of one input, e.g. 3,32,32; for a factory.")
    ] = None,
    tight: Annotated[bool, typer.Option(help="Factorise every operator (takes minutes).")] = False,
    budget: Annotated[
        float, typer.Option(help="Seconds to spend on searching and tightening.")
    ] = 5.0,
    arithmetic: Annotated[
        str,
        typer.Option(help="real, or float32, which adds a bound on the rounding of the execution."),
    ] = "real",
    radius: Annotated[
        float | None, typer.Option(help="Bound the rounding for inputs of at most this norm.")
    ] = None,
    json: Json = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a certificate for `dsnn check` to this .json file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page of all that was found, with pictures.")
    ] = None,
) -> int:
    """Audit claims about a trained network: proved, refuted or unknown, with evidence.

    Witnesses of refutations are written beside the JSON file, or here without one. Interrupted and
    run again, an audit goes on from what it had finished.
    """
    import os
    import re
    from math import inf

    # Before torch is loaded: threads that spin while they wait double the time on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from dsnn.errors import UserError
    from dsnn.files import check_outputs, check_writable, place_of, write_json
    from verification import page, page_again
    from verification.auditor import Audit
    from verification.claims import parse
    from verification.store import Store
    from verification.targets import parse_shape, resolve

    claims = [parse(text) for text in claim]
    shape = None if input_shape is None else parse_shape(input_shape)
    if not budget >= 0:
        raise UserError(f"--budget {budget}: give seconds, at least 0")
    if arithmetic not in ("real", "float32"):
        raise UserError(f"--arithmetic {arithmetic}: real or float32")
    if radius is not None and (arithmetic == "real" or not 0 < radius < inf):
        raise UserError(f"--radius {radius}: a positive number, with --arithmetic float32")
    file = None if json in (None, "-") else Path(str(json))
    folder = Path() if file is None else file.parent
    check_writable(folder / "witness.safetensors")
    tensors = None
    if certificate is not None:
        if certificate.suffix != ".json":
            raise UserError(f"--certificate {certificate}: name a file ending in .json")
        tensors = certificate.with_suffix(".safetensors")
        if tensors.exists() and not certificate.exists():
            raise UserError(
                f"--certificate {certificate} would write over {tensors}: name another file"
            )
    own = "the tensors of --certificate"
    outputs = {"--json": json, "--certificate": certificate, own: tensors, "--html": html}
    check_outputs(outputs, target)
    if html is not None:
        page.require()
    stem = "witness" if file is None else f"{file.stem}-witness"
    written = re.compile(re.escape(stem) + r"-\d+\.safetensors")
    for path in (Path(target), tensors):
        place = place_of(path) if path else None  # a link may lead to one of these names
        if place and written.fullmatch(place.name) and place.parent == place_of(folder):
            raise UserError(f"a witness would write over {path}: name another file with --json")
    subject = resolve(target, claims, arch=arch, shape=shape, budget=budget)
    running = Audit(
        subject, tight=tight, budget=budget, folder=folder, stem=stem, store=Store(),
        arithmetic=arithmetic, radius=radius,
    )  # fmt: skip
    report = running.run(claims)
    if certificate is not None:
        from verification.certificate import certify

        if left := certify(certificate, running, report):
            print(f"dsnn: {certificate} leaves out {len(left)}: {left[0]}", file=sys.stderr)
    if json is not None:
        write_json(json, report.as_json())
    if html is not None:
        command = page_again.command_line(context, "audit")
        page.write(html, report.as_json(), folder, command=command, certificate=certificate)
    if json != "-":
        _print(report.verdicts)
    return report.exit_code


def _print(verdicts: tuple["Verdict", ...]) -> None:
    """The verdicts under their claims: module, verdict, the interval known, evidence."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    styles = {"proved": "green", "refuted": "bold red", "unknown": "yellow"}
    for claim, group in groupby(verdicts, lambda verdict: verdict.claim):
        table = Table.grid(padding=(0, 2))
        for verdict in group:
            evidence = verdict.evidence
            details = [evidence[key] for key in ("text", "hint") if key in evidence]
            if "file" in evidence:
                details.append(f"witness: {evidence['file']}")
            word = verdict.outcome.upper() if verdict.outcome == "refuted" else verdict.outcome
            table.add_row(
                Text(f"  {verdict.module or '(network)'}", overflow="fold"),
                Text(word, style=styles[verdict.outcome]),
                Text(_interval(verdict), no_wrap=True),
                Text("; ".join(details)),
            )
        console.print(Text(claim, style="bold"))
        console.print(table)


def _interval(verdict: "Verdict") -> str:
    from verification.claims import limit
    from verification.wording import above, below

    allowed = limit(verdict.claim)
    low, high = above(verdict.lower, allowed), below(verdict.upper, allowed)
    intervals = {"proved": f"<= {high}", "refuted": f">= {low}"}
    return intervals.get(verdict.outcome, f"[{low}, {high}]")
