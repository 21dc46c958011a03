"""`dsnn reproduce`: figures and tables of the paper, compared with the published numbers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scale(StrEnum):
    """How much is computed; figures that need no training are the same at every scale."""

    smoke = "smoke"
    cpu = "cpu"
    paper = "paper"


def reproduce(
    ids: Annotated[list[str] | None, typer.Argument(help="Artefacts; --status lists them.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All artefacts that can be made here.")
    ] = False,
    status: Annotated[bool, typer.Option(help="Only say what is fresh, and make nothing.")] = False,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/reproduce"),
    data: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    scale: Annotated[Scale, typer.Option(help="How much to compute.")] = Scale.cpu,
    json: Annotated[str | None, typer.Option(help="Write the result as JSON; - is stdout.")] = None,
) -> int:
    """Make figures and tables of the paper; what is fresh by content is not made again."""
    import sys

    from dsnn.data.folder import data_folder
    from dsnn.errors import UserError
    from dsnn.files import check_writable, write_json
    from paper_repro.registry import select
    from paper_repro.reproduce import Place, summary

    if ids and everything:
        raise UserError("name artefacts or give --all, not both")
    if not (ids or everything or status):
        raise UserError("nothing asked for: name artefacts, or give --all or --status")
    folder = data_folder(data).path
    places = [Place(artefact, out, folder, scale) for artefact in select(ids or [])]
    if json not in (None, "-"):
        check_writable(Path(json))
    if not status:
        check_writable(places[0].record)
        wanted = [place for place in places if ids or not place.obstacle()]
        for place in wanted:
            place.check()
        for number, place in enumerate(wanted, 1):
            if sys.stderr.isatty():
                line = f"{number}/{len(wanted)} {place.artefact.id}"
                print(f"\r\033[K{line}", end="", file=sys.stderr)
            place.make()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    entries = [place.to_json() for place in places]
    if json != "-":
        for entry, place in zip(entries, places, strict=True):
            print(summary(entry, place))
    if json is not None:
        write_json(json, {"artefacts": entries})
    return 0
