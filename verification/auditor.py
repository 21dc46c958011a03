"""Verdicts on claims about a module: proved, refuted or unknown, each with its evidence.

`proved` rests on an upper bound derived from the module's graph (`lipschitz`), `refuted` on a pair
of inputs whose ratio, replayed outside the search, has a rigorous lower bound above the limit
(`witness`). Anything else is `unknown`, with the interval that is known.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from dsnn.errors import UserError
from dsnn.integrators import Step
from dsnn.weights import canonical_sha256
from verification import evidence, execution, properties, sdp, witness
from verification.bound import Ledger, pixel
from verification.capture import Uncapturable
from verification.claims import Claim, select
from verification.constant import Constant
from verification.judgement import Judgement, Outcome
from verification.norms import Operator
from verification.searches import Searches
from verification.store import Store
from verification.targets import Target
from verification.verdicts import Report, Verdict
from verification.wording import above

TIGHTENING_SPEED = 2e10
"""Floating-point operations a second assumed when a factorisation is weighed against a budget."""

Arithmetic = Literal["real", "float32"]


class Audit:
    """One audit of one module, with `budget` seconds for searching and tightening.

    Witnesses are written to `folder`, named after `stem`; not at all when it is None. `store` keeps
    what was finished between runs. With `arithmetic` "float32" what is proved is carried over to
    the execution, for examples of norm at most `radius` (`execution`).
    """

    def __init__(
        self,
        subject: Target,
        *,
        tight: bool = False,
        budget: float = 5.0,
        folder: Path | None = None,
        stem: str = "witness",
        store: Store | None = None,
        arithmetic: Arithmetic = "real",
        radius: float | None = None,
    ):
        self.subject, self.tight, self.budget = subject, tight, budget
        self.arithmetic, self.radius = arithmetic, radius
        self.folder, self.stem, self.store = folder, stem, store
        self.parts = subject.parts
        self.ledger = Ledger(self.parts, tight=tight, store=store)
        self.sha256 = canonical_sha256(self.parts.state)
        self.started = time.perf_counter()
        self.searches = Searches(subject, store)
        self.programmes: dict[str, Constant] = {}
        self.refuted = 0

    def run(self, claims: Iterable[Claim]) -> Report:
        """Verdicts on all claims. Raises UserError, before any work, when a claim matches no
        module, or speaks of pixels where the input normalisation is not known; and when a property
        makes no sense for the shapes of a module."""
        pairs = [(claim, name) for claim in claims for name in select(claim, self.parts.names)]
        if self.subject.statistics is None and any(claim.pixel for claim, _ in pairs):
            raise UserError(
                "lipschitz[pixel]: the input normalisation of this module is not known; "
                "claim lipschitz<=L of its input"
            )
        self.parts.expect(name for _, name in pairs)
        self.searches.share(self.budget, len(pairs))
        verdicts = tuple(self.judge(claim, name) for claim, name in pairs)
        return Report(
            self.subject.text, self.sha256, verdicts, self._operators(), self.subject.about
        )

    def judge(self, claim: Claim, name: str) -> Verdict:
        """The verdict on one claim about the module called `name`."""
        verdict = JUDGES.get(claim.name, _equality)(self, claim, name)
        if (architecture := self.subject.architecture) is not None:
            verdict = architecture.over_all(verdict, claim, self.parts.modules[""])
        if self.arithmetic == "real" or verdict.outcome != "proved":
            return verdict
        return execution.carried_over(verdict, claim, self.subject, self.ledger, self.radius)

    def _constant(self, claim: Claim, name: str) -> Constant:
        constant = self.ledger.constant(name)
        return pixel(constant, self._std()) if claim.pixel else constant

    def _tightest(self, claim: Claim, name: str, constant: Constant) -> Constant:
        """The constant, or that by LipSDP if there is time left in the budget and it is less;
        once for the claims about a module."""
        if name not in self.programmes:
            seconds = self.budget - (time.perf_counter() - self.started)
            if seconds <= 0:
                return constant
            self.programmes[name] = self.ledger.tightest(name, seconds)
        tightest = self.programmes[name]
        tightest = pixel(tightest, self._std()) if claim.pixel else tightest
        return min(constant, tightest, key=lambda line: line.upper)

    def _std(self) -> tuple[float, ...]:
        assert self.subject.statistics is not None
        return self.subject.statistics[1]

    def _optimistic(self, claim: Claim, name: str) -> float:
        best = self.ledger.optimistic(name)
        return best / min(self._std()) if claim.pixel else best

    def _tightened(self, claim: Claim, name: str, constant: Constant) -> Constant:
        """The constant after tightening the operators it rests on, one by one, while the budget
        lasts and the claim is not proved; none when it could not be proved anyway."""
        if not claim.allows(self._optimistic(claim, name)):
            return constant
        for _, _, operator in self.ledger.operators(name):
            spent = time.perf_counter() - self.started
            work = self.ledger.spectra.tightening_work(operator) / TIGHTENING_SPEED
            if work == 0 or spent + work > self.budget:
                continue
            self.ledger.spectra.tighten(operator)
            constant = self._constant(claim, name)
            if claim.allows(constant.upper):
                break
        return constant

    def _hint(self, claim: Claim, name: str) -> str:
        possible = self._optimistic(claim, name)
        if claim.allows(possible) and not self.tight:
            return f"at best {possible:.4g}: a longer --budget, or --tight, may prove it"
        return f"these theorems give at best {possible:.4g} here"

    def _save(
        self, claim: Claim, name: str, found: witness.Witness | Tensor, along: Tensor | None = None
    ) -> dict[str, str]:
        """Write a pair of inputs, or a point with the directions of its Jacobian; the file for the
        evidence."""
        self.refuted += 1
        if self.folder is None:
            return {}
        file = self.folder / f"{self.stem}-{self.refuted}.safetensors"
        about = {"claim": claim.text, "module": name, "sha256": self.sha256}
        if isinstance(found, witness.Witness):
            witness.save(file, found, about)
        else:
            witness.save_point(file, found, along, about)
        return {"file": file.name}

    def _witnessed(self, claim: Claim, name: str, pair: witness.Witness) -> dict[str, Any]:
        distance = float((pair.x.double() - pair.y.double()).norm())
        text = (
            f"two inputs at distance {distance:.3g} leave at least "
            f"{above(pair.ratio, claim.limit or 1)} times as far apart"
        )
        inside = f"{name}." if name else ""
        flipped = {
            time: step
            for step, module in self.parts.modules.items()
            if isinstance(module, Step) and not module.signed and f"{step}.".startswith(inside)
            for time in module.u.tolist()
            if time < 0
        }
        if flipped:
            worst = min(flipped)
            text += f"; |u| is executed: {-worst:.4g} in {flipped[worst]}, where u = {worst:.4g}"
        return {"kind": "witness", "text": text, "ratio": pair.ratio, "distance": distance}

    def _operators(self) -> tuple[dict[str, Any], ...]:
        """All that the whole module executes, but those whose weights, or their squares, are not
        finite."""
        found = []
        for module, kind, operator in self.ledger.operators():
            with contextlib.suppress(ArithmeticError):
                found.append(self._operator(module, kind, operator))
        return tuple(found)

    def _operator(self, module: str, kind: str, operator: Operator) -> dict[str, Any]:
        spectrum = self.ledger.spectra.of(operator)
        return {
            "module": module,
            "kind": kind,
            "norm": list(spectrum.norm),
            "smallest": list(spectrum.smallest),
            "method": spectrum.method,
        }


# Verdicts by property. ---------------------------------------------------------------------

Judge = Callable[[Audit, Claim, str], Verdict]


def _lipschitz(audit: Audit, claim: Claim, name: str) -> Verdict:
    """`lipschitz<=L`, `lipschitz[pixel]<=L` and `contractive`."""
    start = time.perf_counter()

    def verdict(
        outcome: Outcome, constant: Constant, pair: witness.Witness | None, **found: Any
    ) -> Verdict:
        lower, seconds = 0.0 if pair is None else pair.ratio, time.perf_counter() - start
        upper = constant.upper
        return Verdict(
            claim.text, name, outcome, lower, upper, found, seconds, constant=constant, pair=pair
        )

    constant = audit._constant(claim, name)
    if claim.allows(constant.upper):
        return verdict("proved", constant, None, **evidence.theorems(constant))
    spent = time.perf_counter() - start
    hopeless = claim.allows(audit._optimistic(claim, name))
    pair = audit.searches.best(claim, name, hopeless=hopeless, spent=spent)
    if pair is not None and not claim.allows(pair.ratio):
        pair = audit.searches.shrunk(claim, name, pair)
        found = audit._witnessed(claim, name, pair) | audit._save(claim, name, pair)
        found["ledger"] = evidence.ledger(constant)
        return verdict("refuted", constant, pair, **found)
    constant = audit._tightened(claim, name, constant)
    if not claim.allows(constant.upper):
        constant = audit._tightest(claim, name, constant)
    if claim.allows(constant.upper):
        return verdict("proved", constant, pair, **evidence.theorems(constant))
    found = evidence.theorems(constant) | {"kind": "gap"}
    if math.isfinite(constant.upper) and not sdp.used(constant):
        found["hint"] = audit._hint(claim, name)
    return verdict("unknown", constant, pair, **found)


def _equality(audit: Audit, claim: Claim, name: str) -> Verdict:
    """The properties that hold exactly, or up to a defect."""
    start, graph = time.perf_counter(), audit.parts.graph(name)
    if isinstance(graph, Uncapturable):
        found = {"kind": "gap", "text": graph.reason}
        return Verdict(claim.text, name, "unknown", 0.0, math.inf, found, 0.0)
    dtype = audit.parts.dtype(name)  # it sets the tolerance
    place = audit.searches.place("equality", name, {"claim": claim.text, "dtype": str(dtype)})
    stored = audit.store and place and audit.store.get(place)
    if stored:
        judged = Judgement(*stored.content)
    else:
        judged = properties.judge(claim, graph, dtype=dtype, budget_seconds=audit.searches.seconds)
        if audit.store and place and judged.outcome == "proved":
            known = [judged.outcome, judged.lower, judged.upper, dict(judged.evidence)]
            audit.store.put(place, known)
    found = dict(judged.evidence)
    if judged.outcome == "refuted" and judged.point is not None:
        found |= audit._save(claim, name, judged.point, judged.directions)
    lower = 0.0 if judged.lower is None else judged.lower
    upper = math.inf if judged.upper is None else judged.upper
    seconds, arithmetic = time.perf_counter() - start, judged.arithmetic
    return Verdict(
        claim.text,
        name,
        judged.outcome,
        lower,
        upper,
        found,
        seconds,
        point=judged.point,
        directions=judged.directions,
        arithmetic=arithmetic,
    )


JUDGES: dict[str, Judge] = {"lipschitz": _lipschitz, "contractive": _lipschitz}
"""By property, what decides a claim; `_equality` decides all others."""
