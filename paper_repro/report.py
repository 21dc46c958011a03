"""The report as an artefact: made from the records of all others, after them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dsnn.data.folder import data_folder
from paper_repro.artefact import Artefact, Comparison
from paper_repro.reproduce import REPORT, Place


def _make(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    from paper_repro.registry import registry
    from paper_repro.site import write_report

    folder, data = stem.parent.parent, data_folder()
    places = [
        Place(artefact, folder.parent, data.path, folder.name)
        for artefact in registry(folder.name).values()
        if artefact.rule != REPORT
    ]
    entries = [{"caption": place.artefact.caption, **place.to_json()} for place in places]
    weights = any((data.path / "published").glob("*.pt"))
    write_report(folder, entries, data=data if weights else None)
    return []


def artefacts() -> Iterator[Artefact]:
    yield Artefact(
        "report",
        "data",
        "The site: every figure and table, its numbers and its origin, and the chapter.",
        _make,
        place="report/index",
        suffixes=("html",),
        rule=REPORT,
    )
