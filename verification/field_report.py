"""What follows for a field of one's own, a SymPy one or a torch module, and its Hypothesis test.

For a module x -> f(x) everything rests on its graph, seen through maps that the bounds and the
properties know already:

one-sided   for Px + Bσ(Ax + b) from the slopes of σ (`slope_form`); else Lip(x + h f) bounds it
            for every h > 0, as
            <f(x) - f(y), d> <= (|d + h (f(x) - f(y))| - |d|) |d| / h, by Cauchy-Schwarz
mass        1ᵀf = 0 where x + f keeps the sum
hamiltonian S f is a gradient, S = [[0, I], [-I, 0]] for halves (q, p) of the last dimension

A module declares what it should have by the attributes `one_sided`, `lipschitz` (numbers) and
`properties` (names of `MODULE_PROPERTIES`), as a `theory.Field` does.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import hypothesis
import torch
from hypothesis.strategies import SearchStrategy
from sympy import Rational, oo
from torch import Tensor, nn

import theory
from dsnn.errors import UserError
from theory import Field
from theory.derivation import Finding
from theory.steps import Steps, admissible, known, readable
from verification import field_pairs, lipschitz, properties
from verification.capture import Uncapturable, capture
from verification.claims import Claim
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.norms import Spectra
from verification.running_error import UnboundedOperation
from verification.slope_form import centred, one_sided, slope_form
from verification.strategies import fields
from verification.strategies.rounding import Array
from verification.strategies.search import NothingDrawn, find
from verification.wording import at_most

MODULE_PROPERTIES = ("gradient", "mass", "hamiltonian")
EXAMPLES = 100


@dataclass(frozen=True)
class FieldReport:
    """`one_sided` and `lipschitz` are exact upper bounds (oo where none is proved), `steps` the
    steps that do not expand, `findings` the rest, by name.

    `samples` draws pairs of points, and `quotients(sample)` bounds <X(x) - X(y), d> / |d|^2 from
    below on each, d = x - y.
    """

    name: str
    one_sided: Any
    lipschitz: Any
    steps: Steps
    findings: Mapping[str, Finding]
    text: str
    samples: SearchStrategy[Any]
    quotients: Callable[[Any], Array]

    def __str__(self) -> str:
        return self.text

    def as_hypothesis_test(
        self, one_sided: float | None = None, examples: int = EXAMPLES
    ) -> Callable[[], None]:
        """A test that fails where a pair exceeds the one-sided constant: the proved one, or the
        number given. It reports a minimal sample; for a right constant no pair exceeds it, as each
        is bounded from below.

        Raises UserError where there is no finite constant, or nothing can be drawn or bounded.
        """
        bound = _number(self.one_sided if one_sided is None else one_sided)
        if not math.isfinite(bound):
            raise UserError(
                f"{self.name} has no proved one-sided constant to test: give one_sided=NUMBER"
            )
        try:
            _worst(self, bound, 1)
        except (UnboundedOperation, ValueError) as error:
            raise UserError(f"{self.name}: no pair can be bounded: {error}") from error

        @hypothesis.settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, print_blob=False
        )
        @hypothesis.given(self.samples)
        def test(sample: Any) -> None:
            seen = float(self.quotients(sample).max())
            assert seen <= bound, f"{self.name}: {seen!r} exceeds {bound!r} at {sample!r}"

        return test


def derive(
    field: Field | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    integrator: str = "explicit-euler",
    budget_seconds: float = 20.0,
) -> FieldReport:
    """What follows for a field: `theory.derive` for a SymPy one, from its graph for a module on
    examples of `input_shape`. `integrator` is one of `theory.steps.INTEGRATORS`.

    The budget is that of SymPy, or of each search for a point that refutes; bounds of a graph are
    computed to their end. Raises UserError for an unknown integrator or property, a budget that is
    not positive, and a module whose velocities are not of the shape of its states.
    """
    try:
        known(integrator)
        if isinstance(field, Field):
            return _of_expressions(field, integrator, budget_seconds)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not budget_seconds > 0:
        raise UserError(f"a budget of {budget_seconds} seconds: give more than 0")
    if not input_shape:
        raise UserError(f"{type(field).__name__} is a module: give input_shape, as (6,)")
    return _of_module(field, tuple(input_shape), integrator, budget_seconds)


def _of_expressions(field: Field, integrator: str, seconds: float) -> FieldReport:
    found = theory.derive(field, integrator, seconds)
    findings = {**found.constants, **found.conserved}
    findings |= {f"declared {name}": finding for name, finding in found.declared.items()}

    def quotients(sample: Any) -> Array:
        return fields.one_sided_quotients(fields.images(field, sample, 1, field_pairs.PAIRS))

    return FieldReport(
        field.id,
        found.one_sided,
        found.lipschitz,
        found.steps,
        findings,
        str(found),
        fields.samples(field),
        quotients,
    )


def _of_module(
    module: nn.Module, shape: tuple[int, ...], integrator: str, seconds: float
) -> FieldReport:
    name = type(module).__name__
    declared = getattr(module, "properties", ())
    if not isinstance(declared, tuple | list):
        raise UserError(f"{name}: properties is {declared!r}: declare a tuple of names")
    for wanted in declared:
        if wanted not in MODULE_PROPERTIES:
            raise UserError(
                f"{name}: no property of a module is called {wanted!r}: "
                f"one of {', '.join(MODULE_PROPERTIES)}"
            )
    try:
        graph = capture(module, shape)
    except Uncapturable as error:
        raise UserError(f"{name} cannot be read as a graph: {error}") from error
    if graph[graph.output].shape != graph.input.shape:
        raise UserError(
            f"{name} maps states of shape {graph.input.shape} to velocities of shape "
            f"{graph[graph.output].shape}: a field keeps the shape"
        )
    try:
        exactly = Interpreter(graph).to(torch.float64).eval()
    except ValueError as error:
        raise UserError(f"{name} cannot be evaluated with bounds: {error}") from error
    nu, L = _constants(module, graph, shape)
    findings = {"one-sided constant": _bounded(nu), "Lipschitz constant": _bounded(L)}
    gradient = False
    for wanted in MODULE_PROPERTIES:
        findings[wanted], holds = _property(module, graph, shape, wanted, seconds)
        gradient = gradient or (wanted == "gradient" and holds)
    steps = admissible(integrator, nu, L, gradient=gradient)
    pairs = partial(field_pairs.images, exactly, shape)
    report = FieldReport(
        name,
        nu,
        L,
        steps,
        findings,
        "",
        field_pairs.samples(shape),
        lambda s: fields.one_sided_quotients(pairs(s)),
    )
    for law, bound, measured in (
        ("one_sided", nu, report.quotients),
        ("lipschitz", L, lambda s: field_pairs.stretches(pairs(s))),
    ):
        value = getattr(module, law, None)
        if value is not None:
            number = _finite(name, law, value)
            claim = _claim(report, measured, bound, number)
            findings[f"declared {law} <= {number:g}"] = claim
    for wanted in declared:
        findings[f"declared {wanted}"] = findings[wanted]
    return _worded(report, integrator)


def _finite(name: str, law: str, value: Any) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if math.isfinite(number := float(value)):
            return number
    raise UserError(f"{name}: {law} is {value!r}: declare a finite number")


def _worded(report: FieldReport, integrator: str) -> FieldReport:
    law = f" [{report.steps.theorem}]" if report.steps.theorem else ""
    lines = [f"{report.name}:", *(f"  {n}: {found}" for n, found in report.findings.items())]
    lines.append(f"  steps of {integrator}: {report.steps.text}{law}")
    return FieldReport(**{**vars(report), "text": "\n".join(lines)})


# Bounds from graphs. -------------------------------------------------------------------------


class Stepped(nn.Module):
    """x -> x + h f(x)."""

    def __init__(self, field: nn.Module, h: float):
        super().__init__()
        self.field, self.h = field, h

    def forward(self, x: Tensor) -> Tensor:
        return x + self.h * self.field(x)


class Turned(nn.Module):
    """x -> S f(x) = (f_p, -f_q): a gradient where f = -S grad H or S grad H."""

    def __init__(self, field: nn.Module):
        super().__init__()
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        q, p = self.field(x).chunk(2, dim=-1)
        return torch.cat([p, -q], dim=-1)


def _constants(module: nn.Module, graph: Graph, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(one-sided, Lipschitz): from the slopes of its activations where it has the form for that."""
    L = lipschitz.derive(graph, Spectra()).upper
    nu = math.inf
    with contextlib.suppress(ArithmeticError):
        form = slope_form(graph)
        if not isinstance(form, str):
            nu, L = one_sided(form), min(L, centred(form))
    if math.isinf(nu):
        return min(_exact(L), _by_steps(module, shape, _exact(L))), _exact(L)
    return _exact(min(nu, L)), _exact(L)


