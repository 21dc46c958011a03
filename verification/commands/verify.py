"""`dsnn verify`: proofs, random attacks, sharp instances and needed hypotheses, a row a theorem."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dsnn.options import Json

if TYPE_CHECKING:
    from verification.suite import TheoremVerdict

WORTH = 2**14  # pairs of a batch from which a GPU pays for the copies to it
COLOUR = {"holds": "green", "failed": "bold red", "undecided": "yellow"}


def verify(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Theorems; default: all.")
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="quick|default|thorough", help="How many fields are drawn.")
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0,
    json: Json = None,
    timings: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write seconds per theorem as JSON; - is stdout."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: all processors.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda", help="Where to compute; auto: a GPU where batches are large."
        ),
    ] = "auto",
) -> int:
    """Prove every theorem, attack it with random fields, attain it, and drop its hypotheses."""
    from dsnn.errors import UserError
    from dsnn.files import check_outputs, write_json
    from verification.commands.registry import find, registered

    chosen = [find(name) for name in dict.fromkeys(ids)] if ids else list(registered().values())
    check_outputs({"--json": json, "--timings": timings})
    if json == "-" and timings == "-":
        raise UserError("--json - and --timings - cannot share stdout: name a file for one of them")
    try:
        from verification import suite

        if profile not in suite.PROFILES:
            raise UserError(f"profile {profile!r} is not one of {', '.join(suite.PROFILES)}")
        with _progress() as advance:
            size = suite.PROFILES[profile]
            where = _device(device, size.fields * size.points)
            verdicts = suite.verify(chosen, size, seed, jobs or os.cpu_count() or 1, advance, where)
    except ImportError as error:
        raise UserError(
            f"dsnn verify needs {error.name or error}: pip install 'dsnn[verify]'"
        ) from error
    if json is not None:
        write_json(json, suite.report(verdicts, profile, seed))
    if timings is not None:
        write_json(timings, {v.theorem.id: round(v.part.seconds, 3) for v in verdicts})
    if "-" not in (json, timings):
        _print(verdicts)
    return suite.exit_code(verdicts)


def _device(wanted: str, pairs: int) -> str | None:
    """The torch device of this name; by itself only for batches of enough pairs."""
    from dsnn.errors import UserError

    if wanted not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {wanted!r} is not one of auto, cpu, cuda")
    if wanted == "cpu" or (wanted == "auto" and pairs < WORTH):
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UserError("there is no CUDA device here: leave out --device cuda")
    return None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("verify", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _print(verdicts: list[TheoremVerdict]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("theorem", no_wrap=True)
    table.add_column("proof", no_wrap=True)
    for heading in ("instances", "violated", "sharp", "needed", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for verdict in verdicts:
        part = verdict.part
        needed = sum(bool(part.counterexamples.get(h.name)) for h in verdict.theorem.hypotheses)
        table.add_row(
            verdict.theorem.id,
            f"interval, {verdict.boxes}" if verdict.proof == "interval" else verdict.proof,
            f"{part.instances:,}",
            f"{part.violations:,}",
            "" if part.sharpness is None else f"{part.sharpness:.4f}",
            f"{needed}/{len(verdict.theorem.hypotheses)}",
            f"{part.seconds:.1f}",
            Text(verdict.outcome, style=COLOUR[verdict.outcome]),
        )
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)
    console.print(table)
    console.print(
        "sharp: measured / law where the law is attained; needed: hypotheses that, dropped,"
    )
    console.print("let a field break the law; s: seconds over all processes; interval: boxes")
    console.print()
    console.print("Minimal counterexamples, each outside one hypothesis only:")
    for verdict in verdicts:
        for hypothesis in verdict.theorem.hypotheses:
            minimal = verdict.part.counterexamples.get(hypothesis.name)
            if minimal:
                console.print(
                    Text(verdict.theorem.id, style="bold"),
                    Text(f"without {hypothesis.name}: {minimal}"),
                    soft_wrap=True,
                )
    console.print()
    for verdict in verdicts:
        for reason in verdict.failures + verdict.gaps:
            console.print(Text(f"{verdict.theorem.id}: {reason}"))
