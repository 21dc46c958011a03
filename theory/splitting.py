"""Split flows [T2]: Lie-Trotter and Strang, with their constants.

For vector fields f and g write [f, g] = Df g - Dg f. A map that is pushed along the flow of g for
the time s sees f change at the rate [f, g]; that is all the error of a splitting, and its bound is
an integral of that rate.
"""

from collections.abc import Sequence
from typing import Any

from sympy import Function, Ge, Matrix, diff, exp, integrate, powsimp, symbols
from sympy.logic.boolalg import And

from theory.algebra import identical, matrix, positive_terms, ratio
from theory.approximation import telescoping, within_tube
from theory.theorem import Hypothesis, ProofStep, Theorem

T, nu, kappa, kappa_f, kappa_g = symbols("T nu kappa kappa_f kappa_g", nonnegative=True)
N = symbols("N", integer=True, positive=True)
growth, growth_f, growth_g = symbols("growth growth_f growth_g", real=True)
bracket, bracket_f, bracket_g = symbols("bracket bracket_f bracket_g", nonnegative=True)


# Splittings, by Lie series: exp(h L_f) exp(h L_g) x is Phi_g(Phi_f(x)). -----------------------


def _lie(f: Any, what: Any, x: Any) -> Any:
    """The derivative of `what` along f."""
    return what.jacobian(x) * f


def lie_bracket(f: Any, g: Any, x: Any) -> Any:
    """[f, g] = Df g - Dg f, for columns f, g of expressions in the column x."""
    return _lie(g, f, x) - _lie(f, g, x)


def _generic_pair() -> tuple[Any, Any, Any]:
    """Arbitrary fields f and g in two variables."""
    x = Matrix(symbols("x_1 x_2", real=True))
    f, g = (Matrix([Function(f"{name}_{i}")(*x) for i in (1, 2)]) for name in "fg")
    return x, f, g


def _taylor(flows: Sequence[tuple[Any, Any]], x: Any, order: int) -> list[Any]:
    """Coefficients of h^0 ... h^order of the composition of the flows of `flows`, the first of
    them first: pairs (field, share of the step)."""
    series = [x] + [x * 0] * order
    for f, share in reversed(flows):  # the flow that comes first acts last on the series
        updated = []
        for k in range(order + 1):
            total = x * 0
            for j in range(k + 1):  # share^j h^j L_f^j / j! of the coefficient k - j
                term = series[k - j]
                for i in range(j):
                    term = _lie(f, term, x) * share / (i + 1)
                total += term
            updated.append(total)
        series = updated
    return series


def _zero(column: Any) -> bool:
    return all(entry.expand() == 0 for entry in column)


def _push_forward(_: Theorem) -> bool:
    """(phi_s)_* f (y) = Dphi_s(z) f(z), z = phi_{-s}(y), phi the flow of g: its derivative at s = 0
    is Dg f - Df g = -[f, g], seen from first-order Taylor polynomials in s of arbitrary f, g."""
    x, f, g = _generic_pair()
    s = symbols("s", real=True)
    flow = x + s * g
    moved = flow.jacobian(x) * f  # Dphi_s(z) f(z) at z; then z = y - s g to first order
    derivative = diff(moved, s).subs(s, 0) - _lie(g, moved.subs(s, 0), x)
    return _zero(derivative + lie_bracket(f, g, x))


def _lie_defect(theorem: Theorem) -> bool:
    """The Taylor coefficients of order 1 agree, those of order 2 differ by [f, g] / 2, for
    arbitrary fields; the law at N = 1 has the same leading term, kappa T^2 / 2."""
    x, f, g = _generic_pair()
    split = _taylor([(f, 1), (g, 1)], x, 2)
    exact = _taylor([(f + g, 1)], x, 2)
    leading = theorem.law.subs(N, 1).series(T, 0, 3).removeO()
    return (
        _zero(split[1] - exact[1])
        and _zero(exact[2] - split[2] - lie_bracket(f, g, x) / 2)
        and identical(leading, kappa * T**2 / 2)
    )


def _lie_integral(theorem: Theorem) -> bool:
    """The split flow solves y' = (f + g)(y) + r with |r| <= s kappa e^(nu s); two solutions part
    by at most the integral of e^(nu (h - s)) |r|, which is the law for one step."""
    s, h = symbols("s h", nonnegative=True)
    defect = kappa * s * exp(nu * s)
    local = integrate(exp(nu * h - nu * s) * defect, (s, 0, h))
    return identical(local, theorem.law.subs({N: 1, T: h}, simultaneous=True))


