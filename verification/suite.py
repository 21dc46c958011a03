"""`dsnn verify`: every theorem proved, attacked, shown sharp, and shown to need its hypotheses.

The work is cut into tasks (the proof, the sharp instances, one per dropped hypothesis, one per
chunk of random structures), each a pure function of theorem, profile, seed and index; their
results are combined in that order, whichever process computed them.
"""

import functools
import hashlib
import math
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing import active_children, get_context
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsnn.errors import UserError
from theory import Theorem, theorems
from theory.theorem import OPEN
from verification.strategies.registered import strategy_of
from verification.strategies.rounding import Array, on
from verification.strategies.search import NothingDrawn, find
from verification.strategies.trial import Strategy, Trial, Violation
from verification.strategies.trial_laws import attained, described, laws, outside, violated

Source = Strategy[Any] | Violation[Any]

ATTAINED = 1 - 1e-6
SEARCHED = 256  # structures tried for a violation without a hypothesis
READABLE = 1e-6  # how far, relative to either, a printed violation is beyond its law
FEW = (1, 16)  # fields and pairs of an instance that is to be read


@dataclass(frozen=True)
class Profile:
    """How much is drawn for each theorem: `chunks` of `structures`, each of which stands for a
    batch of `fields` with `points` pairs."""

    chunks: int
    structures: int
    fields: int
    points: int


PROFILES = {
    "quick": Profile(chunks=2, structures=32, fields=8, points=64),
    "default": Profile(chunks=8, structures=64, fields=8, points=320),
    "thorough": Profile(chunks=32, structures=128, fields=8, points=2048),
}


@dataclass(frozen=True)
class Part:
    """What one task found. `violation` describes a minimal one; `counterexamples` are the minimal
    ones without a hypothesis, None where none was found."""

    steps: tuple[tuple[str, int], ...] = ()
    instances: int = 0
    violations: int = 0
    violation: str = ""
    sharpness: float | None = None
    counterexamples: dict[str, str | None] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class TheoremVerdict:
    """What is known of one theorem after all its tasks."""

    theorem: Theorem
    part: Part

    @property
    def proof(self) -> Literal["symbolic", "interval", "none"]:
        """ "interval" where a step used ball arithmetic, "none" where a step failed."""
        if not self.part.steps or not all(found > 0 for _, found in self.part.steps):
            return "none"
        methods = {step.method for step in self.theorem.proof}
        return "interval" if "interval" in methods else "symbolic"

    @property
    def boxes(self) -> int:
        """How many boxes the interval steps took."""
        found = (max(number, 0) for _, number in self.part.steps)
        steps = zip(self.theorem.proof, found, strict=False)
        return sum(number for step, number in steps if step.method == "interval")

    @property
    def failures(self) -> list[str]:
        """Why it is wrong: violations, proof steps that do not hold, a bound not attained."""
        part = self.part
        reasons = [f"proof step fails: {claim}" for claim, found in part.steps if found == 0]
        if part.violations:
            reasons.insert(0, f"{part.violations} violations, a minimal one: {part.violation}")
        if self.theorem.sharp and part.sharpness is not None and part.sharpness < ATTAINED:
            reasons.append(f"said to be sharp, attained to {part.sharpness} only")
        return reasons

    @property
    def gaps(self) -> list[str]:
        """What is missing: a proof, instances, a counterexample without some hypothesis."""
        part = self.part
        reasons = [f"proof step is open: {claim}" for claim, found in part.steps if found == OPEN]
        reasons += [] if part.steps else ["no proof"]
        if not part.instances:
            reasons.append("no strategy draws fields for it")
        if self.theorem.sharp and part.sharpness is None:
            reasons.append("said to be sharp, no instance given")
        for hypothesis in self.theorem.hypotheses:
            if not part.counterexamples.get(hypothesis.name):
                reasons.append(f"no counterexample without hypothesis {hypothesis.name}")
        return reasons

    @property
    def outcome(self) -> Literal["holds", "failed", "undecided"]:
        if self.failures:
            return "failed"
        return "undecided" if self.gaps else "holds"

    def as_json(self) -> dict[str, Any]:
        minimal = self.part.counterexamples
        hypotheses = [
            {
                "counterexample_without": bool(minimal.get(hypothesis.name)),
                "minimal": minimal.get(hypothesis.name),
                "name": hypothesis.name,
            }
            for hypothesis in self.theorem.hypotheses
        ]
        return {
            "hypotheses": hypotheses,
            "id": self.theorem.id,
            "instances": self.part.instances,
            "proof": self.proof,
            "sharpness": self.part.sharpness,
            "violations": self.part.violations,
        }


