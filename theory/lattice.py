"""Beyond the paper: maxima and minima by non-expansive gradient steps [B1].

x - h A'ReLU(Ax + c) with h |A|^2 <= 2 is 1-Lipschitz [T8]. With one row A such a step is already
ReLU, the absolute value or a sort of two entries, and it takes the maximum of two affine functions
in place: with A = a - b the functional b then reads max(<a, x> + alpha, <b, x> + beta).
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from sympy import Expr, Ge, Gt, Integer, Le, Matrix, symbols, zeros
from sympy.logic.boolalg import And

from theory.algebra import equal, identical, matrix
from theory.facts import h, push_high, push_low, s_max
from theory.nonexpansive import nonexpansive_euler
from theory.theorem import Hypothesis, ProofStep, Theorem

first_norm, second_norm, apart = symbols("first_norm second_norm apart", nonnegative=True)
inner, square = symbols("inner square", real=True)
MAXIMUM_STEP: Expr = 1 / (square - inner)
"""The step, with inner = <a, b> and square = <b, b>."""


def _step(x: Any, step: Any, A: Any, active: bool, offset: Any = 0) -> Any:
    """x - step A'ReLU(Ax + offset), on the side where ReLU is the identity or 0."""
    return x - step * A.T * ((A * x)[0] + offset) if active else x


def _reads_the_maximum(theorem: Theorem) -> bool:
    """Where ReLU is active, <a - b, x> + alpha - beta >= 0, the reading is <a, x> + alpha; else
    <b, x> + beta: the larger of the two."""
    a, b, x = (matrix(name, 3, 1) for name in ("a", "b", "x"))
    alpha, beta = symbols("alpha beta", real=True)
    step = theorem.forms["step"].subs({inner: (a.T * b)[0], square: (b.T * b)[0]})
    first, second = (a.T * x)[0] + alpha, (b.T * x)[0] + beta
    for active, larger in ((True, first), (False, second)):
        moved = _step(x, step, (a - b).T, active, alpha - beta)
        if not identical((b.T * moved)[0] + beta - larger, theorem.law):
            return False
    return True


def _step_is_admissible(theorem: Theorem) -> bool:
    """2 - h |a - b|^2 = h (|b|^2 - |a|^2) with h = 1 / <b, b - a>, and 2 / h >= |a - b|^2 > 0: the
    step satisfies T8 exactly when |a| <= |b|."""
    a, b = matrix("a", 3, 1), matrix("b", 3, 1)
    scalars = {inner: (a.T * b)[0], square: (b.T * b)[0]}
    distance = ((a - b).T * (a - b))[0]
    surplus = 2 / theorem.forms["step"].subs(scalars) - distance
    limit = nonexpansive_euler.admissible == And(Ge(h, 0), Le(h * s_max**2, 2))
    return limit and identical(surplus, (b.T * b)[0] - (a.T * a)[0])


def _sorts(theorem: Theorem) -> bool:
    """A = (-1, 1), h = 1 = 2 / |A|^2: (x, y) becomes (max, min). For y >= x the step exchanges
    them, and for y <= x it leaves them."""
    z, A = Matrix(symbols("x y", real=True)), Matrix([[-1, 1]])
    exchanged, kept = _step(z, 1, A, True), _step(z, 1, A, False)
    swap = Matrix([z[1], z[0]])
    return exchanged.expand() == swap and kept == z and 2 / (A * A.T)[0] == 1 + theorem.law


def _relu_and_absolute_value(theorem: Theorem) -> bool:
    """On the line with A = -1: the step 1 gives ReLU, the step 2 the absolute value."""
    x, A = Matrix([symbols("x", nonnegative=True)]), Matrix([[-1]])
    negative = {step: _step(-x, step, A, True)[0] for step in (1, 2)}
    positive = {step: _step(x, step, A, False)[0] for step in (1, 2)}
    return (
        identical(negative[1], theorem.law)
        and identical(negative[2], x[0])
        and all(identical(value, x[0]) for value in positive.values())
    )


