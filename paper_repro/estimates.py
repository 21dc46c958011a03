"""How long artefacts take on this machine, in seconds of one processor: what they took before,
scaled by a short calibration.

`python -m paper_repro.estimates OUT/SCALE` keeps the processor time that a run on this machine
took, by kind of artefact, in `results/SCALE/seconds.json`. An artefact that was made before in this
output folder is expected to take as long again; else the kept seconds of its kind are multiplied by
how much longer a fixed Fourier transform takes here than it took there.
"""

import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from dsnn.errors import UserError
from dsnn.files import write_json
from paper_repro import freshness
from paper_repro.models import KEPT
from paper_repro.reproduce import Place
from paper_repro.script import answer

_MADE = ".made.json"


def kind(name: str) -> str:
    """The id without margin and seed: artefacts that take about the same time."""
    return re.sub(r"-0\.\d+|-\d$", "", name)


def calibration() -> float:
    """Seconds of a fixed Fourier transform on one processor, the best of five."""
    import numpy as np

    values = np.random.default_rng(0).standard_normal((16, 256, 256))

    def once() -> float:
        start = time.perf_counter()
        np.fft.fft2(values)
        return time.perf_counter() - start

    return min(once() for _ in range(5))


def estimates(places: Iterable[Place], scale: str) -> dict[str, float]:
    """Seconds by id, for what has been timed."""
    kept = _kept(scale)
    factor = calibration() / kept["calibration"] if kept else 1.0
    found = {}
    for place in places:
        record = freshness.read_record(place.record) or {}
        spent = record.get("seconds", 0.0)
        known = kept["seconds"].get(kind(place.artefact.id)) if kept else None
        if record.get("files"):
            found[place.artefact.id] = spent
        elif known is not None:
            found[place.artefact.id] = round(max(known * factor - spent, 0.0), 1)
    return found


def entries(places: Sequence[Place], scale: str) -> list[dict[str, Any]]:
    """Their entries in the Reproduce JSON; with what is waited for, and the estimated time."""
    found = [place.to_json() for place in places]
    pairs = list(zip(places, found, strict=True))
    left = [place for place, entry in pairs if entry["status"] in ("missing", "stale")]
    seconds = estimates(left, scale) if left else {}
    for place, entry in pairs:
        if entry["status"] == "not run":
            entry["waits_for"] = place.obstacle() or "its name: it takes too long for --all"
        elif entry["id"] in seconds:
            entry["seconds_estimated"] = seconds[entry["id"]]
    return found


def _kept(scale: str) -> dict[str, Any] | None:
    path = KEPT / scale / "seconds.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def keep(folder: Path) -> Path:
    """Keep the seconds of the run in `folder`, OUT/SCALE; the path of the file. UserError where
    nothing was timed."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob(f"*/*{_MADE}")):
        record = freshness.read_record(path)
        if record and record["files"]:
            name = _id(path.parent.name, path.name.removesuffix(_MADE))
            found.setdefault(kind(name), []).append(record["seconds"])
    if not found:
        raise UserError(f"nothing was timed in {folder}: name OUT/SCALE of `dsnn reproduce`")
    target = KEPT / folder.name / "seconds.json"
    content = {
        "calibration": calibration(),
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "seconds": {name: round(mean(values), 1) for name, values in sorted(found.items())},
    }
    write_json(target, content)
    return target


def _id(place: str, stem: str) -> str:
    """The id of the artefact that lies in that folder under that name."""
    attacked = stem.removesuffix("-autoattack")
    named = {
        "evaluations": f"evaluation-{stem}" if attacked == stem else f"autoattack-{attacked}",
        "audits": f"audit-{stem}",
        "data": f"data-{stem}",
        "report": "report",
    }
    return named.get(place, stem)


def main(
    folder: Annotated[Path, typer.Argument(help="The output folder of a scale.")],
) -> None:
    print(keep(folder))


if __name__ == "__main__":
    sys.exit(answer(main))
