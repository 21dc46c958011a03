"""Errors planted in the laws of all registered theorems: `SMALLER` and `LARGER`, by theorem."""

from collections.abc import Callable
from typing import Any

from sympy import Abs, Max, Min, Rational, sqrt

from theory.approximation import errors, factors, telescoping
from theory.budget import decay, growth
from theory.curvature import curvature as bend
from theory.curvature import slope
from theory.facts import S, a, h, h_1, h_2, s_max, s_min, w_max
from theory.flows import nu, time
from theory.invariants import rate
from theory.margin import lipschitz, margin
from theory.network import std_min
from theory.presnov_layers import curvature, delta, shift
from theory.runge_kutta import L, mu
from theory.splitting import N, kappa_f, kappa_g
from theory.splitting import nu as growth_bound


def _max_to_min(law: Any) -> Any:
    return law.replace(Max, Min)


def _substitute(**changes: Any) -> Callable[[Any], Any]:
    def mutate(law: Any) -> Any:
        by_name = {str(symbol): symbol for symbol in law.free_symbols}
        values = {by_name[name]: value for name, value in changes.items()}
        return law.subs(values, simultaneous=True)

    return mutate


def _growth_left_out(law: Any) -> Any:
    return law.subs(growth_bound, 0)


def _without_a_piece(law: Any) -> Any:
    return law.subs({symbol: 0 for symbol in law.free_symbols if str(symbol) == "time_1"})