def _n_steps(theorem: Theorem) -> bool:
    """N local errors, each carried on by at most N - 1 steps with the factor e^(nu h), h = T/N:
    every product in the telescoping bound is at most e^(nu h (N-1)), as nu >= 0."""
    h = T / N
    local = theorem.law.subs({N: 1, T: h}, simultaneous=True)
    whole = N * local * exp(nu * h * (N - 1))
    q, e = symbols("q e", nonnegative=True)
    carried = all(  # with e^(nu h) = 1 + q, q >= 0
        positive_terms(n * e * (1 + q) ** (n - 1) - telescoping([e] * n, [1 + q] * n), q, e)
        for n in (1, 2, 3, 4, 5)
    )
    return carried and identical(whole, theorem.law)


def _one_sided_growth(_: Theorem) -> bool:
    """d|v|^2/ds = 2 <v, Dg v> = <v, (Dg + Dg') v>: only the symmetric part makes v grow [T5]."""
    M, v = matrix("M", 3, 3), matrix("v", 3, 1)
    return identical(2 * (v.T * M * v)[0], (v.T * (M + M.T) * v)[0])


def _lie_on_a_shear(theorem: Theorem) -> bool:
    """f = (c y, 0), g = (0, 1): [f, g] = (c, 0), and N split steps miss by c T^2 / (2N) exactly,
    the law without its exponential."""
    c, x, y = symbols("c x y", positive=True)
    f, g, state = Matrix([c * y, 0]), Matrix([0, 1]), Matrix([x, y])
    exact = x + c * (y * T + T**2 / 2)
    for n in (1, 2, 3):
        first, second = x, y
        for _ in range(n):
            first, second = first + c * second * T / n, second + T / n
        missed = theorem.law.subs({N: n, kappa: c, nu: 0}, simultaneous=True)
        if not identical(exact - first, missed):
            return False
    return lie_bracket(f, g, state) == Matrix([c, 0])


def _strang_defect(theorem: Theorem) -> bool:
    """g for h/2, f for h, g for h/2: orders 1 and 2 agree; order 3 differs by
    [g, C] / 24 + [f, C] / 12 with C = [f, g], up to signs, for arbitrary fields."""
    x, f, g = _generic_pair()
    split = _taylor([(g, ratio(1, 2)), (f, 1), (g, ratio(1, 2))], x, 3)
    exact = _taylor([(f + g, 1)], x, 3)
    C = lie_bracket(f, g, x)
    third = lie_bracket(C, g, x) / 24 + lie_bracket(C, f, x) / 12
    leading = theorem.law.subs(N, 1).series(T, 0, 4).removeO()
    return (
        _zero(split[1] - exact[1])
        and _zero(split[2] - exact[2])
        and _zero(exact[3] - split[3] - third)
        and identical(leading, T**3 * (kappa_g / 24 + kappa_f / 12))
    )


def _strang_integral(theorem: Theorem) -> bool:
    """The defect is int_0^(s/2) (s/2 - r) kappa_g dr + (1/2) int_0^s r kappa_f dr, times
    e^(nu s): s^2 (kappa_g / 8 + kappa_f / 4); its integral is the law for one step."""
    r, s, h = symbols("r s h", nonnegative=True)
    bound = integrate((s / 2 - r) * kappa_g, (r, 0, s / 2)) + integrate(r * kappa_f, (r, 0, s)) / 2
    carried = powsimp(exp(nu * (h - s)) * exp(nu * s))
    local = integrate((carried * bound).expand(), (s, 0, h))
    return identical(bound, s**2 * (kappa_g / 8 + kappa_f / 4)) and identical(
        local, theorem.law.subs({N: 1, T: h}, simultaneous=True)
    )


def _strang_on_shears(theorem: Theorem) -> bool:
    """(c y^2 / 2, 0) against (0, 1): c T^3 / 24 when it is in the middle, c T^3 / 12 outside,
    which is the law without its exponential."""
    c, x, y = symbols("c x y", positive=True)
    exact = x + c * ((y + T) ** 3 - y**3) / 6
    middle = x + c * T * (y + T / 2) ** 2 / 2
    outside = x + c * T / 2 * (y**2 + (y + T) ** 2) / 2
    flat = theorem.law.subs({N: 1, nu: 0})
    return identical(exact - middle, flat.subs({kappa_g: c, kappa_f: 0})) and identical(
        outside - exact, flat.subs({kappa_g: 0, kappa_f: c})
    )