def max_of_mins(groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Sorting steps that compute the max over `groups` of the mins over the entries of each.

    Every index is in one group once. A step (i, j), with A = e_j - e_i and h = 1, leaves the larger
    of the entries i and j in i and the smaller in j; the result is read from the first entry of the
    first group. Each step is 1-Lipschitz [T8]. Raises ValueError for an empty or repeated entry.
    """
    entries = [index for group in groups for index in group]
    if not entries or not all(groups) or len(set(entries)) != len(entries):
        raise ValueError(f"the groups {groups} are empty or share an entry: lift a copy of it")
    within = [(index, group[0]) for group in groups for index in group[1:]]
    return within + [(groups[0][0], group[0]) for group in groups[1:]]


def _every_max_of_mins(theorem: Theorem) -> bool:
    """Groups of 3, 1 and 2 entries, on {0, 1}^6: formulas of max and min that agree there agree."""
    groups = ((0, 1, 2), (3,), (4, 5))
    for values in product((0, 1), repeat=6):
        z = Matrix(values)
        for i, j in max_of_mins(groups):
            A = zeros(1, 6)
            A[0, j], A[0, i] = 1, -1
            z = _step(z, 1, A, bool((A * z)[0] > 0))
        wanted = max(min(values[index] for index in group) for group in groups)
        if not identical(z[0], theorem.law + wanted):
            return False
    return True


maximum_step = Theorem(
    id="B1-maximum-step",
    statement=r"|a|\le|b|,\ h = \frac{1}{\langle b,b-a\rangle}:\quad \beta + \big\langle b,\ x - "
    r"h(a-b)\,\mathrm{ReLU}(\langle a-b,x\rangle+\alpha-\beta)\big\rangle = "
    r"\max(\langle a,x\rangle+\alpha,\ \langle b,x\rangle+\beta),\quad h|a-b|^2\le2",
    words="The maximum of two affine functions is one non-expansive gradient step and a linear "
    "reading, exactly; so are ReLU, the absolute value and the sorting of two entries.",
    source="after Murari, Furuya, Schönlieb 2505.12003; this form is derived here",
    status="derived",
    hypotheses=(
        Hypothesis("order", "b is the longer gradient: |a| <= |b|", Le(first_norm, second_norm)),
        Hypothesis("distinct", "a and b are different", Gt(apart, 0)),
        Hypothesis(
            "relu",
            "the activation is ReLU: slopes 0 and 1",
            And(equal(push_low, 0), equal(push_high, 1)),
        ),
    ),
    constant=Integer(0),
    measures="error of the maximum, or excess of the step's constant over 1",
    forms={"step": MAXIMUM_STEP},
    proof=(
        ProofStep("read by b, the step is <a, x> + alpha or <b, x> + beta", _reads_the_maximum),
        ProofStep(
            "2/h - |a - b|^2 = |b|^2 - |a|^2: T8 admits the step exactly for |a| <= |b|",
            _step_is_admissible,
        ),
        ProofStep("A = (-1, 1) and h = 1 = 2/|A|^2 sort two entries", _sorts),
        ProofStep(
            "such steps in turn compute every max of mins of the entries of a vector",
            _every_max_of_mins,
        ),
        ProofStep("A = -1 gives ReLU for h = 1 and |x| for h = 2", _relu_and_absolute_value),
    ),
    warning="Proved here: every max of mins of the entries of an affine lifting x -> Qx + q is "
    "computed exactly by sorting steps, and certified 1-Lipschitz by its layers where |Q| <= 1. "
    "With rows of norm 1 and no bound on |Q| such functions are still 1-Lipschitz, and dense by "
    "the Stone-Weierstrass theorem for lattices: recalled, as is the density with norm-constrained "
    "layers throughout (2505.12003).",
)
