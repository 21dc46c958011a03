"""What an artefact of the paper is: its name, what it is made from, and how it is compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One number of ours beside the published one; `reason` says why they differ, if they do.

    `tolerance` None marks a one-sided comparison, whose sense `what` states.
    """

    what: str
    published: float
    ours: float
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


Make = Callable[[Mapping[str, Path], Path], list[Comparison]]
"""Given the input files by name and a path without suffix, writes the files, compares numbers."""


@dataclass(frozen=True)
class Artefact:
    """A figure, table, model or data set of the paper.

    `packaged` are the input files that come with the program, by name; `needs` those of the data
    folder, relative to it. `make` is None while nothing short of training can make it, which
    `waits_for` then says.
    """

    id: str
    kind: str
    caption: str
    make: Make | None = None
    suffixes: tuple[str, ...] = ("pdf", "png", "csv")
    packaged: Mapping[str, Path] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    waits_for: str = ""