def _by_steps(module: nn.Module, shape: tuple[int, ...], L: Any) -> Any:
    """The least bound of a few steps h, powers of two at most about 1/L."""
    if not L.is_finite:
        return oo
    largest = 2.0 ** -max(-8, math.ceil(math.log2(L)) if L > 0 else 0)
    spectra, best = Spectra(), L
    for h in (largest, largest / 4, largest / 64):
        try:
            found = lipschitz.derive(capture(Stepped(module, h), shape), spectra).upper
        except Uncapturable:
            continue
        if math.isfinite(found):
            best = min(best, (_exact(found) - 1) / Rational(h))
    return best


def _exact(value: float) -> Any:
    return Rational(value) if math.isfinite(value) else oo  # SymPy makes 0 of what is not


def _bounded(value: Any) -> Finding:
    if not value.is_finite:
        return Finding("open", "no rule bounds a part of its graph")
    return Finding("proved", f"at most {readable(value, up=True)}")


def _property(
    module: nn.Module, graph: Graph, shape: tuple[int, ...], name: str, seconds: float
) -> tuple[Finding, bool]:
    """The finding on a property, and whether it holds exactly."""
    claimed, seen, of = "gradient-field", graph, "f"
    try:
        if name == "mass":
            claimed, of = "mass-preserving", "x + f"
            seen = capture(Stepped(module, 1.0), shape)
        elif name == "hamiltonian":
            if shape[-1] % 2:
                return Finding("open", f"{shape[-1]} states have no halves (q, p)"), False
            seen, of = capture(Turned(module), shape), "S f"
        claim = Claim(claimed, "", claimed)
        dtype = next((p.dtype for p in module.parameters()), torch.float32)
        found = properties.judge(claim, seen, dtype=dtype, budget_seconds=min(2.0, seconds))
    except (Uncapturable, UserError) as error:
        return Finding("open", str(error)), False
    verdict = "open" if found.outcome == "unknown" else found.outcome
    exactly = found.outcome == "proved" and found.upper == 0
    known = f"up to {at_most(found.upper)}, " if found.outcome == "proved" and found.upper else ""
    return Finding(verdict, f"{known}of {of}: {found.evidence['text']}"), exactly