# The theorems. -----------------------------------------------------------------------------

_lie_brackets = Hypothesis(
    "bracket", "kappa is at least sup |Df g - Dg f| on the tube", Ge(kappa, bracket)
)

lie_trotter = Theorem(
    id="T2-lie-trotter",
    statement=r"\big|\Phi^T_{f+g} - (\Phi^{T/N}_g\circ\Phi^{T/N}_f)^N\big| \le "
    r"\frac{\kappa T^2}{2N}\,e^{\nu T},\quad \kappa = \sup|Df\,g - Dg\,f|",
    words="Splitting a flow into two, N times one after the other, is of order 1 in 1/N, with the "
    "bracket of the fields as its constant.",
    source="the order: textbooks; the constant derived here",
    status="derived",
    hypotheses=(
        _lie_brackets,
        Hypothesis(
            "growth",
            "nu is at least the one-sided Lipschitz constant of f + g and of g, and 0",
            And(Ge(nu, 0, evaluate=False), Ge(nu, growth), Ge(nu, growth_g)),
        ),
        within_tube,
    ),
    constant=kappa * T**2 / (2 * N) * exp(nu * T),
    measures="distance of the split flow from the exact one",
    proof=(
        ProofStep("pushed along g, f changes at the rate [f, g]", _push_forward),
        ProofStep("tangent vectors grow by the symmetric part only", _one_sided_growth),
        ProofStep("the integral of s kappa e^(nu s) e^(nu (h-s)) is the law", _lie_integral),
        ProofStep("N steps telescope to T^2 / (2N)", _n_steps),
        ProofStep(
            "the Taylor coefficients agree up to order 1 and differ by [f, g]/2 at order 2, for "
            "arbitrary fields in the plane",
            _lie_defect,
        ),
        ProofStep("a shear and a translation attain it but for e^(nu T)", _lie_on_a_shear),
    ),
    sharp="a weak shear and a translation, where nu T is small",
)

strang = Theorem(
    id="T2-strang",
    statement=r"\big|\Phi^T_{f+g} - (\Phi^{T/2N}_g\circ\Phi^{T/N}_f\circ\Phi^{T/2N}_g)^N\big| \le "
    r"\Big(\frac{\kappa_g}{24}+\frac{\kappa_f}{12}\Big)\frac{T^3}{N^2}\,e^{\nu T},\quad "
    r"\kappa_{f,g} = \sup|[\cdot,[f,g]]|",
    words="The symmetric splitting is of order 2, with the double brackets as its constants.",
    source="the constants for matrices: Childs et al., PRX 11 (2021); for flows derived here",
    status="derived",
    hypotheses=(
        Hypothesis(
            "bracket",
            "kappa_f and kappa_g are at least sup |[f, C]| and sup |[g, C]| on the tube, with "
            "C = [f, g]",
            And(Ge(kappa_f, bracket_f), Ge(kappa_g, bracket_g)),
        ),
        Hypothesis(
            "growth",
            "nu is at least the one-sided Lipschitz constant of f + g, and the positive parts of "
            "those of f and half of g together, and 0",
            And(
                Ge(nu, 0, evaluate=False),
                Ge(nu, growth),
                Ge(nu, growth_f),
                Ge(nu, growth_g / 2),
                Ge(nu, growth_f + growth_g / 2),
            ),
        ),
        within_tube,
    ),
    constant=(kappa_g / 24 + kappa_f / 12) * T**3 / N**2 * exp(nu * T),
    measures="distance of the split flow from the exact one",
    proof=(
        ProofStep("pushed along g, f changes at the rate [f, g]", _push_forward),
        ProofStep("tangent vectors grow by the symmetric part only", _one_sided_growth),
        ProofStep("the two remainders integrate to 1/24 and 1/12", _strang_integral),
        ProofStep("N steps telescope to T^3 / N^2", _n_steps),
        ProofStep(
            "the Taylor coefficients agree up to order 2 and differ by [C, g]/24 + [C, f]/12 at "
            "order 3, for arbitrary fields in the plane",
            _strang_defect,
        ),
        ProofStep("quadratic shears and a translation attain both constants", _strang_on_shears),
    ),
    sharp="a weak quadratic shear and a translation, where nu T is small",
)
