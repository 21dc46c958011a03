"""Mass preservation [T14]: the sum of the entries stays, through fields, steps and layers."""

from typing import Any

from sympy import Integer, Matrix, Rational, diff, expand, ones, sin, symbols

from theory.algebra import equal, identical, matrix
from theory.facts import h
from theory.identity import is_law
from theory.theorem import Hypothesis, ProofStep, Theorem

skew_defect = symbols("skew_defect", nonnegative=True)
skew = Hypothesis(
    "skew",
    "the matrix of the field is a matrix less its transpose",
    equal(skew_defect, 0),
)


def _field(M: Any) -> Any:
    """(M - M')1."""
    return (M - M.T) * ones(M.rows, 1)


def _no_mass_is_made(theorem: Theorem) -> bool:
    """1'(A - A')1 = 0 for a matrix of symbols."""
    return is_law(theorem, sum(_field(matrix("A", 4, 4))))


def _runge_kutta(theorem: Theorem) -> bool:
    """x + h sum b_i k_i with any stages k_i that sum to 0, and any b: all methods, Euler included.
    A stage is evaluated at a point, and the field has sum 0 at every point."""
    size, stages = 3, 3
    x, b = matrix("x", size, 1), matrix("b", stages, 1)
    moved: Any = x
    for i in range(stages):
        free = [symbols(f"k_{i}{j}", real=True) for j in range(size - 1)]
        moved = moved + h * b[i] * Matrix([*free, -sum(free)])
    return is_law(theorem, expand(sum(moved) - sum(x)))


def _upper_triangle(theorem: Theorem) -> bool:
    """With the entries above the diagonal alone, the field sums to 0 as well."""
    A = matrix("A", 4, 4)
    upper = Matrix(4, 4, lambda i, j: A[i, j] if i < j else 0)
    return is_law(theorem, sum(_field(upper)))


def _examples(theorem: Theorem) -> bool:
    """SIR, and the field of the slides, are of this form."""
    y1, y2, y3 = symbols("y1 y2 y3", real=True)
    sir = Matrix([[0, -y1 * y2, 0], [y1 * y2, 0, -y2], [0, y2, 0]])
    slides = Matrix([[0, -y3 * y1**2, y2 * y3], [y3 * y1**2, 0, -sin(y1)], [-y2 * y3, sin(y1), 0]])
    rates = Matrix([-y1 * y2, y1 * y2 - y2, y2])
    is_sir = sir * ones(3, 1) == rates
    return is_sir and all(
        is_law(theorem, defect)
        for M in (sir, slides)
        for defect in (*(M + M.T), sum(M * ones(3, 1)))
    )


def _not_every_matrix(theorem: Theorem) -> bool:
    """1'A1 alone is the sum of the entries."""
    A = matrix("A", 2, 2)
    total = sum(A * ones(2, 1))
    return identical(total, sum(A)) and not is_law(theorem, total)


mass = Theorem(
    id="T14-mass",
    statement=r"\dot x = (A(x) - A(x)^\top)\mathbf 1,\ \text{any Runge-Kutta step}:\quad "
    r"\mathbf 1^\top x^+ = \mathbf 1^\top x",
    words="A field (A(x) - A(x)')1 makes no mass, and every Runge-Kutta method, explicit Euler "
    "included, preserves linear invariants: the sum of the entries stays exactly.",
    source="Celledoni et al., slides SciCADE 2022 and HB60; Murari, lecture notes 4.5",
    status="published",
    hypotheses=(skew,),
    constant=Integer(0),
    measures="|sum of x+ - sum of x|",
    proof=(
        ProofStep("1'(A - A')1 = 0", _no_mass_is_made),
        ProofStep("so have all stages, and x + h sum b_i k_i for any weights", _runge_kutta),
        ProofStep("also when A is given above the diagonal only", _upper_triangle),
        ProofStep("SIR and the field of the slides have this form", _examples),
        ProofStep("without the transpose the sum changes by 1'A1", _not_every_matrix),
    ),
)

# Lifting and projection. --------------------------------------------------------------------

kept, dropped = symbols("kept dropped", positive=True, integer=True)
divisor = symbols("divisor", positive=True)
tail = symbols("tail", real=True)


def projection(keep: int, drop: int, by: Any) -> Any:
    """P with P(x)_i = x_i + (sum of the dropped entries) / by, (keep, keep + drop)."""
    return Matrix(keep, keep + drop, lambda i, j: (1 if i == j else 0) if j < keep else 1 / by)


def _columns_sum_to_one(theorem: Theorem) -> bool:
    """1'P = 1' for by = keep."""
    for keep, drop in ((3, 2), (2, 3), (1, 4)):
        P = projection(keep, drop, Integer(keep))
        if not is_law(theorem, (ones(1, keep) * P - ones(1, keep + drop)).T):
            return False
    return True


def _by_any_divisor(theorem: Theorem) -> bool:
    """The mass changes by (kept / divisor - 1) times the sum of what is dropped."""
    defect = kept * tail / divisor - tail
    at_kept = is_law(theorem, defect.subs(divisor, kept))
    rate = diff(defect, tail)
    return at_kept and identical(rate, kept / divisor - 1)


def _number_dropped_is_wrong(theorem: Theorem) -> bool:
    """Divided by the number of dropped entries, as printed in the notes: right for kept = dropped
    only; 3 + 2 entries gain half of what is dropped."""
    defect = (kept / divisor - 1).subs(divisor, dropped)
    example = defect.subs({kept: 3, dropped: 2})
    same = is_law(theorem, defect.subs(dropped, kept))
    return same and example == Rational(1, 2) and not is_law(theorem, example)


def _lift(theorem: Theorem) -> bool:
    x = matrix("x", 3, 1)
    return is_law(theorem, sum(x.col_join(Matrix([0, 0]))) - sum(x))


mass_projection = Theorem(
    id="T14-projection",
    statement=r"L(x) = (x, 0),\ P(x)_i = x_i + \tfrac1k \sum_{j>k} x_j,\ i \le k:\quad "
    r"\mathbf 1^\top L(x) = \mathbf 1^\top x,\ \mathbf 1^\top P(x) = \mathbf 1^\top x",
    words="Lifting by zeros keeps the sum, and so does dropping entries when what they hold is "
    "spread evenly over the k entries that are kept.",
    source="the authors' code; the lecture notes (p. 31) divide by the number dropped instead, "
    "which is wrong unless it is k",
    status="derived",
    hypotheses=(
        Hypothesis(
            "divisor", "the divisor is the number of entries that are kept", equal(divisor, kept)
        ),
    ),
    constant=Integer(0),
    measures="|sum of P(x) - sum of x|",
    proof=(
        ProofStep("lifting by zeros keeps the sum", _lift),
        ProofStep("the columns of P sum to 1", _columns_sum_to_one),
        ProofStep("with any divisor the mass changes by (k/divisor - 1) sum", _by_any_divisor),
        ProofStep(
            "divided by the number dropped it fails, unless that is k", _number_dropped_is_wrong
        ),
    ),
)
