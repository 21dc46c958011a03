"""What is known of one property of one graph, and what an analysis hands over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from verification.graph import Graph

Outcome = Literal["proved", "refuted", "unknown"]


@dataclass(frozen=True)
class Proof:
    """An upper bound on the defect of a property at every input, 0 when it holds exactly.

    `theorem` is an id of the paper's notes, `text` what was found in the graph, `parts` one line
    for each segment where a composition was judged piece by piece.
    """

    defect: float
    theorem: str
    text: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Open:
    """No proof, for the reason given in one line."""

    reason: str


Analysis = Callable[[Graph, int], Proof | Open]
"""(graph, dim) -> what can be proved; `dim` is that of `symplectic`."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a property: the defect lies in [lower, upper], None where an end is unknown.

    `evidence` has `kind` (theorem, point, gap) and `text`; with a proof its `theorem`, `exact` and
    `parts`; with a refutation `point` holds the input x and `directions` those along which the
    Jacobian was taken.
    """

    outcome: Outcome
    lower: float | None
    upper: float | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    point: Tensor | None = None
    directions: Tensor | None = None
    arithmetic: str = "real"
