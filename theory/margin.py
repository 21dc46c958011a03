"""The margin certificate [T4]: how far a point is from changing its class."""

from sympy import Ge, Gt, Le, cos, pi, sin, sqrt, symbols
from sympy.logic.boolalg import And

from theory.algebra import identical
from theory.theorem import Hypothesis, ProofStep, Theorem

margin, lipschitz = symbols("margin L", positive=True)
true_margin, true_lipschitz = symbols("true_margin true_L", nonnegative=True)


def _two_logits_move_by_sqrt2(_: Theorem) -> bool:
    """2 (p^2 + q^2) - (p + q)^2 = (p - q)^2, so p + q <= sqrt(2) |(p, q)|."""
    p, q = symbols("p q", real=True)
    return identical(2 * (p**2 + q**2) - (p + q) ** 2, (p - q) ** 2)


def _largest_on_the_circle(theorem: Theorem) -> bool:
    """At distance 1 and L = 1 the margin of two logits falls by cos + sin, stationary at pi/4
    with value sqrt(2); the radius is where a fall of that rate has used the margin up."""
    angle = symbols("angle", real=True)
    fall = cos(angle) + sin(angle)
    peak = fall.subs(angle, pi / 4)
    return (
        fall.diff(angle).subs(angle, pi / 4) == 0
        and peak == sqrt(2)
        and identical(theorem.law * peak * lipschitz, margin)
    )


margin_certificate = Theorem(
    id="T4-margin-certificate",
    statement=r"N\ L\text{-Lipschitz},\ m(x) = N(x)_k - \max_{j \ne k} N(x)_j:\quad "
    r"|x-y| < \frac{m(x)}{\sqrt2\,L} \implies \arg\max N(y) = k",
    words="The margin falls by at most sqrt(2) L per unit of distance, so a point keeps its class "
    "within margin / (sqrt(2) L).",
    source="Tsuzuku, Sato, Sugiyama 2018; Murari, lecture notes, Prop. 12",
    status="published",
    hypotheses=(
        Hypothesis(
            "lipschitz",
            "L is at least the Lipschitz constant of N, l2 to l2",
            And(Gt(lipschitz, 0, evaluate=False), Ge(lipschitz, true_lipschitz)),
        ),
        Hypothesis("margin", "the margin used is at most the true one", Le(margin, true_margin)),
    ),
    constant=margin / (sqrt(2) * lipschitz),
    bound="lower",
    measures="distance to a change of class",
    proof=(
        ProofStep(
            "a margin falls by at most the sum p + q of the moves of two logits, "
            "and p + q <= sqrt(2) sqrt(p^2 + q^2) <= sqrt(2) L |x - y|",
            _two_logits_move_by_sqrt2,
        ),
        ProofStep(
            "the rate sqrt(2) L is reached, and the radius is the margin over it",
            _largest_on_the_circle,
        ),
    ),
    sharp="N = L I on two classes, moved along (-1, 1)",
)