# Tasks. -------------------------------------------------------------------------------------


def prove(theorem: Theorem) -> Part:
    """The proof, computed now. Raises UserError where a check is wrong."""
    try:
        computed = [step.computed(theorem) for step in theorem.proof]
    except ValueError as error:
        raise UserError(str(error)) from error
    return Part(steps=tuple((claim, found) for found, claim in computed))


def _seed(*parts: object) -> int:
    """One number for seed, theorem and task."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8])


def _judge(
    theorem: Theorem, source: Source, structure: Any, size: tuple[int, int]
) -> tuple[Part, Trial, Array]:
    """What a structure within the hypotheses shows. Raises UserError for one outside them."""
    trial = source.draw(structure, *size)
    names = {name for names in outside(theorem, trial) for name in names}
    if names:
        raise UserError(
            f"the strategy of {theorem.id} drew {structure!r}, which is outside its hypotheses "
            f"{', '.join(sorted(names))}: keep its structures within them"
        )
    law = laws(theorem, trial)
    wrong = violated(theorem, trial, law)
    text = described(theorem, structure, trial, law, wrong) if wrong.any() else ""
    return Part((), trial.measured.size, int(wrong.sum()), text), trial, law


def _first_violation(
    theorem: Theorem, source: Source, structures: int, size: tuple[int, int], seed: int
) -> Part:
    """Instances up to the first violation, which is shrunk."""
    part = Part()

    def wrong(structure: Any) -> bool:
        nonlocal part
        found = _judge(theorem, source, structure, size)[0]
        if part.violations:  # shrinking: these are not counted
            return found.violations > 0
        part = _combine([part, found])
        return found.violations > 0

    minimal = _search(theorem, source, wrong, seed, structures)
    if part.instances == 0:
        raise UserError(f"the strategy of {theorem.id} draws structures that hold no field")
    if minimal is None:
        return part
    return replace(part, violation=_judge(theorem, source, minimal, size)[0].violation)


def _search(
    theorem: Theorem, source: Source, wrong: Callable[[Any], bool], seed: int, structures: int
) -> Any:
    try:
        return find(source.structures, wrong, seed, structures)
    except NothingDrawn as error:
        raise UserError(
            f"the strategy of {theorem.id} draws nothing from {error}: widen it"
        ) from error


def attack(
    theorem: Theorem,
    profile: Profile,
    seed: int = 0,
    chunk: int = 0,
    device: str | None = None,
) -> Part:
    """One chunk of random structures, on a torch device or in NumPy. Raises UserError where the
    strategy draws nothing, or something outside the hypotheses."""
    strategy = _strategy(theorem)
    if strategy is None:
        return Part()
    size = profile.fields, profile.points
    number = _seed(seed, theorem.id, "chunk", chunk)
    with on(device):
        return _first_violation(theorem, strategy, profile.structures, size, number)


def sharpen(theorem: Theorem) -> Part:
    """How closely the law is attained by the structures that are said to attain it."""
    strategy = _strategy(theorem)
    if strategy is None or not strategy.sharp:
        return Part()
    parts, reached = [], []
    for structure in strategy.sharp:
        part, trial, law = _judge(theorem, strategy, structure, FEW)
        parts.append(part)
        reached.append(attained(theorem, trial, law))
    known = [value for value in reached if value is not None]
    sharpness = min(known) if len(known) == len(reached) else None
    return replace(_combine(parts), sharpness=sharpness)


def drop(theorem: Theorem, name: str, seed: int = 0) -> Part:
    """A minimal violation of the law outside hypothesis `name` alone; one within all hypotheses,
    should one be met, counts against the theorem: the hypothesis is too weak. So the edges are
    tried first. Structures made for a hypothesis that the theorem does not have are within its
    hypotheses."""
    strategy = _strategy(theorem)
    if strategy is None:
        return Part()
    source, number = strategy.without[name], _seed(seed, theorem.id, "without", name)
    if name not in {h.name for h in theorem.hypotheses}:
        return _first_violation(theorem, source, SEARCHED, FEW, number)

    inside: list[str] = []

    def judged(structure: Any) -> tuple[Trial, Array, NDArray[np.bool_]]:
        trial = source.draw(structure, *FEW)
        law = laws(theorem, trial)
        missed = outside(theorem, trial)
        lone, within = (
            violated(theorem, trial, law) & np.array([[names == these] for names in missed])
            for these in ({name}, set())
        )
        if within.any():
            inside.append(described(theorem, structure, trial, law, within))
        beyond = READABLE * np.maximum(np.abs(law), np.abs(trial.measured))
        return trial, law, lone & (np.abs(trial.measured - law) > beyond)

    for structure in source.edges:
        judged(structure)
    minimal = _search(
        theorem, source, lambda structure: bool(judged(structure)[2].any()), number, SEARCHED
    )
    text = None if minimal is None else described(theorem, minimal, *judged(minimal))
    return Part(
        violations=len(inside), violation=inside[-1] if inside else "", counterexamples={name: text}
    )


def _strategy(theorem: Theorem) -> Strategy[Any] | None:
    return strategy_of(theorem) if theorem.constant is not None else None


def _tasks(
    theorem: Theorem, profile: Profile, seed: int, device: str | None
) -> list[Callable[[Theorem], Part]]:
    strategy = _strategy(theorem)
    if strategy is None:
        return [prove]
    drops = [functools.partial(drop, name=name, seed=seed) for name in strategy.without]
    chunks = [
        functools.partial(attack, profile=profile, seed=seed, chunk=i, device=device)
        for i in range(profile.chunks)
    ]
    return [prove, sharpen, *drops, *chunks]


_registered = functools.cache(theorems)  # used in worker processes only


def _run(task: Callable[[Theorem], Part], theorem: Theorem | str) -> Part:
    """One task, timed. A registered theorem travels to another process by its id."""
    started = time.perf_counter()
    part = task(_registered()[theorem] if isinstance(theorem, str) else theorem)
    return replace(part, seconds=time.perf_counter() - started)


def _combine(parts: Sequence[Part]) -> Part:
    return Part(
        steps=tuple(step for part in parts for step in part.steps),
        instances=sum(part.instances for part in parts),
        violations=sum(part.violations for part in parts),
        violation=next((part.violation for part in parts if part.violation), ""),
        sharpness=next((part.sharpness for part in parts if part.sharpness is not None), None),
        counterexamples={k: v for part in parts for k, v in part.counterexamples.items()},
        seconds=math.fsum(part.seconds for part in parts),
    )


def _in_processes(tasks: Sequence[tuple[Any, Any]], jobs: int) -> Generator[Part, None, None]:
    """The parts of tasks, in order. Where that ends early, as by Ctrl-C, the processes end too:
    they leave the signal to this one, which would else wait for all that is left to do."""
    others = set(active_children())
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it
            try:
                futures = [pool.submit(_run, task, what) for task, what in tasks]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise


def verify(
    chosen: Sequence[Theorem],
    profile: Profile,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[int, int], None] = lambda done, total: None,
    device: str | None = None,
) -> list[TheoremVerdict]:
    """The verdict on each theorem, in order. The same for one seed on any number of `jobs`.
    Euler steps are computed on the torch `device`, or in NumPy.

    `on_done(done, total)` is called after each task. With several jobs a theorem that is not the
    registered one of its id must be picklable. Raises UserError where a strategy draws nothing or
    leaves the hypotheses of its theorem, ImportError without python-flint.
    """
    registered = theorems()
    work = [
        (task, theorem) for theorem in chosen for task in _tasks(theorem, profile, seed, device)
    ]
    if jobs == 1:
        parts = []
        for task, theorem in work:
            parts.append(_run(task, theorem))
            on_done(len(parts), len(work))
    else:
        shipped = [
            theorem.id if registered.get(theorem.id) is theorem else theorem for _, theorem in work
        ]
        tasks = [(task, what) for (task, _), what in zip(work, shipped, strict=True)]
        parts = []
        with closing(_in_processes(tasks, jobs)) as found:
            for part in found:
                parts.append(part)
                on_done(len(parts), len(work))
    verdicts = []
    for theorem in chosen:
        mine = [part for part, (_, owner) in zip(parts, work, strict=True) if owner is theorem]
        verdicts.append(TheoremVerdict(theorem, _combine(mine)))
    return verdicts


def report(verdicts: Sequence[TheoremVerdict], profile: str, seed: int) -> dict[str, Any]:
    """The Verify JSON: keys sorted, nothing in it that depends on when or where it was made."""
    return {
        "profile": profile,
        "seed": seed,
        "theorems": [verdict.as_json() for verdict in verdicts],
    }


def exit_code(verdicts: Sequence[TheoremVerdict]) -> int:
    """1 where a theorem failed, else 3 where one is undecided, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return 1 if "failed" in outcomes else 3 if "undecided" in outcomes else 0
