"""What an artefact of the paper is: its name, what it is made from, and how it is compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One number of ours beside the published one; `reason` says why they differ, or why there is
    none of ours, if so.

    `tolerance` None marks a one-sided comparison, whose sense `what` states.
    """

    what: str
    published: float
    ours: float | None
    tolerance: float | None
    verdict: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        content = dict(vars(self))
        if not self.reason:
            del content["reason"]
        return content


def compare(
    what: str, published: float, ours: float, tolerance: float, reason: str = ""
) -> Comparison:
    """`agrees` where |ours - published| <= tolerance, else `differs` for `reason`."""
    if abs(ours - published) <= tolerance:
        return Comparison(what, published, ours, tolerance, "agrees")
    return Comparison(what, published, ours, tolerance, "differs", reason)


def not_run(what: str, published: float, tolerance: float, reason: str) -> Comparison:
    """`not run`: there is no number of ours, for `reason`."""
    return Comparison(what, published, None, tolerance, "not run", reason)


Make = Callable[[Mapping[str, Path], Path], list[Comparison]]
"""Given the input files by name and a path without suffix, writes the files, compares numbers."""


@dataclass(frozen=True)
class Artefact:
    """A figure, table, model or data set of the paper.

    `packaged` are the input files that come with the program, by name; `needs` those of the data
    folder, relative to it, which must all be there. What is absent of the others is left out of
    the figure: `uses`, files of the data folder; `evaluations` and `runs`, what was computed of
    networks at the scale, by their ids in `paper_repro.models`. `make` gets evaluations
    as `evaluation:ID` and `autoattack:ID`, a run as `run:ID` with its weights as `weights:ID`.
    `waits_for` says what must come first, for an artefact that needs one of these or that has no
    `make`.

    What is computed of a network has no `make` but a `command` of `dsnn`, and maybe one that must
    answer 0 `then`, in which {out} is the folder of the scale, {place} the artefact's place in it
    (where the files lie, without suffix; else figures/ID), {package} this package's folder, and
    {scale}, {data} and {device} are those of the run. `parts` are files in a folder of that name
    instead of beside it. `after` are the artefacts that it cannot do without, with the file of each
    that it reads, "" for none. `answers` are the exit codes that are results; `threads` what one
    run can use. Only those with `in_all` belong to `--all`. `rule` is that of the Snakefile, else
    the `kind`.
    """

    id: str
    kind: str
    caption: str
    make: Make | None = None
    suffixes: tuple[str, ...] = ("pdf", "png", "csv")
    packaged: Mapping[str, Path] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    uses: Mapping[str, str] = field(default_factory=dict)
    evaluations: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    waits_for: str = ""
    command: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    place: str = ""
    parts: tuple[str, ...] = ()
    after: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[int, ...] = (0,)
    threads: int = 1
    in_all: bool = True
    rule: str = ""
