"""Makes artefacts that are not fresh, and says of each what it is and how it compares."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from dsnn.data.folder import VARIABLE
from dsnn.data.sources import WEIGHTS
from dsnn.errors import UserError
from experiments.train_command import UNFINISHED
from paper_repro import freshness, models
from paper_repro.artefact import Artefact
from paper_repro.lock import held
from paper_repro.output import beside
from paper_repro.site_artefacts import duration

REPORT = "report"
"""The rule of what is made from the records of all others."""


class Unfinished(BaseException):
    """The time was up; what is done is kept, and the next run goes on from there.

    No Exception: what an audit catches it turns into a reason for a verdict.
    """


class CommandFailed(Exception):
    """A command of `dsnn` said on stderr why it has no result; `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(f"exit code {code}")
        self.code = code


@dataclass(frozen=True)
class Place:
    """One artefact at one scale, in `out/SCALE/figures` or where it says, with the data folder its
    inputs are looked for in."""

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
        return self.folder / (self.artefact.place or f"figures/{self.artefact.id}")

    @property
    def files(self) -> list[Path]:
        beside_it = [beside(self.stem, suffix) for suffix in self.artefact.suffixes]
        return [*beside_it, *(self.stem / part for part in self.artefact.parts)]

    @property
    def record(self) -> Path:
        return beside(self.stem, "made.json")

    def inputs(self) -> Mapping[str, Path]:
        """The input files by name; of those it may lack, the ones that are there."""
        if self.artefact.rule == REPORT:
            found = sorted(self.folder.glob("*/*.made.json"))
            records = {str(r.relative_to(self.folder)): r for r in found if r != self.record}
            return {**self.artefact.packaged, **self._optional(), **records}
        needed = {name: self.data / path for name, path in self.artefact.needs.items()}
        before = {name: self.folder / path for name, path in self.artefact.after.items() if path}
        return {**self.artefact.packaged, **needed, **before, **self._optional()}

    def _optional(self) -> dict[str, Path]:
        found = {name: self.data / path for name, path in self.artefact.uses.items()}
        known = models.models()
        for name in self.artefact.evaluations:
            found[f"evaluation:{name}"] = models.evaluation(known[name], self.folder, self.scale)
            found[f"autoattack:{name}"] = models.autoattack(known[name], self.folder, self.scale)
        for name in self.artefact.runs:
            run = models.run(known[name], self.folder, self.scale)
            weights = run.with_name("weights.safetensors")
            if weights.is_file():
                found |= {f"run:{name}": run, f"weights:{name}": weights}
        return {name: path for name, path in found.items() if path.is_file()}

    def lacks(self) -> str:
        """The first file of the program, or of the data folder, that is needed and not there, with
        the remedy where `dsnn data` has none."""
        packaged = [path for path in self.artefact.packaged.values() if not path.is_file()]
        needed = [path for path in self.artefact.needs.values() if not (self.data / path).is_file()]
        for path in packaged:
            return f"the file {path}"
        for path in needed:
            remedy = ": put it there by hand, `dsnn data` does not know it" * _is_by_hand(path)
            return f"the file {self.data / path}{remedy}"
        return ""

    def obstacle(self) -> str:
        """Why the artefact cannot be made here and now; empty where it can, though others may have
        to be made first."""
        made = self.artefact.make or self.artefact.command
        if self.artefact.waits_for and not (made and self._optional()):
            return self.artefact.waits_for
        return self.lacks()

    def check(self) -> None:
        """Raise UserError where the artefact cannot be made here and now."""
        if obstacle := self.obstacle():
            raise UserError(f"{self.artefact.id} cannot be made: it waits for {obstacle}")

    def check_version(self) -> None:
        """Raise UserError where a training would go on from what another version, or other data,
        began: hours of work that only the user may throw away."""
        ready = all(path.is_file() for path in self.inputs().values())
        if self.artefact.rule != "train" or not self.stem.is_dir() or not ready:
            return
        record, now = freshness.read_record(self.record), self.origin()
        if record is None or record["from"] != now:
            known = record["from"] if record else {}
            parts = [part for part in now if known.get(part) != now[part]]
            raise UserError(
                f"{self.stem} was trained by another version (not the same {', '.join(parts)}): "
                "move it away to train again, or choose another --out"
            )

    def origin(self) -> dict[str, Any]:
        if not self.artefact.command:
            return freshness.origin(_module(self.artefact), self.inputs())
        name = self.artefact.command[0]
        (entry,) = entry_points(group="dsnn.commands", name=name)
        libraries = freshness.COMPUTING.get(name, freshness.TRAINING)
        found = freshness.origin(entry.module, self.inputs(), libraries)
        return {**found, "command": list(self.artefact.command)}

    def status(self) -> str:
        """`fresh`, `stale`, `missing` or, where it cannot be made here, or is left out of --all and
        was not asked for, `not run`."""
        if self.obstacle():
            return "not run"
        there = all(path.is_file() for path in self.files)
        if not there:
            return "missing" if self.artefact.in_all else "not run"
        if not all(path.is_file() for path in self.inputs().values()):
            return "stale"
        return freshness.status(self.record, self.origin(), self.files)

    def make(self, deadline: float | None = None) -> None:
        """Write the files and their record, unless they are fresh. What takes long stops at
        `deadline` (of `time.time`) and goes on in the next call.

        Raises UserError as `check` and `check_version`, Unfinished where the time was up,
        CommandFailed.
        """
        self.check()
        self.check_version()
        if deadline is not None and time.time() >= deadline:
            raise Unfinished
        with held(self.folder / "pipeline" / "making" / self.artefact.id, wait=True):
            if self.status() != "fresh":
                self._make(deadline)

    def _make(self, deadline: float | None) -> None:
        came_from, start = self.origin(), _processor_seconds()
        before = freshness.read_record(self.record) or {}
        spent = 0.0
        if before.get("from") == came_from and not before["files"]:
            spent = before.get("seconds", 0.0)
        rows: list[dict[str, Any]] = []

        def record(files: list[Path]) -> None:
            seconds = round(spent + _processor_seconds() - start, 1)
            freshness.write_record(self.record, came_from, files, rows, seconds)

        if self.artefact.command:
            record([])
            try:
                self._run(deadline)
            except Unfinished:
                record([])
                raise
        elif self.artefact.make:
            with looking_into(self.data):
                made = self.artefact.make(self.inputs(), self.stem)
            rows += [row.to_json() for row in made]
        record(self.files)

    def _run(self, deadline: float | None) -> None:
        """Carry the command out, in this process."""
        import torch

        from dsnn.cli import run

        words = {
            "out": self.folder,
            "package": Path(__file__).parent,
            "place": self.stem.relative_to(self.folder),
            "data": self.data,
            "scale": self.scale,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
        command = [part.format(**words) for part in self.artefact.command]
        left = None if deadline is None else max(deadline - time.time(), 0.0)
        if command[0] == "train" and left is not None:
            code = run([*command, "--max-seconds", str(left)])
        else:
            with alarm(left):
                code = run(command)
        if command[0] == "train" and code == UNFINISHED:
            raise Unfinished
        if code not in self.artefact.answers:
            raise CommandFailed(code)
        if self.artefact.then and (code := run([p.format(**words) for p in self.artefact.then])):
            raise CommandFailed(code)

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


@contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise Unfinished in the block after so many seconds: what it had written stays."""
    if seconds is None:
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise Unfinished

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def looking_into(data: Path) -> Iterator[None]:
    """Let what runs in the block look for data there and nowhere else: the report is not told."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(data)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _processor_seconds() -> float:
    """Of this process and its children that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _is_by_hand(path: str) -> bool:
    """Whether a file of the data folder is one of the authors' that `dsnn data` does not fetch."""
    known = {file.path for file in WEIGHTS.files}
    return path.startswith(f"{WEIGHTS.folder}/") and path not in known


def _module(artefact: Artefact) -> str:
    """The module whose code makes the artefact; `make` is a function of it or a partial of one."""
    make = getattr(artefact.make, "func", artefact.make)
    return str(make.__module__)


def summary(entry: dict[str, Any]) -> str:
    """One line for people: status, id, and how the numbers compare, what is waited for, or how
    long it takes."""
    verdicts = [row["verdict"] for row in entry["compared"]]
    known = ("agrees", "differs", "not run")
    note = ", ".join(f"{verdicts.count(v)} {v}" for v in known if v in verdicts)
    if "waits_for" in entry:
        note = f"waits for {entry['waits_for']}"
    elif "seconds_estimated" in entry:
        note = f"about {duration(entry['seconds_estimated'])}"
    return f"{entry['status']:8} {entry['id']:36} {note}".rstrip()
