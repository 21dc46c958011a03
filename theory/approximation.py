"""Compositions of approximate maps [T2], and what no composition of flows reaches."""

from collections.abc import Sequence
from typing import Any

from sympy import (
    Ge,
    Gt,
    Le,
    Matrix,
    diff,
    symbols,
)
from sympy.logic.boolalg import And

from theory.algebra import equal, identical, positive_terms, ratio
from theory.theorem import Hypothesis, ProofStep, Theorem

PIECES = 4

errors = symbols(f"e_1:{PIECES + 1}", nonnegative=True)
factors = symbols(f"L_1:{PIECES + 1}", nonnegative=True)
true_errors = symbols(f"true_e_1:{PIECES + 1}", nonnegative=True)
true_factors = symbols(f"true_L_1:{PIECES + 1}", nonnegative=True)
reach, tube = symbols("reach tube", nonnegative=True)

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

within_tube = Hypothesis(
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
        within_tube,
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
