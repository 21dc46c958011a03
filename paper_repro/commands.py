"""`dsnn reproduce`: figures and tables of the paper, compared with the published numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsnn.options import Data, Json
from experiments.choices import Scale

if TYPE_CHECKING:
    from paper_repro.pipeline import Failure
    from paper_repro.plan import Job


def reproduce(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Artefacts that --status lists, or figures, tables, models, data."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Make all artefacts that can be made here.")
    ] = False,
    status: Annotated[bool, typer.Option(help="Only say what is fresh; make nothing.")] = False,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/reproduce"),
    data: Data = None,
    scale: Annotated[Scale, typer.Option(help="How much to compute.")] = Scale.cpu,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Do what fits into this time; exit code 3 where more is left."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile that says where jobs run.")
    ] = None,
    json: Json = None,
) -> int:
    """Make figures and tables of the paper; what is fresh by content is not made again."""
    from dsnn.data.folder import data_folder
    from dsnn.errors import UserError
    from dsnn.files import check_outputs, check_writable, write_json
    from paper_repro import estimates
    from paper_repro.networks import check_data
    from paper_repro.plan import jobs
    from paper_repro.registry import registry, select
    from paper_repro.reproduce import Place, summary

    if ids and everything:
        raise UserError("name artefacts or give --all, not both")
    if not (ids or everything or status):
        raise UserError("nothing asked for: name artefacts, or give --all or --status")
    folder, known = data_folder(data).path, registry(scale)
    named = select(ids or [], known)
    places = {name: Place(artefact, out, folder, scale) for name, artefact in known.items()}
    check_outputs({"--json": json})
    code = 0
    if not status:
        wanted = named if ids else [name for name, artefact in known.items() if artefact.in_all]
        check_writable(out / scale / "file")
        for name in wanted:
            check_data(known[name], folder)
        for name in set(named) & set(ids or []):
            places[name].check()
        plan = jobs(places, wanted)
        for job in plan:
            job.place.check_version()
        code = _make(plan, profile, minutes)
    shown = [places[name] for name in (named if ids else places)]
    entries = estimates.entries(shown, scale)
    if json != "-":
        for entry in entries:
            print(summary(entry))
        _print_total(entries)
    if json is not None:
        write_json(json, {"artefacts": entries})
    return code


def _make(plan: "list[Job]", profile: str | None, minutes: float | None) -> int:
    """Make what of the plan fits; the exit code. Drawings alone are made in this process, which
    takes less than starting others; all else by Snakemake."""
    import os
    import time

    from paper_repro import pipeline
    from paper_repro.estimates import estimates
    from paper_repro.plan import DRAWN, fitting

    deadline, whole = None, len(plan)
    if minutes is not None and plan:
        deadline = time.time() + 60 * minutes
        seconds = estimates([job.place for job in plan], plan[0].place.scale)
        plan = fitting(plan, seconds, 60 * minutes * (os.cpu_count() or 1))
    failures: list[Failure] = []
    if plan and (profile or any(job.rule not in DRAWN for job in plan)):
        failures = pipeline.run(plan, profile, deadline)
        failed = {failure.id for failure in failures}
        _draw([job for job in plan if failed and job.id not in failed and _is_drawable(job)])
    else:
        _draw(plan)
    return _answer(failures, finished=len(plan) == whole)


def _is_drawable(job: "Job") -> bool:
    """Whether a figure, a table or the report waits for nothing but jobs that failed and that it
    can do without."""
    from paper_repro.plan import DRAWN
    from paper_repro.reproduce import REPORT

    place = job.place
    return job.rule in (*DRAWN, REPORT) and place.status() != "fresh" and not place.obstacle()


def _draw(plan: "list[Job]") -> None:
    """Make these in this process."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    for job in track(plan, "figures", console=terminal, disable=not terminal.is_terminal):
        job.place.make()


def _print_total(entries: "list[dict[str, Any]]") -> None:
    """How long what is missing takes on all processors, as far as anyone has timed it."""
    import os

    from paper_repro.site_artefacts import duration

    left = [entry for entry in entries if entry["status"] in ("missing", "stale")]
    timed = [entry["seconds_estimated"] for entry in left if "seconds_estimated" in entry]
    if timed:
        processors = os.cpu_count() or 1
        unknown = f"; {len(left) - len(timed)} more were never timed" * (len(timed) < len(left))
        print(
            f"{len(timed)} to make: about {duration(sum(timed) / processors)} on {processors} "
            f"processors{unknown}"
        )


def _answer(failures: "list[Failure]", *, finished: bool) -> int:
    """The exit code, once the first failure of the most serious kind is told on stderr."""
    import sys

    from dsnn.cli import BAD_INPUT
    from paper_repro.reproduce import UNFINISHED

    serious = [failure for failure in failures if failure.code != UNFINISHED]
    if not serious:
        return 0 if finished and not failures else UNFINISHED
    code = BAD_INPUT if any(failure.code == BAD_INPUT for failure in serious) else 1
    first = next(failure for failure in serious if code in (1, failure.code))
    more = f"; {len(serious) - 1} more failed" if len(serious) > 1 else ""
    line = first.line.removeprefix("dsnn: ")
    print(f"dsnn: {first.id}: {line}{more}; what was made is kept", file=sys.stderr)
    return code
