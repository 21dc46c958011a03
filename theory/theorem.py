"""What a theorem is: a law with its hypotheses and its proof, as data.

The law is a SymPy expression, every hypothesis a SymPy relation, and every proof step a function
that computes. A proof step is handed the theorem it belongs to, so it speaks about the law as it
stands there: change the law and its proof stops holding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sympy import Expr
from sympy.logic.boolalg import Boolean

from theory.compile import Backend, arguments, compiled

Status = Literal["published", "recalled", "derived"]


@dataclass(frozen=True)
class Hypothesis:
    """A named condition, as words and as a relation.

    `relation` connects the symbols of the law (what is claimed, as s_max) with those of
    `theory.facts` (what is true of a field, as sigma_max).
    """

    name: str
    words: str
    relation: Boolean

    def holds(self, **values: float) -> bool:
        """Whether the relation is true of `values`, given by the names of its symbols."""
        facts = {name: values[name] for name in arguments(self.relation)}
        return bool(compiled(self.relation, "math")(**facts))


@dataclass(frozen=True)
class ProofStep:
    """One step of a proof: what it says, and the computation that decides it.

    `check` answers whether the claim holds; an interval step may answer with the number of boxes
    that it took, 0 where it failed.
    """

    claim: str
    check: Callable[["Theorem"], bool | int]
    method: Literal["symbolic", "interval"] = "symbolic"

    def computed(self, theorem: "Theorem") -> int:
        """What the computation, done now, says of the law of `theorem`: 0 that the claim fails."""
        found = self.check(theorem)
        return (
            found if type(found) is int else int(bool(found))
        )  # SymPy has truth values of its own

    def holds(self, theorem: "Theorem") -> bool:
        """Whether the computation, done now, confirms the claim for the law of `theorem`."""
        return self.computed(theorem) > 0

    def means(self, computed: int) -> str:
        """The claim, with the number of boxes where it was proved by subdivision."""
        if self.method == "symbolic":
            return self.claim
        boxes = f", {computed} box{'es' if computed > 1 else ''}" if computed else ""
        return f"{self.claim} (by balls{boxes})"


@dataclass(frozen=True, eq=False)
class Theorem:
    """A law of the paper or of ours.

    `constant` bounds the quantity that `measures` names, from above (`bound="upper"`: a Lipschitz
    constant) or from below (`bound="lower"`: a distance). An identity is the bound 0 on its defect.
    `admissible` is the set of steps for which a Lipschitz constant is at most 1. `forms` holds the
    other closed forms that belong to it. `sharp` says for which instances the bound is attained,
    and is empty where it is not.
    """

    id: str
    statement: str
    words: str
    source: str
    status: Status
    hypotheses: tuple[Hypothesis, ...]
    constant: Expr | None
    proof: tuple[ProofStep, ...]
    admissible: Boolean | None = None
    forms: Mapping[str, Any] = field(default_factory=dict)
    bound: Literal["upper", "lower"] = "upper"
    measures: str = "Lipschitz constant"
    sharp: str = ""
    warning: str = ""

    @property
    def law(self) -> Any:
        """The constant. Raises ValueError where the theorem has none."""
        if self.constant is None:
            raise ValueError(f"{self.id} has no constant")
        return self.constant

    def numeric(self, backend: Backend = "numpy") -> Callable[..., Any]:
        """The constant as a compiled function of keyword arguments named like its symbols.

        Raises ValueError where the theorem has no constant.
        """
        return compiled(self.law, backend)

    def admits(self, **values: float) -> bool:
        """Whether the steps and spectra in `values` lie in the admissible set.

        Raises ValueError where the theorem restricts no steps.
        """
        if self.admissible is None:
            raise ValueError(f"{self.id} has no admissible set of steps")
        facts = {name: values[name] for name in arguments(self.admissible)}
        return bool(compiled(self.admissible, "math")(**facts))

    def proved(self) -> bool:
        """Whether there is a proof and each of its steps holds when computed now."""
        return bool(self.proof) and all(step.holds(self) for step in self.proof)
