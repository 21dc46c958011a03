"""A registered field as a theorem: the one-sided constant that its author declares, proved."""

from functools import partial
from typing import Any

from sympy import Function, Ge, Le, Symbol, latex, oo
from sympy.logic.boolalg import And

from theory.activation import Activation
from theory.algebra import equal
from theory.derivation import decided_integral, decided_property, lipschitz, one_sided
from theory.field import Field
from theory.field_properties import PROPERTIES
from theory.limited import OutOfTime, within
from theory.steps import readable
from theory.theorem import Hypothesis, ProofStep, Theorem, Undecided

SECONDS = 60.0  # for one step of the proof
# With blanks, unlike the parameters of a field, of which these facts stand in one table.
outside = Symbol("outside the box", nonnegative=True)


def slope_facts(name: str) -> tuple[Symbol, Symbol]:
    """The symbols for the least and the greatest slope of an activation."""
    low, high = f"least slope of {name}", f"greatest slope of {name}"
    return Symbol(low, real=True), Symbol(high, real=True)


def slope_ranges(field: Field) -> dict[str, tuple[Any, Any]]:
    """The range of slopes of each activation of the field, by name."""
    parts: list[Any] = field.activations()
    return {str(part.args[0]): (part.args[1], part.args[2]) for part in parts}


def theorem_of(field: Field) -> Theorem:
    """<X(x) - X(y), x - y> <= law |x - y|^2 for the declared law of a field, by its id; without a
    declared law a theorem that says nothing yet."""
    law = field.one_sided
    velocity = latex(field.column.T.applyfunc(_drawn))
    says = r"\text{no one-sided constant is declared}" if law is None else _inequality(law)
    steps = []
    if law is not None:
        check = partial(_at_most, field, one_sided, None)
        steps.append(ProofStep("(J + J')/2 is at most the law", check, "interval"))
    if field.lipschitz is not None:
        check = partial(_at_most, field, lipschitz, field.lipschitz)
        steps.append(ProofStep(f"|J| is at most {field.lipschitz}", check, "interval"))
    for name in field.properties:
        check = partial(_holds, decided_property, field, name)
        steps.append(ProofStep(PROPERTIES[name].words, check))
    for name, expression in field.integrals.items():
        check = partial(_holds, decided_integral, field, expression)
        steps.append(ProofStep(f"{name} is constant along the flow", check))
    return Theorem(
        id=field.id,
        statement=rf"\dot x^\top = {velocity}:\quad {says}",
        words=field.words or "A field of its user.",
        source=field.source,
        status="derived",
        hypotheses=_hypotheses(field),
        constant=law,
        measures="one-sided Lipschitz constant",
        proof=tuple(steps),
    )


def _inequality(law: Any) -> str:
    return rf"\langle X(x)-X(y),x-y\rangle \le \left({latex(law)}\right)|x-y|^2"


def _drawn(entry: Any) -> Any:
    """Activations as undefined functions, which LaTeX can print."""
    return entry.replace(Activation, lambda name, low, high, u: Function(str(name))(u))


def _hypotheses(field: Field) -> tuple[Hypothesis, ...]:
    found = []
    for name, (low, high) in sorted(slope_ranges(field).items()):
        least, greatest = slope_facts(name)
        found.append(
            Hypothesis(
                f"slopes-{name}",
                f"the slopes of {name} lie in [{low}, {high}]",
                And(Ge(least, low), Le(greatest, high)),
            )
        )
    for parameter in field.parameters:
        low, high = field.ranges[parameter]
        # not evaluated: of a nonnegative parameter SymPy would say that 0 <= c is true
        parts = [Ge(parameter, low, evaluate=False)] if low != -oo else []
        parts += [Le(parameter, high, evaluate=False)] if high != oo else []
        if parts:
            text = f"{parameter} lies in [{low}, {high}]"
            found.append(Hypothesis(f"range-{parameter}", text, And(*parts)))
    if field.confined:
        text = "both points lie in the box of the field"
        found.append(Hypothesis("box", text, equal(outside, 0)))
    return tuple(found)


def _at_most(field: Field, constant: Any, law: Any, theorem: Theorem) -> int:
    """The number of boxes that prove it, 0 where a point is against it; Undecided else."""
    try:
        found = within(SECONDS, constant, field, theorem.law if law is None else law, SECONDS / 2)
    except (OutOfTime, ValueError, RuntimeError) as why:
        raise Undecided(str(why)) from why
    if found.upper <= 0 or found.lower > 0:
        return found.boxes if found.upper <= 0 else 0
    raise Undecided(found.reason or f"exceeded by {readable(found.upper, up=True)} at most")


def _holds(decided: Any, field: Field, what: Any, _: Theorem) -> bool:
    try:
        found = within(SECONDS, decided, field, what)
    except (OutOfTime, ValueError, RuntimeError) as why:
        raise Undecided(str(why)) from why
    if found.verdict == "open":
        raise Undecided(found.text)
    return found.verdict == "proved"
