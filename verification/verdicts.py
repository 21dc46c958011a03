"""What an audit says: a verdict for each claim about each module, and the report of all of them."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from verification import evidence
from verification.claims import limit
from verification.constant import Constant
from verification.judgement import Outcome
from verification.witness import Witness
from verification.wording import above, at_most


@dataclass(frozen=True)
class Verdict:
    """What is known of one claim about one module: what it bounds lies in [lower, upper].

    `constant` is the derivation of the upper end of a Lipschitz constant, `pair` the witness; the
    witness of another property is `point`, with the `directions` of the Jacobian that show it.
    """

    claim: str
    module: str
    outcome: Outcome
    lower: float
    upper: float
    evidence: Mapping[str, Any]
    seconds: float
    constant: Constant | None = None
    pair: Witness | None = None
    point: Tensor | None = None
    directions: Tensor | None = None
    arithmetic: str = "real"

    def as_json(self) -> dict[str, Any]:
        return {
            "claim": self.claim,
            "module": self.module,
            "verdict": self.outcome,
            "bound": [evidence.end(self.lower), evidence.end(self.upper)],
            "arithmetic": self.arithmetic,
            "evidence": dict(self.evidence),
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        word = self.outcome.upper() if self.outcome == "refuted" else self.outcome
        details = [self.evidence[key] for key in ("text", "hint") if key in self.evidence]
        where = f"{self.module or '(network)'}: {self.claim}"
        interval = f"[{above(self.lower, limit(self.claim))}, {at_most(self.upper)}]"
        return f"{where}: {word} {interval} {'; '.join(details)}"


@dataclass(frozen=True)
class Report:
    """Verdicts in the order of the claims, one for each matched module, and the singular values
    of the linear maps that the module executes."""

    target: str
    sha256: str
    verdicts: tuple[Verdict, ...]
    operators: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 when anything is refuted, else 3 when anything is unknown, else 0."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return 1 if "refuted" in outcomes else 3 if "unknown" in outcomes else 0

    def as_json(self) -> dict[str, Any]:
        """The Audit JSON of docs/design.md."""
        return {
            "target": self.target,
            "sha256": self.sha256,
            **self.about,
            "environment": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "claims": [verdict.as_json() for verdict in self.verdicts],
            "operators": [dict(operator) for operator in self.operators],
        }

    def __str__(self) -> str:
        return "\n".join(str(verdict) for verdict in self.verdicts)
