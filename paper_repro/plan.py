"""Which artefacts a run makes, and in what order: those that are not fresh, and what they need."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from paper_repro.artefact import Artefact
from paper_repro.models import models
from paper_repro.networks import evaluation_id
from paper_repro.reproduce import Place

Places = Mapping[str, Place]
DRAWN = ("figure", "table")
"""Rules whose artefacts take seconds."""


@dataclass(frozen=True)
class Job:
    """One artefact to make, after those jobs of the plan."""

    place: Place
    after: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.place.artefact.id

    @property
    def rule(self) -> str:
        return self.place.artefact.rule or self.place.artefact.kind


def upstream(artefact: Artefact) -> Iterator[str]:
    """What an artefact reads where it is there: others of the registry, by id."""
    yield from artefact.after
    yield from artefact.runs
    known = models()
    yield from (evaluation_id(known[name]) for name in artefact.evaluations)


def jobs(places: Places, wanted: Iterable[str]) -> list[Job]:
    """The plan for `wanted` and what these cannot do without, in an order that holds. What cannot
    be made here, and what cannot do without that, is left out.

    What is made from an artefact of the plan belongs to it too where it is wanted: whether it is
    still fresh then is seen when its turn comes.
    """
    asked = _with_needed(places, wanted)
    order = TopologicalSorter(
        {name: {u for u in upstream(places[name].artefact) if u in asked} for name in asked}
    ).static_order()
    planned: dict[str, Job] = {}
    impossible: set[str] = set()
    for name in order:
        place = places[name]
        after = tuple(u for u in upstream(place.artefact) if u in planned)
        if impossible & place.artefact.after.keys() or _blocked(place, after):
            impossible.add(name)
        elif after or place.status() != "fresh":
            planned[name] = Job(place, after)
    return list(planned.values())


def _with_needed(places: Places, wanted: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += places[name].artefact.after
    return found


def _blocked(place: Place, after: tuple[str, ...]) -> bool:
    """Whether it cannot be made even when the jobs `after` which it comes are done."""
    coming = after and (place.artefact.make or place.artefact.command)
    return bool(place.lacks() if coming else place.obstacle())
