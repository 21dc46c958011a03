"""Compositions of approximate maps and split flows [T2], and what no composition reaches.

For vector fields f and g write [f, g] = Df g - Dg f. A map that is pushed along the flow of g for
the time s sees f change at the rate [f, g]; that is all the error of a splitting, and its bound is
an integral of that rate.
"""

from collections.abc import Sequence
from typing import Any

from sympy import (
    Function,
    Ge,
    Gt,
    Le,
    Matrix,
    diff,
    exp,
    integrate,
    powsimp,
    symbols,
)
from sympy.logic.boolalg import And

from theory.algebra import equal, identical, matrix, positive_terms, ratio
from theory.theorem import Hypothesis, ProofStep, Theorem

PIECES = 4

errors = symbols(f"e_1:{PIECES + 1}", nonnegative=True)
factors = symbols(f"L_1:{PIECES + 1}", nonnegative=True)
true_errors = symbols(f"true_e_1:{PIECES + 1}", nonnegative=True)
true_factors = symbols(f"true_L_1:{PIECES + 1}", nonnegative=True)
reach, tube = symbols("reach tube", nonnegative=True)

T, nu, kappa, kappa_f, kappa_g = symbols("T nu kappa kappa_f kappa_g", nonnegative=True)
N = symbols("N", integer=True, positive=True)
growth, growth_f, growth_g = symbols("growth growth_f growth_g", real=True)
bracket, bracket_f, bracket_g = symbols("bracket bracket_f bracket_g", nonnegative=True)

least_slope = symbols("least_slope", real=True)
state_dimension = symbols("state_dimension", integer=True, positive=True)


def telescoping(errors: Sequence[Any], factors: Sequence[Any]) -> Any:
    """sum_i (prod_{j>i} L_j) e_i, by d <- e_i + L_i d: the error after the last piece."""
    total: Any = 0
    for error, factor in zip(errors, factors, strict=True):
        total = error + factor * total
    return total


# Telescoping. ------------------------------------------------------------------------------


def _is_the_sum(theorem: Theorem) -> bool:
    total: Any = 0
    for i in range(PIECES):
        product: Any = errors[i]
        for j in range(i + 1, PIECES):
            product *= factors[j]
        total += product
    return identical(theorem.law, total)


def _one_piece_more(theorem: Theorem) -> bool:
    """|Phi(z) - Psi(z')| <= |Phi(z) - Psi(z)| + L |z - z'|: the law is e + L times itself with one
    piece less, and grows when an error or a factor does."""
    shorter = telescoping(errors[:-1], factors[:-1])
    longer = errors[-1] + factors[-1] * shorter
    grown = symbols(f"g_1:{2 * PIECES + 1}", nonnegative=True)
    every = [*errors, *factors]
    more = theorem.law.subs(
        {s: s + g for s, g in zip(every, grown, strict=True)}, simultaneous=True
    )
    return identical(theorem.law, longer) and positive_terms(more - theorem.law, *every, *grown)


def _attained_by_scalings(theorem: Theorem) -> bool:
    """Psi_i(x) = L_i x against Phi_i(x) = L_i x + e_i on the line."""
    x = symbols("x", real=True)
    exact = approximate = x
    for error, factor in zip(errors, factors, strict=True):
        exact, approximate = factor * exact + error, factor * approximate
    return identical(exact - approximate, theorem.law)


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


# The obstruction. --------------------------------------------------------------------------


def _monotone_misses_the_square(theorem: Theorem) -> bool:
    """An injective continuous g on [-1, 1] is monotone. With |g - x^2| <= e at -1, 0 and 1 the
    values are 1 - p, q, 1 - r with p, q, r <= e; they are monotone only if 1 - p <= q or
    1 - r <= q, hence 2e >= p + q >= 1 (or r + q >= 1)."""
    e, p, q = symbols("e p q", real=True)
    slack = (e - p) + (e - q)  # >= 0
    reached = 2 * e - slack  # = p + q >= 1, so e >= 1/2
    return identical(reached, p + q) and identical(2 * theorem.law, 1)