SMALLER = {  # each makes the law too small somewhere: fields must be found that exceed it
    "T2-approximation": {
        "half": lambda law: law / 2,
        "factors left out": lambda law: law.subs(dict.fromkeys(factors, 1)),
        "the factors of earlier pieces": lambda law: telescoping(errors[::-1], factors[::-1]),
        "largest error only": lambda law: Max(*errors),
    },
    "T2-lie-trotter": {
        "half": lambda law: law / 2,
        "order 2": lambda law: law / N,
        "growth left out": _growth_left_out,
    },
    "T2-strang": {
        "half": lambda law: law / 2,
        "order 3": lambda law: law / N,
        "constants exchanged": lambda law: law.subs(
            {kappa_f: kappa_g, kappa_g: kappa_f}, simultaneous=True
        ),
        "growth left out": _growth_left_out,
    },
    "T2-obstruction": {"too strong": lambda law: law * 6 / 5},
    "T2'-presnov-networks": {
        "half": lambda law: law / 2,
        "square of delta": lambda law: law * delta,
    },
    "R1-difference-of-convex": {  # a lower bound: too strong
        "curvature left out": lambda law: shift,
        "half the curvature": lambda law: shift - curvature / 2,
    },
    "T4-margin-certificate": {
        "without sqrt 2": lambda law: margin / lipschitz,
        "squared constant": _substitute(L=sqrt(lipschitz)),
    },
    "R2-gradient-radius": {
        "curvature left out": _substitute(curvature=0 * bend),
        "half the curvature": _substitute(curvature=bend / 2),
        "half the slope": _substitute(slope=slope / 2),
    },
    "T7-contractive-euler": {
        "sign": _substitute(h=-h),
        "factor 2": _substitute(h=2 * h),
        "half": _substitute(h=h / 2),
        "max to min": _max_to_min,
        "norm for its square": _substitute(s_max=sqrt(s_max), s_min=sqrt(s_min)),
        "square of the square": _substitute(s_max=s_max**2, s_min=s_min**2),
        "strongest slope only": lambda law: Abs(1 - h * s_max**2),
        "weakest slope only": lambda law: Abs(1 - h * a * s_min**2),
        "no slope": _substitute(a=a / a),
    },
    "T8-nonexpansive-euler": {
        "sign": _substitute(h=-h),
        "half": _substitute(h=h / 2),
        "max to min": _max_to_min,
        "norm for its square": _substitute(s_max=sqrt(s_max)),
        "always 1": lambda law: law * 0 + 1,
    },
    "T8'-expansive-euler": {
        "sign": lambda law: 1 - Abs(h) * s_max,
        "half": _substitute(h=h / 2),
        "signed": lambda law: 1 + h * s_max,
        "root of the norm": _substitute(s_max=sqrt(s_max)),
    },
    "T8'-expansive-gradient-euler": {
        "sign": _substitute(h=-h),
        "half": _substitute(h=h / 2),
        "norm for its square": lambda law: 1 + h * s_max,
    },
    "T9-switching": {
        "contraction sign": _substitute(h_1=-h_1),
        "expansion sign": lambda law: law.subs(Abs(h_2), -Abs(h_2)),
        "contraction twice": _substitute(h_1=2 * h_1),
        "expansion half": _substitute(h_2=h_2 / 2),
        "max to min": _max_to_min,
        "one substep too many": lambda law: law ** ((S + 1) / S),
        "push norm left out": lambda law: law.subs(w_max, w_max / w_max),
        "contraction squared": _substitute(s_min=s_min**2, s_max=s_max**2),
    },
    "T10-flexible-switching": {
        "expansion sign": _substitute(h_2=-h_2),
        "expansion half": _substitute(h_2=h_2 / 2),
        "max to min": _max_to_min,
        "full steps": _substitute(h_1=2 * h_1),
        "norm for its square": _substitute(w_max=sqrt(w_max)),
        "three contractive steps": lambda law: (
            law * Max(Abs(1 - h_1 / 2 * a * s_min**2), Abs(1 - h_1 / 2 * s_max**2))
        ),
    },
    "T10-tied": {
        "expansion sign": _substitute(h_2=-h_2),
        "max to min": _max_to_min,
        "full steps": _substitute(h_1=2 * h_1),
        "first branch only": lambda law: (1 - h_1 / 2) ** 2 * Abs(1 + h_2),
        "second branch only": lambda law: (1 - a * h_1 / 2) ** 2,
    },
    "T5-flow": {
        "sign": _substitute(nu=-nu),
        "half": _substitute(time=time / 2),
        "always 1": lambda law: law * 0 + 1,
    },
    "T6-switching-flow": {
        "a piece left out": _without_a_piece,
        "square root": sqrt,
        "inverse": lambda law: 1 / law,
    },
    "T6-euler-budget": {
        "decay twice": _substitute(decay=2 * decay),
        "growth half": _substitute(growth=growth / 2),
        "growth left out": _substitute(growth=0 * growth),
        "sign": lambda law: 1 / law,
    },
    "T8-circle-contractive": {"below 1": lambda law: law * 3 / 4},
    "T8-b-stable": {"below 1": lambda law: law * 3 / 4},
    "T8-lipschitz-euler": {
        "sign": _substitute(h=-h),
        "rate twice": _substitute(mu=2 * mu),
        "half": _substitute(h=h / 2),
        "square left out": lambda law: law.subs(L**2, L),
    },
    "T9-zero-padding": {
        "the paper's assumption": _substitute(s_min=s_max),
        "expansion half": _substitute(h_2=h_2 / 2),
        "contraction twice": _substitute(h_1=2 * h_1),
        "max to min": _max_to_min,
    },
    "T13-no-vanishing-gradient": {"above 1": lambda law: law * 5 / 4},
    "T15-euler-growth": {
        "sign": lambda law: sqrt(2 - law**2),
        "half": _substitute(rate=rate / 2),
        "always 1": lambda law: law * 0 + 1,
    },
    "D8-naive": {
        "one norm left out": _substitute(w_max=w_max / w_max),
        "without the identity": lambda law: law - Rational(1, 2),
        "half": _substitute(s_max=s_max / 2),
    },
    "T11-network": {
        "normalisation left out": lambda law: law * std_min,
        "lifting scale left out": lambda law: law.subs(
            {s: 1 for s in law.free_symbols if str(s).startswith("scale")}
        ),
        "inverse of the head": lambda law: law / 9,
    },
}
LARGER = {  # each makes the law too large: it is no longer attained, and its proof fails
    "T2-approximation": lambda law: law * 2,
    "T2-lie-trotter": lambda law: law * 2,
    "T2-strang": lambda law: law * 2,
    "T2-obstruction": lambda law: law / 2,
    "T2'-presnov-networks": lambda law: law * 2,
    "R1-difference-of-convex": lambda law: law / 2,
    "T4-margin-certificate": lambda law: law / 2,
    "R2-gradient-radius": lambda law: law / 2,
    "T7-contractive-euler": lambda law: Abs(1 - h * a * s_min**2) + Abs(1 - h * s_max**2),
    "T8-nonexpansive-euler": lambda law: law * 2,
    "T8'-expansive-euler": lambda law: law.subs(s_max, 2 * s_max),
    "T8'-expansive-gradient-euler": lambda law: law.subs(h, 2 * h),
    "T9-switching": lambda law: law * 2,
    "T10-flexible-switching": lambda law: law * 2,
    "T10-tied": lambda law: law * 2,
    "T11-network": lambda law: law * 2,
    "T5-flow": lambda law: law * 2,
    "T6-switching-flow": lambda law: law * 2,
    "T6-euler-budget": lambda law: law * 2,
    "T8-circle-contractive": lambda law: law * 2,
    "T8-b-stable": lambda law: law * 2,
    "T8-lipschitz-euler": lambda law: law * 2,
    "T9-zero-padding": lambda law: law * 2,
    "T13-no-vanishing-gradient": lambda law: law / 2,
    "T15-euler-growth": lambda law: law * 2,
    "D8-naive": lambda law: law * 2,
}
