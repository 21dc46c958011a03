"""`dsnn verify`: every theorem proved, attacked, shown sharp, and shown to need its hypotheses.

The work is cut into tasks (the proof, the chosen instances, one per chunk of random fields), each
a pure function of theorem, profile, seed and index; their results are combined in that order,
whichever process computed them.
"""

import functools
import math
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np

from theory import Theorem, balls, theorems
from verification.strategies import STRATEGIES
from verification.strategies.trial import Trial

ATTAINED = 1 - 1e-6


@dataclass(frozen=True)
class Profile:
    """How much is drawn for each theorem: chunks of `fields` random fields with `points` pairs."""

    chunks: int
    fields: int
    points: int


PROFILES = {
    "quick": Profile(chunks=16, fields=32, points=64),
    "default": Profile(chunks=64, fields=64, points=384),
    "thorough": Profile(chunks=512, fields=64, points=512),
}


@dataclass(frozen=True)
class Part:
    """What one task found. `violation` describes the first one."""

    steps: tuple[tuple[str, bool], ...] = ()
    instances: int = 0
    violations: int = 0
    violation: str = ""
    sharpness: float | None = None
    counterexamples: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What is known of one theorem after all its tasks."""

    theorem: Theorem
    part: Part

    @property
    def proof(self) -> Literal["symbolic", "interval", "none"]:
        """ "interval" where a step used ball arithmetic, "none" where a step failed."""
        if not self.part.steps or not all(holds for _, holds in self.part.steps):
            return "none"
        methods = {step.method for step in self.theorem.proof}
        return "interval" if "interval" in methods else "symbolic"

    @property
    def failures(self) -> list[str]:
        """Why it is wrong: violations, proof steps that do not hold, a bound not attained."""
        part = self.part
        reasons = [f"proof step fails: {claim}" for claim, holds in part.steps if not holds]
        if part.violations:
            reasons.insert(0, f"{part.violations} violations, the first: {part.violation}")
        if self.theorem.sharp and part.sharpness is not None and part.sharpness < ATTAINED:
            reasons.append(f"said to be sharp, attained to {part.sharpness} only")
        return reasons

    @property
    def gaps(self) -> list[str]:
        """What is missing: a proof, instances, a counterexample without some hypothesis."""
        part = self.part
        reasons = [] if part.steps else ["no proof"]
        if not part.instances:
            reasons.append("no strategy draws fields for it")
        if self.theorem.sharp and part.sharpness is None:
            reasons.append("said to be sharp, no instance given")
        for hypothesis in self.theorem.hypotheses:
            if not part.counterexamples.get(hypothesis.name, False):
                reasons.append(f"no counterexample without hypothesis {hypothesis.name}")
        return reasons

    @property
    def outcome(self) -> Literal["holds", "failed", "undecided"]:
        if self.failures:
            return "failed"
        return "undecided" if self.gaps else "holds"

    def as_json(self) -> dict[str, Any]:
        hypotheses = [
            {
                "counterexample_without": self.part.counterexamples.get(hypothesis.name, False),
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


# Judging a trial. ---------------------------------------------------------------------------


def laws(theorem: Theorem, trial: Trial) -> np.ndarray:
    """The constant for each field (fields, 1), rounded away from what could refute it."""
    bound = balls.upper if theorem.bound == "upper" else balls.lower
    names = [str(symbol) for symbol in theorem.law.free_symbols]
    values = []
    for index in range(len(trial.measured)):
        facts = trial.of(index)
        values.append(bound(theorem.law, {name: facts[name] for name in names}))
    return np.array(values).reshape(-1, 1)


def violated(theorem: Theorem, trial: Trial, law: np.ndarray) -> np.ndarray:
    """Which pairs contradict the law, (fields, points)."""
    return trial.measured > law if theorem.bound == "upper" else trial.measured < law


def hypotheses_of(theorem: Theorem, trial: Trial) -> list[set[str]]:
    """The names of the hypotheses that each field satisfies."""
    return [
        {h.name for h in theorem.hypotheses if h.holds(**trial.of(index))}
        for index in range(len(trial.measured))
    ]


def _judge(theorem: Theorem, trial: Trial) -> tuple[Part, np.ndarray]:
    """Count violations among fields that satisfy every hypothesis; also the laws."""
    names = {h.name for h in theorem.hypotheses}
    for satisfied in hypotheses_of(theorem, trial):
        if satisfied != names:
            raise ValueError(
                f"the strategy of {theorem.id} drew a field outside its hypotheses "
                f"{', '.join(sorted(names - satisfied))}"
            )
    law = laws(theorem, trial)
    wrong = violated(theorem, trial, law)
    description = ""
    if wrong.any():
        index, point = (int(i) for i in np.argwhere(wrong)[0])
        facts = trial.of(index)
        named = sorted(str(symbol) for symbol in theorem.law.free_symbols)
        where = ", ".join(f"{name} = {facts[name]:.6g}" for name in named)
        description = f"{trial.measured[index, point]:.9g} against {law[index, 0]:.9g} at {where}"
    return Part((), trial.measured.size, int(wrong.sum()), description), law


def _attained(theorem: Theorem, trial: Trial, law: np.ndarray) -> float | None:
    """How close every field of the trial comes to its law: the least over fields of the best over
    pairs, cut to nine decimals. None where a law is not positive, which no ratio describes."""
    if not (law > 0).all() or not np.isfinite(law).all():
        return None
    if theorem.bound == "upper":
        quotients = trial.measured.max(axis=1) / law[:, 0]
    else:
        quotients = law[:, 0] / trial.measured.min(axis=1)
    return math.floor(float(quotients.min()) * 1e9) / 1e9


def _breaks(theorem: Theorem, name: str, trial: Trial) -> bool:
    """Whether a field that violates hypothesis `name` and no other contradicts the law."""
    others = {h.name for h in theorem.hypotheses} - {name}
    wrong = violated(theorem, trial, laws(theorem, trial)).any(axis=1)
    lone = [satisfied == others for satisfied in hypotheses_of(theorem, trial)]
    return bool((wrong & np.array(lone)).any())


# Tasks. -------------------------------------------------------------------------------------


def _prove(theorem: Theorem) -> Part:
    return Part(steps=tuple((step.claim, step.holds(theorem)) for step in theorem.proof))


def _examine(theorem: Theorem) -> Part:
    """The chosen instances: those that attain the law, and those outside one hypothesis. A field
    made to violate a hypothesis that the theorem does not have is an instance like any other."""
    strategy = STRATEGIES.get(theorem.id)
    if strategy is None or theorem.constant is None:
        return Part()
    names = {h.name for h in theorem.hypotheses}
    needed = {
        name: _breaks(theorem, name, broken())
        for name, broken in strategy.without.items()
        if name in names
    }
    parts = [
        _judge(theorem, broken())[0]
        for name, broken in strategy.without.items()
        if name not in names
    ]
    sharpness = None
    if strategy.sharp is not None:
        trial = strategy.sharp()
        part, law = _judge(theorem, trial)
        sharpness = _attained(theorem, trial, law)
        parts.append(part)
    return replace(_combine(parts), sharpness=sharpness, counterexamples=needed)


def _attack(theorem: Theorem, profile: Profile, seed: int, chunk: int) -> Part:
    strategy = STRATEGIES.get(theorem.id)
    if strategy is None or theorem.constant is None:
        return Part()
    rng = np.random.default_rng([seed, zlib.crc32(theorem.id.encode()), chunk])
    return _judge(theorem, strategy.sample(rng, profile.fields, profile.points))[0]


def _tasks(theorem: Theorem, profile: Profile, seed: int) -> list[Callable[[Theorem], Part]]:
    chunks = [
        functools.partial(_attack, profile=profile, seed=seed, chunk=i)
        for i in range(profile.chunks)
    ]
    return [_prove, _examine, *chunks]


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


def verify(
    chosen: Sequence[Theorem],
    profile: Profile,
    seed: int = 0,
    jobs: int = 1,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> list[Verdict]:
    """The verdict on each theorem, in order. The same for one seed on any number of `jobs`.

    `on_done(done, total)` is called after each task. With several jobs a theorem that is not the
    registered one of its id must be picklable. Raises ValueError where a strategy leaves the
    hypotheses of its theorem, ImportError without python-flint.
    """
    registered = theorems()
    work = [(task, theorem) for theorem in chosen for task in _tasks(theorem, profile, seed)]
    if jobs == 1:
        parts = []
        for task, theorem in work:
            parts.append(_run(task, theorem))
            on_done(len(parts), len(work))
    else:
        shipped = [
            theorem.id if registered.get(theorem.id) is theorem else theorem for _, theorem in work
        ]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = [
                pool.submit(_run, task, what) for (task, _), what in zip(work, shipped, strict=True)
            ]
            parts = []
            for future in futures:
                parts.append(future.result())
                on_done(len(parts), len(work))
    verdicts = []
    for theorem in chosen:
        mine = [part for part, (_, owner) in zip(parts, work, strict=True) if owner is theorem]
        verdicts.append(Verdict(theorem, _combine(mine)))
    return verdicts


def report(verdicts: Sequence[Verdict], profile: str, seed: int) -> dict[str, Any]:
    """The Verify JSON: keys sorted, nothing in it that depends on when or where it was made."""
    return {
        "profile": profile,
        "seed": seed,
        "theorems": [verdict.as_json() for verdict in verdicts],
    }


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 where a theorem failed, else 3 where one is undecided, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return 1 if "failed" in outcomes else 3 if "undecided" in outcomes else 0