def _straight_lines_come_close(theorem: Theorem) -> bool:
    """g = 1/2 + c x is injective for c > 0 and misses by 1/2 + c at most, at -1."""
    c, x = symbols("c x", positive=True)
    misses = [abs(theorem.law + c * v - v**2) for v in (-1, 0, 1)]
    limit = [miss.subs(c, 0) for miss in misses]
    line = theorem.law + c * x
    return diff(line, x) == c and limit == [ratio(1, 2)] * 3


def _a_second_dimension_lifts_it(_: Theorem) -> bool:
    """(x, y) -> (x, y + x^2) is the time-1 flow of (0, x^2), invertible, and projects to x^2."""
    x, y, s = symbols("x y s", real=True)
    flow = Matrix([x, y + s * x**2])
    field = Matrix([0, x**2])
    return (
        diff(flow, s) == field
        and flow.jacobian([x, y]).det() == 1
        and flow.subs({s: 1, y: 0})[1] == x**2
    )


# The theorems. -----------------------------------------------------------------------------

_tube = Hypothesis(
    "tube",
    "the constants hold on a convex set that the exact and the approximate trajectories from "
    "every intermediate point stay in",
    Le(reach, tube),
)

approximation = Theorem(
    id="T2-approximation",
    statement=r"\sup|\Phi_i-\Psi_i| \le e_i,\ \mathrm{Lip}(\Psi_i) \le L_i:\quad "
    r"|\Phi_k\circ\dots\circ\Phi_1 - \Psi_k\circ\dots\circ\Psi_1| \le "
    r"\sum_i \Big(\prod_{j>i} L_j\Big) e_i",
    words="What is reached by composing flows is reached by composing gradient and "
    "sphere-preserving flows: replace each flow by a split one, of error e_i as small as wanted "
    "(T1, T2-lie-trotter), and the errors add up with the later Lipschitz constants.",
    source="Celledoni et al., slides SciCADE 2022 (the theorem); the bound is derived here",
    status="derived",
    hypotheses=(
        Hypothesis(
            "errors",
            "e_i is at least the distance of the i-th maps where the exact trajectory goes",
            And(*(Ge(e, true) for e, true in zip(errors, true_errors, strict=True))),
        ),
        Hypothesis(
            "lipschitz",
            "L_i is at least the constant of the i-th approximate map",
            And(*(Ge(L, true) for L, true in zip(factors, true_factors, strict=True))),
        ),
        _tube,
    ),
    constant=telescoping(errors, factors),
    measures="distance of the two compositions",
    proof=(
        ProofStep("each piece adds its error to L_i times what came before", _one_piece_more),
        ProofStep("unrolled: sum_i (prod_{j>i} L_j) e_i", _is_the_sum),
        ProofStep("scalings with errors of one sign attain it", _attained_by_scalings),
    ),
    sharp="scalings x -> L_i x with errors of one sign",
    warning="Recalled, not proved here: that the target is a limit of compositions of flows at "
    "all. In L^p, n >= 2, Li, Lin and Shen prove it for every continuous map; in the sup norm it "
    "holds only for limits of homeomorphisms (T2-obstruction). Fields must be C^2, or be replaced "
    "by such within delta, at the cost delta (e^(LT) - 1)/L.",
)

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
        _tube,
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
        _tube,
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

obstruction = Theorem(
    id="T2-obstruction",
    statement=r"g:[-1,1]\to\mathbb{R}\text{ injective and continuous}:\quad "
    r"\max_{x\in\{-1,0,1\}}|g(x)-x^2| \ge \tfrac12",
    words="In the sup norm flows reach only limits of homeomorphisms: on the line no composition "
    "of them comes closer to x^2 than 1/2. With one more dimension x^2 is reached exactly.",
    source="derived here",
    status="derived",
    hypotheses=(
        Hypothesis("injective", "g is increasing or decreasing", Gt(least_slope, 0)),
        Hypothesis("no lifting", "the state is a number", equal(state_dimension, 1)),
    ),
    constant=ratio(1, 2),
    bound="lower",
    measures="sup distance from x^2",
    proof=(
        ProofStep("monotone values at -1, 0, 1 miss 1, 0, 1 by 1/2", _monotone_misses_the_square),
        ProofStep("1/2 + c x misses by 1/2 + c", _straight_lines_come_close),
        ProofStep(
            "a shear of the plane, lifted and projected, is x^2", _a_second_dimension_lifts_it
        ),
    ),
    sharp="almost constant lines at the height 1/2",
)
