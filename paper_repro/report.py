"""The report as an artefact: made from the records of all others, after them; from its templates,
the kept results of the chapter, and the published weights whose witnesses it shows."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import verification
from dsnn.data.folder import data_folder
from paper_repro import models
from paper_repro.artefact import Artefact, Comparison
from paper_repro.reproduce import REPORT, Place


def _make(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    from paper_repro import estimates
    from paper_repro.registry import registry
    from paper_repro.site import write_report

    folder, data = stem.parent.parent, data_folder()
    places = [
        Place(artefact, folder.parent, data.path, folder.name)
        for artefact in registry(folder.name).values()
        if artefact.rule != REPORT
    ]
    entries = [
        {"caption": place.artefact.caption, **entry}
        for place, entry in zip(places, estimates.entries(places, folder.name), strict=True)
    ]
    weights = any((data.path / "published").glob("*.pt"))
    write_report(folder, entries, data=data if weights else None)
    return []


def _written_from() -> Iterator[Path]:
    """The files of the program, no code, that the pages come from."""
    yield from sorted((Path(__file__).parent / "templates").glob("report*"))
    yield from sorted((Path(verification.__file__).parent / "templates").iterdir())
    yield models.KEPT / "deviations.json"


def artefacts() -> Iterator[Artefact]:
    yield Artefact(
        "report",
        "data",
        "The site: every figure and table, its numbers and its origin, and the chapter.",
        _make,
        place="report/index",
        suffixes=("html",),
        packaged={path.name: path for path in _written_from()},
        uses={model.id: model.published_file for model in models.published()},
        rule=REPORT,
    )
