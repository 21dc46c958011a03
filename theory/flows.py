"""Exact flows, one [T5] and several in a row [T6].

A field with one-sided Lipschitz constant nu, <X(x) - X(y), x - y> <= nu |x - y|^2, moves two points
apart by at most e^(nu t). Along a chain of flows the exponents add.
"""

from typing import Any

from sympy import Function, Ge, Le, Matrix, Mul, diff, exp, log, symbols
from sympy.logic.boolalg import And

from theory.algebra import identical
from theory.facts import S, a, h_1
from theory.switching import sharp_boundary
from theory.theorem import Hypothesis, ProofStep, Theorem

nu, time, one_sided = symbols("nu time one_sided", real=True)
slack = symbols("slack", nonnegative=True)
PIECES = 3

# T5: one flow. ------------------------------------------------------------------------------


def _square_of_the_distance(_: Theorem) -> bool:
    """d/dt |d|^2 = 2 <d, d'>, in the plane."""
    t = symbols("t", real=True)
    d = Matrix([Function("d_0")(t), Function("d_1")(t)])
    return identical(diff((d.T * d)[0], t), 2 * (d.T * d.diff(t))[0])


def _gronwall(_: Theorem) -> bool:
    """q' = 2 nu q - slack makes e^(-2 nu t) q fall: its derivative is -slack e^(-2 nu t)."""
    t = symbols("t", real=True)
    q: Any = Function("q")(t)
    derivative = diff(exp(-2 * nu * t) * q, t).subs(diff(q, t), 2 * nu * q - slack)
    return identical(derivative, -slack * exp(-2 * nu * t))


def _rate_is_nu(theorem: Theorem) -> bool:
    """The law starts at 1 and grows at the rate nu, as the distances of x' = nu x do."""
    return theorem.law.subs(time, 0) == 1 and identical(diff(theorem.law, time), nu * theorem.law)


def _admissible_times(theorem: Theorem) -> bool:
    """The logarithm of the law, which is at most 0 exactly where the law is at most 1."""
    return theorem.admissible == Le(log(theorem.law), 0)


flow = Theorem(
    id="T5-flow",
    statement=r"\langle X(x)-X(y),\, x-y\rangle \le \nu\,|x-y|^2:\quad "
    r"|\Phi^t_X(x)-\Phi^t_X(y)| \le e^{\nu t}\,|x-y|,\quad t \ge 0",
    words="The exact flow of a field moves two points apart by at most e^(nu t), where nu is its "
    "one-sided Lipschitz constant; a negative nu is a contraction.",
    source="Murari, lecture notes (52); known from Dahlquist 1958",
    status="published",
    hypotheses=(
        Hypothesis(
            "one-sided",
            "nu is at least the one-sided Lipschitz constant of the field",
            Ge(nu, one_sided),
        ),
        Hypothesis("time", "the flow runs forwards", Ge(time, 0)),
    ),
    constant=exp(nu * time),
    admissible=Le(nu * time, 0),
    measures="Lipschitz constant of the flow",
    proof=(
        ProofStep("d/dt |d|^2 = 2 <d, X(x) - X(y)> for d = x - y", _square_of_the_distance),
        ProofStep(
            "so d/dt |d|^2 <= 2 nu |d|^2, and e^(-2 nu t) |d|^2 does not grow (Groenwall)",
            _gronwall,
        ),
        ProofStep("the law is the growth of x' = nu x, which attains it", _rate_is_nu),
        ProofStep("it is at most 1 exactly on the admissible set", _admissible_times),
    ),
    sharp="x' = nu x, from any pair of points",
)

# T6: flows one after the other. -------------------------------------------------------------


def piece(index: int):
    """(nu, time, true one-sided constant) of a piece."""
    return symbols(f"nu_{index} time_{index} one_sided_{index}", real=True)


_pieces = [piece(i) for i in range(PIECES)]
exponent = sum(rate * length for rate, length, _ in _pieces)


def _constants_multiply(theorem: Theorem) -> bool:
    """T5 at each piece, multiplied."""
    factors = [flow.law.subs({nu: rate, time: length}) for rate, length, _ in _pieces]
    return identical(theorem.law, Mul(*factors))


def _exponent_decides(theorem: Theorem) -> bool:
    """The logarithm of the law is the exponent, so the law is at most 1 iff that is at most 0."""
    return identical(log(theorem.law), exponent) and theorem.admissible == Le(exponent, 0)


def _two_kinds(theorem: Theorem) -> bool:
    """nu = -mu while contracting for h_c, L while expanding for h_e: L h_e <= mu h_c."""
    mu, L, h_c, h_e = symbols("mu L h_c h_e", nonnegative=True)
    (rate_0, time_0, _), (rate_1, time_1, _), (_, time_2, _) = _pieces
    values = {rate_0: -mu, time_0: h_c, rate_1: L, time_1: h_e, time_2: 0}
    return identical(log(theorem.law.subs(values)), L * h_e - mu * h_c)


def _is_the_limit_of_switching(_: Theorem) -> bool:
    """T9's sharp boundary for S to infinity is h_2 = a h_1, the budget of orthogonal matrices."""
    u = symbols("u", positive=True)
    in_u = (sharp_boundary.subs(S, 1 / u)).cancel()
    return identical(in_u.subs(u, 0), a * h_1)


switching_flow = Theorem(
    id="T6-switching-flow",
    statement=r"\mathrm{Lip}\big(\Phi^{t_k}_{X_k} \circ \dots \circ \Phi^{t_1}_{X_1}\big) \le "
    r"\exp\Big(\sum_i \nu_i t_i\Big)",
    words="Flows one after the other: the exponents add, so the whole is 1-Lipschitz when the "
    "contracting pieces pay for the expanding ones.",
    source="derived here from T5; the paper's motivation for switching, recalled",
    status="recalled",
    hypotheses=(
        Hypothesis(
            "one-sided",
            "each nu is at least the one-sided Lipschitz constant of its field",
            And(*(Ge(rate, true) for rate, _, true in _pieces)),
        ),
        Hypothesis(
            "time", "every flow runs forwards", And(*(Ge(length, 0) for _, length, _ in _pieces))
        ),
    ),
    constant=exp(exponent),
    admissible=Le(exponent, 0),
    measures="Lipschitz constant of the composed flows",
    proof=(
        ProofStep("constants multiply along a composition, exponents add", _constants_multiply),
        ProofStep("the law is at most 1 exactly for sum nu_i t_i <= 0", _exponent_decides),
        ProofStep("with two kinds of pieces: L h_e <= mu h_c", _two_kinds),
        ProofStep(
            "for orthogonal matrices, h_2 <= a h_1, it is the limit of T9's sharp boundary",
            _is_the_limit_of_switching,
        ),
    ),
    sharp="scalar fields x' = nu_i x",
)