def _claim(
    report: FieldReport, measured: Callable[[Any], Array], bound: Any, value: float
) -> Finding:
    """The finding on a declared number: a pair that exceeds it refutes it."""
    if bound <= Rational(value):
        return Finding("proved", f"at most {readable(bound, up=True)}")
    try:
        worst = _worst(report, value, EXAMPLES, measured)
    except UnboundedOperation as error:
        return Finding("open", f"no pair can be bounded: {error}")
    if worst is not None:
        seen = float(measured(worst).max())
        return Finding("refuted", f"{seen:.9g} is reached by {worst!r}")
    upper = at_most(float(bound)) if bound.is_finite else "nothing"
    return Finding("open", f"{upper} is proved, and no pair found exceeds what is declared")


# Pairs. --------------------------------------------------------------------------------------


def _worst(
    report: FieldReport,
    value: float,
    examples: int,
    measured: Callable[[Any], Array] | None = None,
) -> Any:
    quotients = measured or report.quotients
    try:
        return find(report.samples, lambda s: float(quotients(s).max()) > value, 0, examples)
    except NothingDrawn as error:
        raise UserError(f"the samples of {report.name} draw nothing from {error}") from error


def _number(bound: Any) -> float:
    """The least double at or above an exact bound, or what is near a float."""
    if bound in (oo, math.inf):
        return math.inf
    near = float(bound)
    return math.nextafter(near, math.inf) if Rational(near) < Rational(bound) else near
