"""Which artefacts a run makes, and in what order: those that are not fresh, and what they need."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from graphlib import TopologicalSorter

from paper_repro.artefact import Artefact
from paper_repro.models import models
from paper_repro.networks import autoattack_id, evaluation_id
from paper_repro.reproduce import REPORT, Place

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


def upstream(artefact: Artefact, known: Set[str]) -> Set[str]:
    """Which of the artefacts `known` this one reads where they are there."""
    if artefact.rule == REPORT:
        return known - {artefact.id}
    networks = models()
    drawn = [networks[name] for name in artefact.evaluations]
    evaluations = {name(model) for model in drawn for name in (evaluation_id, autoattack_id)}
    return known & {*artefact.after, *artefact.runs, *evaluations}


def jobs(places: Places, wanted: Iterable[str]) -> list[Job]:
    """The plan for `wanted` and what these cannot do without, in an order that holds. What cannot
    be made here, and what cannot do without that, is left out.

    What is made from an artefact of the plan belongs to it too where it is wanted: whether it is
    still fresh then is seen when its turn comes.
    """
    asked = _with_needed(places, wanted)
    before = {name: sorted(upstream(places[name].artefact, asked)) for name in sorted(asked)}
    planned: dict[str, Job] = {}
    impossible: set[str] = set()
    for name in TopologicalSorter(before).static_order():
        place = places[name]
        after = tuple(u for u in before[name] if u in planned)
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


def fitting(plan: Iterable[Job], seconds: Mapping[str, float], budget: float) -> list[Job]:
    """The jobs for which `budget` seconds of processor time suffice by the estimates `seconds`.

    Drawings come first; what nobody has timed is tried; a training may begin while anything is
    left, for it stops in time and goes on in the next run.
    """
    plan = list(plan)
    known = {job.id for job in plan}
    left = budget - sum(seconds.get(job.id, 0.0) for job in plan if job.rule in DRAWN)
    chosen: dict[str, Job] = {}
    for job in plan:
        after = tuple(u for u in job.after if u in chosen)
        needed = job.place.artefact.after.keys() & known
        takes = 0.0 if job.rule in DRAWN else seconds.get(job.id, 0.0)
        fits = job.rule in DRAWN or (left > 0 if job.rule == "train" else takes <= left)
        if fits and needed <= chosen.keys() and not _blocked(job.place, after):
            left -= takes
            chosen[job.id] = Job(job.place, after)
    return list(chosen.values())
