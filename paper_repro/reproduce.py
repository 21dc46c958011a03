"""Makes artefacts that are not fresh, and says of each what it is and how it compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsnn.errors import UserError
from paper_repro import freshness, models
from paper_repro.artefact import Artefact
from paper_repro.output import beside


@dataclass(frozen=True)
class Place:
    """One artefact at one scale, in `out/SCALE/figures`, with the data folder its inputs are looked
    for in."""

    artefact: Artefact
    out: Path
    data: Path
    scale: str = "cpu"

    @property
    def folder(self) -> Path:
        """Of the scale: what was computed of networks lies beside the figures."""
        return self.out / self.scale

    @property
    def stem(self) -> Path:
        return self.folder / "figures" / self.artefact.id

    @property
    def files(self) -> list[Path]:
        return [beside(self.stem, suffix) for suffix in self.artefact.suffixes]

    @property
    def record(self) -> Path:
        return beside(self.stem, "made.json")

    def inputs(self) -> Mapping[str, Path]:
        """The input files by name; of those it may lack, the ones that are there."""
        needed = {name: self.data / path for name, path in self.artefact.needs.items()}
        return {**self.artefact.packaged, **needed, **self._optional()}

    def _optional(self) -> dict[str, Path]:
        found = {name: self.data / path for name, path in self.artefact.uses.items()}
        known = models.models()
        for name in self.artefact.evaluations:
            found[f"evaluation:{name}"] = models.evaluation(known[name], self.folder, self.scale)
        for name in self.artefact.runs:
            run = models.run(known[name], self.folder, self.scale)
            weights = run.with_name("weights.safetensors")
            if weights.is_file():
                found |= {f"run:{name}": run, f"weights:{name}": weights}
        return {name: path for name, path in found.items() if path.is_file()}

    def obstacle(self) -> str:
        """Why the artefact cannot be made here and now; empty where it can."""
        if self.artefact.waits_for and (self.artefact.make is None or not self._optional()):
            return self.artefact.waits_for
        absent = [str(path) for path in self.inputs().values() if not path.is_file()]
        return f"the file {absent[0]}" if absent else ""

    def check(self) -> None:
        """Raise UserError where the artefact cannot be made here and now."""
        if obstacle := self.obstacle():
            raise UserError(f"{self.artefact.id} cannot be made: it waits for {obstacle}")

    def origin(self) -> dict[str, Any]:
        return freshness.origin(_module(self.artefact), self.inputs())

    def status(self) -> str:
        """`fresh`, `stale`, `missing` or, where it cannot be made here, `not run`."""
        if self.obstacle():
            return "not run"
        return freshness.status(self.record, self.origin(), self.files)

    def make(self) -> None:
        """Write the files and their record, unless they are fresh. UserError as `check`."""
        self.check()
        if self.artefact.make is None or self.status() == "fresh":
            return
        came_from = self.origin()
        compared = self.artefact.make(self.inputs(), self.stem)
        rows = [comparison.to_json() for comparison in compared]
        freshness.write_record(self.record, came_from, self.files, rows)

    def to_json(self) -> dict[str, Any]:
        """The artefact's entry in the Reproduce JSON; numbers of a stale artefact are left out."""
        status = self.status()
        record = freshness.read_record(self.record) if status == "fresh" else None
        return {
            "id": self.artefact.id,
            "kind": self.artefact.kind,
            "scale": self.scale,
            "status": status,
            "files": [str(path) for path in self.files if path.is_file()],
            "compared": record["compared"] if record else [],
        }


def _module(artefact: Artefact) -> str:
    """The module whose code makes the artefact; `make` is a function of it or a partial of one."""
    make = getattr(artefact.make, "func", artefact.make)
    return str(make.__module__)


def summary(entry: dict[str, Any], place: Place) -> str:
    """One line for people: status, id, and how the numbers compare or what is waited for."""
    verdicts = [row["verdict"] for row in entry["compared"]]
    known = ("agrees", "differs", "not run")
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in known if v in verdicts)
    obstacle = place.obstacle()
    note = f"waits for {obstacle}" if obstacle else counts
    return f"{entry['status']:8} {entry['id']:36} {note}".rstrip()
