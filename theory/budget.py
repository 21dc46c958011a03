"""The budget of T6 for explicit Euler steps: what contracts pays for what expands.

With p = h a s_min^2 for every contractive step and q = |h| |W| for every expansive one, T7 and T8'
give factors 1 - p <= e^-p and 1 + q <= e^q, in any order and number: sum q <= sum p is enough.
"""

from typing import Any

from sympy import Abs, Ge, Le, Max, diff, exp, limit, log, series, symbols
from sympy.logic.boolalg import And

from theory.algebra import identical, ratio
from theory.facts import a, gradient, h, push_lipschitz, s_max, s_min, slopes
from theory.flows import PIECES, piece, switching_flow
from theory.nonexpansive import contractive_euler, expansive_euler
from theory.theorem import Hypothesis, ProofStep, Theorem

decay, growth, true_decay, true_growth = symbols(
    "decay growth true_decay true_growth", nonnegative=True
)
shortest, longest = symbols("shortest longest", real=True)
p, q = symbols("p q", nonnegative=True)  # of a contractive step, of an expansive one


def _tangent(_: Theorem) -> bool:
    """e^t - 1 - t and its derivative vanish at 0, and its second derivative is positive."""
    t = symbols("t", real=True)
    surplus = exp(t) - 1 - t
    touches = surplus.subs(t, 0) == 0 and diff(surplus, t).subs(t, 0) == 0
    return touches and bool(diff(surplus, t, 2).is_positive)


def _one_factor_decides(_: Theorem) -> bool:
    """With low = a s_min^2 <= high = s_max^2 and h >= 0, 1 - h low exceeds 1 - h high by
    h (high - low) and h high - 1 by 2 - h (high + low)."""
    low, high = a * s_min**2, s_max**2
    ends = contractive_euler.law == Max(Abs(1 - h * low), Abs(1 - h * high))
    above = identical((1 - h * low) - (1 - h * high), h * (high - low))
    return ends and above and identical((1 - h * low) - (h * high - 1), 2 - h * (high + low))


def _exponents(theorem: Theorem) -> bool:
    """e^-p for a contractive step, e^q for an expansive one (T8' is 1 + q): the law of one of each,
    and of any number, with decay = sum p and growth = sum q."""
    expansive = identical(expansive_euler.law.subs(Abs(h) * s_max, q), 1 + q)
    one_each = identical(theorem.law.subs({decay: p, growth: q}), exp(-p) * exp(q))
    more = theorem.law.subs({decay: decay + p, growth: growth + q})
    return expansive and one_each and identical(more, theorem.law * exp(-p) * exp(q))


def _is_t6(theorem: Theorem) -> bool:
    """Flows with nu = -mu for h_c and nu = L for h_e: decay = mu h_c and growth = L h_e."""
    mu, L, h_c, h_e = symbols("mu L h_c h_e", nonnegative=True)
    (rate_0, time_0, _), (rate_1, time_1, _), (_, time_2, _) = (piece(i) for i in range(PIECES))
    values = {rate_0: -mu, time_0: h_c, rate_1: L, time_1: h_e, time_2: 0}
    return identical(switching_flow.law.subs(values), _at(theorem, mu * h_c, L * h_e))


def _at(theorem: Theorem, spent: Any, gained: Any) -> Any:
    return theorem.law.subs({decay: spent, growth: gained})


def _at_most_one(theorem: Theorem) -> bool:
    exponent = growth - decay
    return identical(log(theorem.law), exponent) and theorem.admissible == Le(growth, decay)


def _gap(theorem: Theorem) -> bool:
    """log of the law less log of the product (1 - p)(1 + q): (p^2 + q^2)/2 at leading order."""
    t = symbols("t", nonnegative=True)
    difference = log(_at(theorem, p * t, q * t)) - log(1 - p * t) - log(1 + q * t)
    leading = series(difference, t, 0, 3).removeO()
    return identical(leading, theorem.forms["gap"] * t**2)


def _attained_by_many_small_steps(theorem: Theorem) -> bool:
    """((1 - p u)(1 + q u))^(1/u) for u -> 0 is the law."""
    u = symbols("u", positive=True)
    exponent = limit((log(1 - p * u) + log(1 + q * u)) / u, u, 0, "+")
    return identical(exp(exponent), _at(theorem, p, q))


euler_budget = Theorem(
    id="T6-euler-budget",
    statement=r"h_i \le \tfrac{2}{s_{\max}^2 + a s_{\min}^2}:\quad \mathrm{Lip} \le "
    r"\exp\Big(\sum_j |h_j|\,|W_j| - \sum_i h_i\, a\, s_{\min,i}^2\Big)",
    words="Contractive and expansive Euler steps in any order and number, each with the spectrum "
    "of its own operator: the block is 1-Lipschitz when the sum of what the expansive steps gain "
    "is at most the sum of what the contractive ones take away.",
    source="derived here; T6 for Euler steps",
    status="derived",
    hypotheses=(
        gradient,
        slopes,
        push_lipschitz,
        Hypothesis(
            "decay",
            "decay is at most the sum of h a inf|Ax|^2/|x|^2 over the contractive steps",
            And(Ge(decay, 0, evaluate=False), Le(decay, true_decay)),
        ),
        Hypothesis(
            "growth",
            "growth is at least the sum of |h| |W| over the expansive steps",
            Ge(growth, true_growth),
        ),
        Hypothesis(
            "steps",
            "no contractive step is negative, and h (|A|^2 + a inf|Ax|^2/|x|^2) is at most 2",
            And(Ge(shortest, 0), Le(longest, 2)),
        ),
    ),
    constant=exp(growth - decay),
    admissible=Le(growth, decay),
    forms={"gap": ratio(1, 2) * (p**2 + q**2)},
    proof=(
        ProofStep("1 + t <= e^t for every real t: tangent of a convex function", _tangent),
        ProofStep(
            "up to h (s_max^2 + a s_min^2) = 2, T7's factor is 1 - h a s_min^2",
            _one_factor_decides,
        ),
        ProofStep("each step contributes its exponent, and the exponents add", _exponents),
        ProofStep("the law is that of T6 for flows of the same length", _is_t6),
        ProofStep("the law is at most 1 exactly for growth <= decay", _at_most_one),
        ProofStep(
            "a pair of steps with p and q is below the law by a factor e^-((p^2 + q^2)/2) at "
            "leading order",
            _gap,
        ),
        ProofStep("many small steps attain it in the limit", _attained_by_many_small_steps),
    ),
    sharp="in the limit of many small steps on W = w I and a singular vector, slopes a and 1",
)
