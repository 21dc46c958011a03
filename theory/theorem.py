"""What a theorem is: a law with its hypotheses and its proof, as data.

The law is a SymPy expression, every hypothesis a SymPy relation, and every proof step a function
that computes. A proof step is handed the theorem it belongs to, so it speaks about the law as it
stands there: change the law and its proof stops holding.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sympy import Expr, Rational
from sympy.logic.boolalg import Boolean, BooleanAtom

from theory.compile import Backend, arguments, compiled

Status = Literal["published", "recalled", "derived"]
OPEN = -1  # what a step computes that comes to no end


class Undecided(ValueError):
    """A check found neither a proof nor a reason against it; the message says why."""


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

    `check` answers True or False, whether the claim holds; an interval step may answer with the
    number of boxes that it took, 0 where it failed. It may raise Undecided.
    """

    claim: str
    check: Callable[["Theorem"], bool | int]
    method: Literal["symbolic", "interval"] = "symbolic"

    def computed(self, theorem: "Theorem") -> tuple[int, str]:
        """What the computation, done now, says of the law of `theorem`, 0 that the claim fails and
        OPEN that it is undecided; and the claim, with the number of boxes or the reason.

        Raises ValueError where the check answers anything else, or raises.
        """
        try:
            found = self._answered(self.check(theorem))
        except Undecided as why:
            return OPEN, f"{self.claim}: {why}"
        except ImportError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{theorem.id}: the check of {self.claim!r} raised {why}") from error
        boxes = f", {found} box{'es' if found > 1 else ''}" if found else ""
        return found, self.claim + f" (by balls{boxes})" * (self.method == "interval")

    def _answered(self, found: Any) -> int:
        """A truth value, Python's, SymPy's or NumPy's, or a number of boxes: the difference of two
        sides, or a pair with a reason, would count as true."""
        if self.method == "interval" and type(found) is int and found >= 0:
            return found
        if isinstance(found, BooleanAtom) or type(found).__name__ in ("bool", "bool_"):
            return int(bool(found))
        raise TypeError(f"an answer {found!r} that is neither True nor False")

    def holds(self, theorem: "Theorem") -> bool:
        """Whether the computation, done now, confirms the claim for the law of `theorem`."""
        return self.computed(theorem)[0] > 0


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
        """Whether the steps and spectra in `values`, taken as the exact numbers that they are, lie
        in the admissible set: nothing is rounded, nothing overflows.

        Raises ValueError where the theorem restricts no steps.
        """
        if self.admissible is None:
            raise ValueError(f"{self.id} has no admissible set of steps")
        facts = {symbol: values[str(symbol)] for symbol in self.admissible.free_symbols}
        if not all(math.isfinite(value) for value in facts.values()):
            return False
        exactly = {
            symbol: Rational(value if isinstance(value, int | Rational) else float(value))
            for symbol, value in facts.items()
        }
        return bool(self.admissible.xreplace(exactly))

    def proved(self) -> bool:
        """Whether there is a proof and each of its steps holds when computed now."""
        return bool(self.proof) and all(step.holds(self) for step in self.proof)
