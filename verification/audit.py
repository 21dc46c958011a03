"""Verdicts on claims about a network: proved, refuted or unknown, each with its evidence.

`proved` rests on an upper bound composed from theorems (`bound`), `refuted` on a pair of inputs
whose ratio, replayed outside the search, has a rigorous lower bound above the limit (`witness`).
Anything else is `unknown`, with the interval that is known.
"""

import math
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dsnn.integrators import Step
from dsnn.models.cifar import SIDE
from dsnn.weights import Loaded
from verification import witness
from verification.bound import Constant, Ledger
from verification.claims import Claim, select
from verification.radius import PixelInput
from verification.wording import at_least, at_most

SEARCH_SECONDS = (0.4, 5.0)
"""Least and most time for one search of a witness; in between, its share of half the budget."""
TIGHTENING_SPEED = 2e10
"""Floating-point operations a second assumed when a factorisation is weighed against a budget."""

Outcome = Literal["proved", "refuted", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What is known of one claim about one module: the constant lies in [lower, upper]."""

    claim: str
    module: str
    outcome: Outcome
    lower: float
    upper: float
    evidence: dict[str, Any]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "claim": self.claim,
            "module": self.module,
            "verdict": self.outcome,
            "bound": [_end(self.lower), _end(self.upper)],
            "arithmetic": "real",
            "evidence": self.evidence,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Audit:
    """One audit of one loaded network, with `budget` seconds for searching and tightening.

    `folder` takes the witnesses, named after `stem`.
    """

    loaded: Loaded
    tight: bool = False
    budget: float = 5.0
    folder: Path = Path()
    stem: str = "witness"
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.loaded.net, tight=self.tight)
        self.started = time.perf_counter()
        self.search_seconds = SEARCH_SECONDS[1]
        self.found: dict[tuple[str, bool], witness.Witness | None] = {}

    def run(self, claims: Iterable[Claim]) -> list[Verdict]:
        """Verdicts in the order of the claims, one for each matched module. Raises UserError,
        before any work, when a claim matches none."""
        pairs = [(claim, name) for claim in claims for name in select(claim, self.ledger.modules)]
        least, most = SEARCH_SECONDS
        self.search_seconds = min(most, max(least, self.budget / 2 / max(1, len(pairs))))
        for claim, name in pairs:
            self.verdicts.append(self.judge(claim, name))
        return self.verdicts

    def judge(self, claim: Claim, name: str) -> Verdict:
        """The verdict on one claim about the module called `name`."""
        start = time.perf_counter()

        def verdict(outcome: Outcome, lower: float, upper: float, **evidence: Any) -> Verdict:
            seconds = time.perf_counter() - start
            return Verdict(claim.text, name, outcome, lower, upper, evidence, seconds)

        if claim.limit is None:
            text = f"no rule for {claim.name} yet: lipschitz and contractive are decided"
            return verdict("unknown", 0.0, math.inf, kind="none", text=text)
        constant = self._constant(claim, name)
        if claim.allows(constant.upper):
            return verdict("proved", 0.0, constant.upper, **_theorems(constant))
        pair = self._search(claim, name)
        lower = 0.0 if pair is None else pair.ratio
        if pair is not None and not claim.allows(lower):
            file = self.folder / f"{self.stem}-{len(self._refuted()) + 1}.safetensors"
            about = {"claim": claim.text, "module": name, "sha256": self.loaded.sha256}
            witness.save(file, pair, about)
            return verdict("refuted", lower, constant.upper, **self._witnessed(pair, file, name))
        constant = self._tightened(claim, name, constant)
        if claim.allows(constant.upper):
            return verdict("proved", lower, constant.upper, **_theorems(constant))
        evidence = _theorems(constant) | {"kind": "gap", "hint": self._hint(claim, name)}
        return verdict("unknown", lower, constant.upper, **evidence)

    def _constant(self, claim: Claim, name: str) -> Constant:
        if claim.pixel:
            return self.ledger.pixel(self.loaded.card.std)
        return self.ledger.constant(name)

    def _optimistic(self, claim: Claim, name: str) -> float:
        """What the constant would be at the unproved ends of all spectra."""
        self.ledger.optimistic = True
        try:
            return self._constant(claim, name).upper
        finally:
            self.ledger.optimistic = False

    def _search(self, claim: Claim, name: str) -> witness.Witness | None:
        """The best pair for the module, searched once and shared by the claims about it."""
        key = (name, claim.pixel)
        if key not in self.found:
            module: nn.Module = self.ledger.modules[name]
            if claim.pixel:
                card = self.loaded.card
                module = PixelInput(module, card.mean, card.std)
            self.found[key] = witness.search(
                module,
                self.ledger.shape(name),
                target=float(claim.limit or 1),
                starts=self._starts(name),
                budget_seconds=self.search_seconds,
            )
        return self.found[key]

    def _starts(self, name: str) -> Tensor | None:
        """Inputs that module `name` receives when the network is given smooth random images; None
        for the network itself, and for a module that is read but never called."""
        if not name:
            return None
        coarse = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        images = torch.nn.functional.interpolate(coarse, SIDE, mode="bilinear")
        return witness.inputs_of(self.loaded.net, name, images)

    def _tightened(self, claim: Claim, name: str, constant: Constant) -> Constant:
        """The constant after tightening the operators it rests on, one by one, while the budget
        lasts and the claim is not proved; none when it could not be proved anyway."""
        if not claim.allows(self._optimistic(claim, name)):
            return constant
        for operator in self.ledger.used(name):
            spent = time.perf_counter() - self.started
            work = self.ledger.tightening_work(operator) / TIGHTENING_SPEED
            if work == 0 or spent + work > self.budget:
                continue
            self.ledger.tighten(operator)
            constant = self._constant(claim, name)
            if claim.allows(constant.upper):
                break
        return constant

    def _hint(self, claim: Claim, name: str) -> str:
        possible = self._optimistic(claim, name)
        if claim.allows(possible) and not self.tight:
            return f"at best {possible:.4g}: a longer --budget, or --tight, may prove it"
        return f"these theorems give at best {possible:.4g} here"

    def _refuted(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.outcome == "refuted"]

    def _witnessed(self, pair: witness.Witness, file: Path, name: str) -> dict[str, Any]:
        distance = float((pair.x.double() - pair.y.double()).norm())
        text = (
            f"two inputs at distance {distance:.3g} leave at least "
            f"{at_least(pair.ratio)} times as far apart"
        )
        flipped = {
            time: step
            for step, module in self.ledger.modules.items()
            if isinstance(module, Step) and not module.signed and f"{step}.".startswith(name)
            for time in module.u.tolist()
            if time < 0
        }
        if flipped:
            worst = min(flipped)
            text += f"; |u| is executed: {-worst:.4g} in {flipped[worst]}, where u = {worst:.4g}"
        ratio = {"ratio": pair.ratio, "distance": distance}
        return {"kind": "witness", "text": text, "file": file.name, **ratio}

    def as_json(self, target: str) -> dict[str, Any]:
        """The Audit JSON: verdicts, and the spectra of all operators, executed or not."""
        return {
            "target": target,
            "sha256": self.loaded.sha256,
            "file_sha256": self.loaded.file_sha256,
            "card": asdict(self.loaded.card),
            "environment": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "claims": [verdict.as_json() for verdict in self.verdicts],
            "operators": [self._operator(name) for name in self.ledger.operators()],
        }

    def _operator(self, name: str) -> dict[str, Any]:
        module = self.ledger.modules[name]
        spectrum = self.ledger.spectrum(module)
        return {
            "module": name,
            "kind": "linear" if isinstance(module, nn.Linear) else "conv2d",
            "norm": list(spectrum.norm),
            "smallest": list(spectrum.smallest),
            "method": spectrum.method,
        }


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """1 when anything is refuted, else 3 when anything is unknown, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return 1 if "refuted" in outcomes else 3 if "unknown" in outcomes else 0


def _end(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _theorems(constant: Constant) -> dict[str, Any]:
    """Evidence: the laws used, the values they were evaluated at, and a line to read."""
    laws, values = _collect(constant)
    words = [law.split("-")[0] for law in laws if law.startswith(("T", "D"))]
    if found := [value["s_min"] for value in values if "s_min" in value]:
        words.append(f"s_min >= {at_least(min(found))}")
    if found := [value["s_max"] for value in values if "s_max" in value]:
        words.append(f"s_max <= {at_most(max(found))}")
    text = ", ".join(words) or constant.law
    ledger = _ledger(constant)
    return {"kind": "theorem", "text": text, "law": constant.law, "laws": laws, "ledger": ledger}


def _collect(constant: Constant) -> tuple[list[str], list[dict[str, float]]]:
    laws, values = [constant.law], [constant.values]
    for _, part in constant.parts:
        more_laws, more_values = _collect(part)
        laws += [law for law in more_laws if law not in laws and law != "norm"]
        values += more_values
    return laws, values


def _ledger(constant: Constant, name: str = "") -> dict[str, Any]:
    """The chain of constants as it was composed."""
    return {
        "module": name,
        "upper": _end(constant.upper),
        "law": constant.law,
        "values": {key: _end(value) for key, value in constant.values.items()},
        "parts": [_ledger(part, module) for module, part in constant.parts],
    }
