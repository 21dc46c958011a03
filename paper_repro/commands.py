"""`dsnn reproduce`: figures and tables of the paper, compared with the published numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.choices import Scale

if TYPE_CHECKING:
    from paper_repro.pipeline import Failure
    from paper_repro.plan import Job

UNFINISHED = 3
"""The exit code where --minutes was not enough; the same command goes on."""


def reproduce(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Artefacts that --status lists, or figures, tables, models, data."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All artefacts that can be made here.")
    ] = False,
    status: Annotated[bool, typer.Option(help="Only say what is fresh, and make nothing.")] = False,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/reproduce"),
    data: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    scale: Annotated[Scale, typer.Option(help="How much to compute.")] = Scale.cpu,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Do what fits; exit code 3 where more is left.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake's: where to compute, as on a cluster.")
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write the result as JSON; - is stdout.")] = None,
) -> int:
    """Make figures and tables of the paper; what is fresh by content is not made again."""
    from dsnn.data.folder import data_folder
    from dsnn.errors import UserError
    from dsnn.files import check_writable, write_json
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
    if json not in (None, "-"):
        check_writable(Path(json))
    failures: list[Failure] = []
    if not status:
        wanted = named or [name for name, artefact in known.items() if artefact.in_all]
        check_writable(out / scale / "file")
        for name in wanted:
            check_data(known[name], folder)
        for name in set(named) & set(ids or []):
            places[name].check()
        plan = jobs(places, wanted)
        for job in plan:
            job.place.check_version()
        failures = _make(plan, profile)
    shown = [places[name] for name in named or places]
    entries = [place.to_json() for place in shown]
    if json != "-":
        for entry, place in zip(entries, shown, strict=True):
            print(summary(entry, place))
    if json is not None:
        write_json(json, {"artefacts": entries})
    return _answer(failures)


def _make(plan: list["Job"], profile: str | None) -> list["Failure"]:
    """Drawings alone in this process, which takes less than starting others; else by Snakemake."""
    from paper_repro import pipeline
    from paper_repro.plan import DRAWN

    if profile or any(job.rule not in DRAWN for job in plan):
        return pipeline.run(plan, profile)
    for job in plan:
        job.place.make()
    return []


def _answer(failures: list["Failure"]) -> int:
    """The exit code, once the first failure of the most serious kind is told on stderr."""
    import sys

    from dsnn.cli import BAD_INPUT
    from paper_repro.reproduce import UNFINISHED

    serious = [failure for failure in failures if failure.code != UNFINISHED]
    if not serious:
        return UNFINISHED if failures else 0
    code = BAD_INPUT if any(failure.code == BAD_INPUT for failure in serious) else 1
    first = next(failure for failure in serious if code in (1, failure.code))
    more = f"; {len(serious) - 1} more failed" if len(serious) > 1 else ""
    line = first.line.removeprefix("dsnn: ")
    print(f"dsnn: {first.id}: {line}{more}; what was made is kept", file=sys.stderr)
    return code
