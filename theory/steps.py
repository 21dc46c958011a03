"""The steps of an integrator that do not expand, from what is known of the field: by theorem."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, cast

from sympy import Le, Rational, oo, solve, sympify
from sympy.logic.boolalg import Boolean

from theory.facts import h
from theory.runge_kutta import (
    EULER,
    GAUSS,
    HEUN,
    MIDPOINT,
    RK4,
    Tableau,
    b_stable,
    circle_contractive,
    circle_radius,
    lipschitz_euler,
)

INTEGRATORS: Mapping[str, Tableau] = {
    "explicit-euler": EULER,
    "heun": HEUN,
    "rk4": RK4,
    "implicit-midpoint": MIDPOINT,
    "gauss": GAUSS,
}


@dataclass(frozen=True)
class Steps:
    """Steps h with 0 <= h <= `largest` are non-expansive (oo: all of them), by the law `theorem`;
    without one (`theorem` = "") only h = 0 is known to be, for the reason in `text`."""

    largest: Any
    theorem: str
    text: str


def readable(value: Any, *, up: bool) -> str:
    """A fraction with a short denominator as it is, else six digits rounded up, or down."""
    if not value.is_finite:
        return "unknown"
    if value.q <= 1000:
        return str(value)
    rounded = Context(prec=6, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return str(rounded.divide(Decimal(int(value.p)), Decimal(int(value.q))))


def known(integrator: str) -> Tableau:
    """The method of this name. Raises ValueError that lists the names."""
    if integrator not in INTEGRATORS:
        raise ValueError(f"no integrator is called {integrator!r}: one of {', '.join(INTEGRATORS)}")
    return INTEGRATORS[integrator]


def admissible(integrator: str, one_sided: Any, lipschitz: Any, *, gradient: bool) -> Steps:
    """The steps for a field with <X(x) - X(y), x - y> <= one_sided |x - y|^2 and constant
    `lipschitz`, exact upper bounds (oo where none is known); `gradient`: its Jacobian is symmetric.

    A gradient with nu <= 0 is co-coercive with 1/L: its mean Jacobian M has -L <= M <= 0, so that
    <Md, d> <= -|Md|^2 / L. Raises ValueError for an unknown integrator.
    """
    method = known(integrator)
    one_sided, lipschitz = sympify(one_sided), sympify(lipschitz)
    radius = circle_radius(*method)
    if one_sided > 0:
        return Steps(Rational(0), "", f"the field may expand: nu {_known_to(one_sided)}")
    if radius is None:  # b > 0 and m >= 0, as the theorem asks
        return Steps(oo, b_stable.id, "all h >= 0: the one-sided constant is at most 0")
    if lipschitz == 0:
        return Steps(oo, circle_contractive.id, "all h >= 0: the field is constant")
    found = []
    if lipschitz.is_finite and lipschitz > 0:
        if gradient:
            values = {"nu": 1 / lipschitz, "r": radius}
            limit = _end(circle_contractive.hypotheses[2].relation, values)
            found.append(
                Steps(limit, circle_contractive.id, f"0 <= h <= 2/L = {readable(limit, up=False)}")
            )
        if integrator == "explicit-euler" and one_sided < 0:
            assert lipschitz_euler.admissible is not None
            limit = _end(lipschitz_euler.admissible, {"mu": -one_sided, "L": lipschitz})
            found.append(
                Steps(
                    limit, lipschitz_euler.id, f"0 <= h <= -2 nu/L^2 = {readable(limit, up=False)}"
                )
            )
    if found:
        return max(found, key=lambda steps: steps.largest)
    return Steps(Rational(0), "", _missing(integrator, one_sided, lipschitz))


def _missing(integrator: str, one_sided: Any, lipschitz: Any) -> str:
    if not lipschitz.is_finite:
        return "no Lipschitz constant is known"
    if integrator == "explicit-euler":
        return "explicit Euler needs a field that contracts (nu < 0) or a gradient"
    return f"no law for {integrator} on a field that is no gradient"


def _known_to(one_sided: Any) -> str:
    return f"<= {readable(one_sided, up=True)}" if one_sided.is_finite else "is not known"


def _end(relation: Boolean, values: Mapping[Any, Any]) -> Any:
    """The largest h that meets a relation 0 <= h, left <= right."""
    by_name = {str(symbol): value for symbol, value in values.items()}
    (upper,) = (
        part for part in relation.args if isinstance(part, Le) and part.rhs.free_symbols - {h}
    )
    left, right = cast(Any, upper).args
    (end,) = solve(left - right, h)
    return end.subs({s: by_name[str(s)] for s in end.free_symbols})
