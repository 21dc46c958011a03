"""Flexible switching [T10]: two contractive substeps h_1/2, then x + h_2 W'ReLU(Wx + v)."""

from sympy import (
    Abs,
    FiniteSet,
    Integer,
    Max,
    solveset,
    sqrt,
)

from theory import balls
from theory.algebra import equal, identical, ratio
from theory.facts import (
    a,
    gradient,
    h,
    h_1,
    h_2,
    largest,
    push_monotone,
    push_norm,
    s_max,
    s_min,
    slopes,
    smallest,
    w_max,
)
from theory.nonexpansive import contractive_euler, nonexpansive_euler
from theory.theorem import ProofStep, Theorem

HALF = ratio(1, 2)
paper_flexible = (1 - h_1 / 2 + h_1**2 / 4) * (1 + h_2)
flexible_boundary = 1 / (1 - h_1 / 2 + h_1**2 / 4) - 1
BOX = {h_1: (ratio(11, 100), ratio(189, 100)), h_2: (ratio(-19, 10), ratio(5, 100))}
ORTHOGONAL = {a: HALF, s_min: Integer(1), s_max: Integer(1), w_max: Integer(1)}


def _two_halves_and_a_gradient_step(theorem: Theorem) -> bool:
    """The law is (T7 at h_1/2)^2 times T8 at -h_2."""
    contractive = contractive_euler.law.subs(h, h_1 / 2)
    second = nonexpansive_euler.law.subs({h: -h_2, s_max: w_max})
    return theorem.law == contractive**2 * second


def _paper_flexible_form(_: Theorem) -> bool:
    """a = 1/2, orthogonal: sqrt(1 - h_1/2 + h_1^2/4)^2 (1 + h_2), and its boundary."""
    root = contractive_euler.forms["paper"].subs(ORTHOGONAL).subs(h, h_1 / 2)
    return identical(root**2 * (1 + h_2), paper_flexible) and identical(
        paper_flexible.subs(h_2, flexible_boundary), Integer(1)
    )


def _flexible_maximum(_: Theorem) -> bool:
    """1 - h_1/2 + h_1^2/4 = (h_1 - 1)^2/4 + 3/4: symmetric about 1, where the boundary is 1/3."""
    square = identical(1 - h_1 / 2 + h_1**2 / 4, (h_1 - 1) ** 2 / 4 + ratio(3, 4))
    return square and flexible_boundary.subs(h_1, 1) == ratio(1, 3)


def _exact_interval(_: Theorem) -> bool:
    """h_2 = 1/20 is admissible exactly between 1 - sqrt(357)/21 and 1 + sqrt(357)/21, and the
    training interval [0.11, 1.89] lies inside."""
    equation = equal(paper_flexible.subs(h_2, ratio(1, 20)), 1)
    roots = {1 - sqrt(357) / 21, 1 + sqrt(357) / 21}
    low, high = BOX[h_1]
    return solveset(equation, h_1) == FiniteSet(*roots) and bool(
        1 - sqrt(357) / 21 < low < high < 1 + sqrt(357) / 21
    )


def _edge_value(_: Theorem) -> bool:
    """At both ends of the box the boundary is 2079/37921, between 0.05482 and 0.05483."""
    low, high = BOX[h_1]
    value = flexible_boundary.subs(h_1, low)
    return value == flexible_boundary.subs(h_1, high) == ratio(2079, 37921) and bool(
        ratio(5482, 10**5) < value < ratio(5483, 10**5)
    )


def _one_point_nine_fails(_: Theorem) -> bool:
    """h_1 = 1.9 with h_2 = 0.05: the paper's law is 1.000125 exactly."""
    value = paper_flexible.subs({h_1: ratio(19, 10), h_2: ratio(5, 100)})
    return value == ratio(1000125, 10**6)


def _box_by_balls(theorem: Theorem) -> bool:
    """The law is at most 1 at every point of the box, by interval subdivision."""
    law = theorem.law.subs(ORTHOGONAL)
    box = {str(symbol): ends for symbol, ends in BOX.items()}
    return balls.prove_at_most(law, box, Integer(1)) > 0


flexible_switching = Theorem(
    id="T10-flexible-switching",
    statement=r"\Psi^{h_2}_{W^\top \mathrm{ReLU}(W\cdot+v)} \circ "
    r"\Big(\Psi^{h_1/2}_{-\nabla V}\Big)^2:\quad \mathrm{Lip} \le "
    r"\max(|1-\tfrac{h_1}{2} a s_{\min}^2|, |1-\tfrac{h_1}{2} s_{\max}^2|)^2\, "
    r"\max(1, |1+h_2 w_{\max}^2|)",
    words="Two contractive half steps, then a gradient step of either sign: expansive for "
    "h_2 > 0, non-expansive for -2 / w_max^2 <= h_2 <= 0.",
    source="the authors' code and plotContractivityArea.ipynb (orthogonal, a = 1/2, "
    "h_2 >= 0); signs and measured spectra are derived here",
    status="derived",
    hypotheses=(gradient, slopes, smallest, largest, push_monotone, push_norm),
    constant=Max(Abs(1 - h_1 / 2 * a * s_min**2), Abs(1 - h_1 / 2 * s_max**2)) ** 2
    * Max(1, Abs(1 + h_2 * w_max**2)),
    forms={"paper": paper_flexible, "boundary": flexible_boundary},
    proof=(
        ProofStep("the law is (T7 at h_1/2)^2 times T8 at -h_2", _two_halves_and_a_gradient_step),
        ProofStep(
            "for a = 1/2 and orthogonal A, W the paper's form follows, with its boundary",
            _paper_flexible_form,
        ),
        ProofStep("the boundary is largest at h_1 = 1: h_2 <= 1/3", _flexible_maximum),
        ProofStep(
            "h_2 = 0.05 is admissible exactly for |h_1 - 1| <= sqrt(357)/21, "
            "which holds [0.11, 1.89]",
            _exact_interval,
        ),
        ProofStep("the boundary at 0.11 and at 1.89 is 2079/37921 = 0.05482...", _edge_value),
        ProofStep(
            "[0.11, 1.9] with 0.05 fails: the paper's law is 1.000125 at 1.9", _one_point_nine_fails
        ),
        ProofStep(
            "the law is at most 1 on the training box [0.11, 1.89] x [-1.9, 0.05]",
            _box_by_balls,
            method="interval",
        ),
    ),
    sharp="over the class: W = w_max I and both half steps aligned with one singular vector",
)
