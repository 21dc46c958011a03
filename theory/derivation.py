"""What follows for a field: its constants, the steps an integrator may take, what it conserves.

Each finding is proved, refuted by a point, or open with the reason. SymPy works under a budget of
seconds (`limited`); what it does not finish is open. With activations the findings hold for every
function with the given slopes; with states that have a range, as long as they stay inside.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sympy import Matrix, Symbol, oo

from theory import steps
from theory.activation import compatible, slopes_as_symbols
from theory.eigenvalue import Largest, doubled, largest, symmetric_part
from theory.field import Field
from theory.field_properties import POINTWISE, PROPERTIES, Decided, decide, undefined
from theory.limited import OutOfTime, start, within
from theory.steps import Steps, readable

Verdict = Literal["proved", "refuted", "open"]
SHARE = 0.6  # of what is left of the budget, for tightening one bound


@dataclass(frozen=True)
class Finding:
    """`text` says what was found, or why nothing was; `point` refutes, or attains a bound."""

    verdict: Verdict
    text: str
    point: Mapping[Symbol, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = ", ".join(f"{s} = {v}" for s, v in self.point.items())
        return f"{self.verdict}: {self.text}" + (f" at {where}" if where else "")


@dataclass(frozen=True)
class Derivation:
    """All findings on one field. `one_sided` and `lipschitz` are exact upper bounds, oo where none
    was proved; `constants`, `declared` and `conserved` give the finding on each by name."""

    field: Field
    integrator: str
    one_sided: Any
    lipschitz: Any
    steps: Steps
    constants: Mapping[str, Finding]
    conserved: Mapping[str, Finding]
    declared: Mapping[str, Finding]

    def __str__(self) -> str:
        lines = [f"{self.field.id}: x' = {list(self.field.velocity)}"]
        lines += [f"  {name}: {finding}" for name, finding in self.constants.items()]
        law = f" [{self.steps.theorem}]" if self.steps.theorem else ""
        lines.append(f"  steps of {self.integrator}: {self.steps.text}{law}")
        lines += [f"  declared {name}: {found}" for name, found in self.declared.items()]
        for name, found in self.conserved.items():
            words = f" ({PROPERTIES[name].words})" if name in PROPERTIES else ""
            lines.append(f"  {name}{words}: {found}")
        if self.field.confined:
            lines.append("  all of it as long as the states, stages included, stay in their ranges")
        return "\n".join(lines)


class _Budget:
    """Seconds shared by several pieces of work."""

    def __init__(self, seconds: float):
        if not seconds > 0:
            raise ValueError(f"a budget of {seconds} seconds: give more than 0")
        self.seconds, self.deadline = seconds, time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def spent_on(self, function: Callable[..., Any], *arguments: Any) -> Any | Finding:
        """The result, or an open finding with the reason why there is none."""
        late = Finding("open", f"not finished within the budget of {self.seconds:g} s")
        if not self.left:
            return late
        try:
            return within(self.left, function, *arguments)
        except OutOfTime:
            return late
        except (ValueError, RuntimeError) as error:
            return Finding("open", str(error))


def derive(
    field: Field, integrator: str = "explicit-euler", budget_seconds: float = 20.0
) -> Derivation:
    """What follows for `field` and the steps of `integrator`, one of `steps.INTEGRATORS`.

    `Field` holds the expressions, states, parameters with ranges, and what is declared; SymPy works
    `budget_seconds`, the start of its process not counted.

    Raises ValueError for an unknown integrator or a budget that is not positive, ImportError
    without python-flint.
    """
    import flint  # noqa: F401  (not installed: now, and not in the other process)

    steps.known(integrator)
    start()
    budget = _Budget(budget_seconds)
    found = {
        "one-sided constant": budget.spent_on(one_sided, field, None, SHARE * budget.left / 2),
        "Lipschitz constant": budget.spent_on(lipschitz, field, None, SHARE * budget.left / 2),
    }
    nu, L = (oo if isinstance(x, Finding) else x.upper for x in found.values())
    conserved = {name: _property(budget, field, name) for name in _names(field)}
    for name, expression in field.integrals.items():
        conserved[name] = _decided(budget.spent_on(decided_integral, field, expression))
    gradient = conserved["gradient"].verdict == "proved"
    constants = {name: _constant(name, x) for name, x in found.items()}
    allowed = steps.admissible(integrator, nu, L, gradient=gradient)
    declared = {name: conserved[name] for name in field.properties}
    for name, law, bound in (
        ("one-sided constant", field.one_sided, one_sided),
        ("Lipschitz constant", field.lipschitz, lipschitz),
    ):
        if law is not None:
            answer = budget.spent_on(bound, field, law, SHARE * budget.left)
            declared[f"{name} <= {law}"] = _claim(answer)
    return Derivation(field, integrator, nu, L, allowed, constants, conserved, declared)


def _names(field: Field) -> list[str]:
    return [name for name in PROPERTIES if not undefined(name, len(field.states))] + [
        name for name in field.properties if undefined(name, len(field.states))
    ]


def _constant(name: str, found: Largest | Finding) -> Finding:
    if isinstance(found, Finding):
        return found
    if not found.upper.is_finite:
        return Finding("open", found.reason)
    sharp = (
        " (attained)"
        if found.lower == found.upper
        else f" (at least {readable(found.lower, up=False)})"
        if found.lower.is_finite
        else ""
    )
    return Finding("proved", f"at most {readable(found.upper, up=True)}{sharp}", found.point)


def _claim(found: Largest | Finding) -> Finding:
    """The finding on a declared law, from the enclosure of constant - law."""
    if isinstance(found, Finding):
        return found
    if found.upper <= 0:
        return Finding("proved", f"by {_counted(found.boxes)}")
    if found.lower > 0:
        return Finding("refuted", f"exceeded by {readable(found.lower, up=False)}", found.point)
    if not found.upper.is_finite:
        return Finding("open", found.reason)
    return Finding("open", f"known up to {float(found.upper):.3g} only")


def _counted(boxes: int) -> str:
    return f"{boxes} corner{'s' if boxes > 1 else ''} or pieces of the box"


def _property(budget: _Budget, field: Field, name: str) -> Finding:
    senseless = undefined(name, len(field.states))
    if senseless:
        return Finding("open", senseless)
    return _decided(budget.spent_on(decided_property, field, name))


def _decided(found: Decided | Finding) -> Finding:
    if isinstance(found, Finding):
        return found
    value = f"what should vanish is {found.text}" if found.verdict == "refuted" else found.text
    return Finding(found.verdict, value or "identically", found.point)  # type: ignore[arg-type]


# What runs in the other process. -------------------------------------------------------------


def one_sided(field: Field, law: Any = None, seconds: float = math.inf) -> Largest:
    """The enclosure of the largest eigenvalue of (J + J')/2, less the law where one is given."""
    return _enclosed(field, symmetric_part, law, seconds)


def lipschitz(field: Field, law: Any = None, seconds: float = math.inf) -> Largest:
    """The enclosure of |J|, less the law where one is given."""
    return _enclosed(field, doubled, law, seconds)


def _enclosed(field: Field, part: Callable[[Any], Any], law: Any, seconds: float) -> Largest:
    field.check_regular(*field.velocity)
    J, slopes = slopes_as_symbols(field.jacobian(), field.box)
    M = part(J)
    if law is not None:
        M = M - law * Matrix.eye(M.rows)
    ranges = {symbol: (slope.args[1], slope.args[2]) for slope, symbol in slopes.items()}
    found = largest(M.expand(), {**field.box, **ranges}, seconds)
    only = {s: low for s, (low, high) in field.box.items() if low == high}
    if not compatible(slopes, {**only, **found.point}):
        return replace(found, lower=-oo, point={})
    return found


def decided_property(field: Field, name: str) -> Decided:
    """The decision on one of `PROPERTIES`."""
    x = Matrix(field.states)
    if name not in POINTWISE:
        field.check_functions(*field.velocity)
    found = decide(PROPERTIES[name].defects(x, field.column, field.jacobian()), field.box)
    if found.verdict == "proved" and name not in POINTWISE:
        field.check_regular(*field.velocity)
    return found


def decided_integral(field: Field, expression: Any) -> Decided:
    """Whether the expression is constant along the flow."""
    field.check_functions(expression)
    rate = sum(expression.diff(s) * v for s, v in zip(field.states, field.velocity, strict=True))
    found = decide([rate], field.box)
    if found.verdict == "proved":
        field.check_regular(expression)
    return found
