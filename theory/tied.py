"""Flexible switching with tied weights [T10]: W = A square, exactly orthogonal, v = b."""

from sympy import (
    Abs,
    Ge,
    Integer,
    Le,
    Matrix,
    Max,
    eye,
    simplify,
    symbols,
)
from sympy.logic.boolalg import And

from theory.algebra import diagonal, equal, identical, matrix, positive_terms, ratio
from theory.facts import (
    a,
    h_1,
    h_2,
)
from theory.theorem import Hypothesis, ProofStep, Theorem

HALF = ratio(1, 2)
slope_negative, slope_positive = symbols("slope_negative slope_positive", real=True)
orthogonality_defect, tie_defect = symbols("orthogonality_defect tie_defect", nonnegative=True)
tied_boundary = (1 - h_1 / 2) ** -2 - 1


def _conjugate_to_scalars(_: Theorem) -> bool:
    """With AA' = I the step in u = Ax + b is u - h D u for D the slopes at u: entry by entry."""
    A, D, u = matrix("A", 2, 2), diagonal("D", 2), matrix("u", 2, 1)
    moved = A * (A.T * (D * u)) - D * u  # (AA' - I) D u
    return (moved - (A * A.T - eye(2)) * D * u).expand() == Matrix([0, 0])


def _signs_stay(_: Theorem) -> bool:
    """For h_1 < 2 and a <= 1 the factors 1 - h_1/2 and 1 - a h_1/2 are positive: with
    h_1 = 2 - p and a = 1/(1+q) they have no negative term."""
    p, q = symbols("p q", nonnegative=True)
    values = {h_1: 2 - p, a: 1 / (1 + q)}
    return positive_terms((1 - h_1 / 2).subs(values), p, q) and positive_terms(
        (1 - a * h_1 / 2).subs(values).simplify(), p, q
    )


def _two_scalar_slopes(theorem: Theorem) -> bool:
    """u > 0: (1 - h_1/2)^2 (1 + h_2); u < 0: (1 - a h_1/2)^2. The law is the larger modulus."""
    u = symbols("u", positive=True)
    positive = u
    for _ in range(2):
        positive = positive - h_1 / 2 * positive
    positive = positive + h_2 * positive
    negative = -u
    for _ in range(2):
        negative = negative - h_1 / 2 * a * negative
    slopes_found = [simplify(positive / u), simplify(negative / -u)]
    law = Max((1 - h_1 / 2) ** 2 * Abs(1 + h_2), (1 - a * h_1 / 2) ** 2)
    branches = [(1 - h_1 / 2) ** 2 * (1 + h_2), (1 - a * h_1 / 2) ** 2]
    return theorem.law == law and all(
        identical(found, branch) for found, branch in zip(slopes_found, branches, strict=True)
    )


def _admissible_steps(theorem: Theorem) -> bool:
    """For 0 <= h_1 <= 2 the second branch is at most 1, as its root, which is not negative, is
    1 - a h_1/2: so the law is where the first one is."""
    first, root = (1 - h_1 / 2) ** 2 * Abs(1 + h_2), 1 - a * h_1 / 2
    steps = And(Ge(h_1, 0), Le(h_1, 2), Le(first, 1))
    return (
        theorem.law == Max(first, root**2)
        and positive_terms(1 - root, a, h_1)
        and theorem.admissible == steps
    )


def _tied_boundary(theorem: Theorem) -> bool:
    boundary = theorem.forms["boundary"]
    return identical((1 - h_1 / 2) ** 2 * (1 + boundary), Integer(1)) and (
        boundary.subs(h_1, ratio(11, 100)) == ratio(4279, 35721)
    )


def _mixed_branch_exceeds(theorem: Theorem) -> bool:
    """A sign change between the substeps would give (1 - a h_1/2)^2 (1 + h_2): on the tied
    boundary at h_1 = 0.11, a = 1/2 that is above 1.058 where the law says 1."""
    values = {h_1: ratio(11, 100), a: HALF}
    step = tied_boundary.subs(values)
    mixed = ((1 - a * h_1 / 2) ** 2 * (1 + h_2)).subs(values).subs(h_2, step)
    return theorem.law.subs(values).subs(h_2, step) == 1 and bool(mixed > ratio(1058, 1000))


tied_switching = Theorem(
    id="T10-tied",
    statement=r"W = A,\ AA^\top = I,\ v = b,\ \Sigma(u) = \max(u, au),\ h_1 \le 2:\quad "
    r"\mathrm{Lip} = \max\big((1-\tfrac{h_1}{2})^2\,|1+h_2|,\ (1-\tfrac{a h_1}{2})^2\big)",
    words="With one exactly orthogonal matrix and one offset in all three substeps the block "
    "falls apart into scalar maps whose sign does not change, which contract before they expand.",
    source="derived here; the authors' code ties these weights",
    status="derived",
    hypotheses=(
        Hypothesis(
            "activation",
            "the contractive activation is exactly max(u, au), 0 <= a <= 1",
            And(
                equal(slope_negative, a),
                equal(slope_positive, 1),
                Ge(a, 0, evaluate=False),
                Le(a, 1),
            ),
        ),
        Hypothesis(
            "orthogonal",
            "A is square and exactly orthogonal as stored",
            equal(orthogonality_defect, 0),
        ),
        Hypothesis("tied", "all substeps use the same A and b", equal(tie_defect, 0)),
        Hypothesis("step", "h_1 is at most 2", Le(h_1, 2)),
    ),
    constant=Max((1 - h_1 / 2) ** 2 * Abs(1 + h_2), (1 - a * h_1 / 2) ** 2),
    admissible=And(Ge(h_1, 0), Le(h_1, 2), Le((1 - h_1 / 2) ** 2 * Abs(1 + h_2), 1)),
    forms={"boundary": tied_boundary},
    proof=(
        ProofStep(
            "in u = Ax + b a substep is u - (h_1/2) Sigma(u) up to (AA' - I): scalar maps",
            _conjugate_to_scalars,
        ),
        ProofStep("for h_1 <= 2 no scalar changes its sign", _signs_stay),
        ProofStep("the two branches have the two slopes of the law", _two_scalar_slopes),
        ProofStep("it is at most 1 on the admissible set", _admissible_steps),
        ProofStep(
            "the first branch is 1 on h_2 = (1 - h_1/2)^(-2) - 1, which is 4279/35721 at 0.11",
            _tied_boundary,
        ),
        ProofStep(
            "without exact orthogonality the mixed branch (1 - a h_1/2)^2 (1 + h_2) appears: "
            "above 1.058 where the law says 1",
            _mixed_branch_exceeds,
        ),
    ),
    sharp="for every signed permutation A: both branches occur",
    warning="Never a certificate for floating-point weights: an orthogonality defect of any size "
    "lets an entry near 0 change its sign between substeps, and the constant jumps. It holds for "
    "structurally exact A only (signed permutations, delta kernels); elsewhere use "
    "T10-flexible-switching.",
)
