"""Alternating contractive and expansive steps: prescribed [T9] and flexible [T10] switching."""

from typing import Any

from sympy import (
    Abs,
    Expr,
    FiniteSet,
    Integer,
    Le,
    Max,
    asinh,
    diff,
    discriminant,
    expand,
    factor,
    limit,
    log,
    simplify,
    solveset,
    sqrt,
    symbols,
)
from sympy.logic.boolalg import And

from theory import balls
from theory.algebra import equal, identical, ratio
from theory.facts import (
    S,
    a,
    gradient,
    h,
    h_1,
    h_2,
    largest,
    push_lipschitz,
    push_monotone,
    push_norm,
    s_max,
    s_min,
    slopes,
    smallest,
    w_max,
)
from theory.nonexpansive import (
    contractive_euler,
    expansive_euler,
    largest_over_spectrum,
    nonexpansive_euler,
)
from theory.projections import BOX, h_C, prescribed_expansive_step
from theory.theorem import ProofStep, Theorem

HALF = ratio(1, 2)
x, c, w = symbols("x c w", nonnegative=True)
ORTHOGONAL = {a: HALF, s_min: Integer(1), s_max: Integer(1), w_max: Integer(1)}
RECTANGLES = {  # by the number of substeps; with two, the steps that training reaches
    1: {"h_1": (ratio(3, 10), ratio(7, 10)), "h_2": (Integer(0), ratio(125, 1000))},
    2: {"h_1": (ratio(3, 10), Integer(1)), "h_2": (Integer(0), ratio(14115, 10**5))},
}


def contraction(step: Any) -> Expr:
    """The factor of one contractive step [T7]."""
    return largest_over_spectrum(step, a * s_min**2, s_max**2)


# T9: S times [expansive step h_2/S, then contractive step h_1/S]. ---------------------------

paper_switching = (sqrt(1 - 2 * a * h_1 / S + (h_1 / S) ** 2) * (1 + h_2 / S)) ** S
boundary = S * ((1 - 2 * a * h_1 / S + (h_1 / S) ** 2) ** -HALF - 1)
maximum = S * ((1 - a**2) ** -HALF - 1)
sharp_boundary = S * (1 / (1 - a * h_1 / S) - 1)


def _product_of_steps(theorem: Theorem) -> bool:
    """The law is [T7 at h_1/S times T8' at h_2/S] to the power S."""
    contractive = contractive_euler.law.subs(h, h_1 / S)
    expansive = expansive_euler.law.subs({h: h_2 / S, s_max: w_max})
    return theorem.law == (contractive * expansive) ** S


def _admissible_steps(theorem: Theorem) -> bool:
    """f^S (1 + e/S)^S <= 1 for a contraction f and e = |h_2| w_max iff f (S + e) <= S."""
    f, e = symbols("f e", nonnegative=True)
    root = f * (1 + e / S)  # the law is its S-th power, and increasing in it
    steps = Le(contraction(h_1 / S) * (S + Abs(h_2) * w_max), S)
    return identical(S * root, f * (S + e)) and theorem.admissible == steps


def _boundary_is_equality(theorem: Theorem) -> bool:
    """The paper's law: its root of T7 with A'A = I, times T8' with |W| = 1, to the power S."""
    paper = theorem.forms["paper"]
    root = contractive_euler.forms["paper"].subs({s_min: 1, s_max: 1, h: h_1 / S})
    on_boundary = paper.subs(h_2, theorem.forms["boundary"])
    return identical(paper, (root * (1 + h_2 / S)) ** S) and identical(on_boundary, Integer(1))


def _sharp_boundary_is_equality(theorem: Theorem) -> bool:
    """With A, W orthogonal and steps h_1/S = t <= 2/(1+a): |1 - t| <= 1 - at, so the law is
    [(1 - a h_1/S)(1 + h_2/S)]^S, which is 1 on the sharp boundary."""
    sharp_boundary = theorem.forms["sharp boundary"]
    dominated = identical((1 - a * x) ** 2 - (1 - x) ** 2, x * (1 - a) * (2 - (1 + a) * x))
    equality = identical(((1 - a * h_1 / S) * (1 + sharp_boundary / S)) ** S, Integer(1))
    values = {a: HALF, s_min: 1, s_max: 1, w_max: 1, S: 2, h_1: 1}
    value = theorem.law.subs(h_2, sharp_boundary).subs(values)
    return dominated and equality and value == 1


def _positive_between_0_and_2a(_: Theorem) -> bool:
    """boundary > 0 iff 1 - 2at + t^2 < 1, t = h_1/S, iff t (t - 2a) < 0."""
    return factor((1 - 2 * a * x + x**2) - 1) == x * (x - 2 * a)


def _maximum_at_aS(theorem: Theorem) -> bool:
    """1 - 2at + t^2 = (t - a)^2 + 1 - a^2 is smallest at t = a."""
    square = identical(1 - 2 * a * x + x**2, (x - a) ** 2 + 1 - a**2)
    peak = theorem.forms["boundary"].subs(h_1, a * S)
    return square and identical(peak, theorem.forms["maximum"])


def _slope_at_0(theorem: Theorem) -> bool:
    return identical(diff(theorem.forms["boundary"], h_1).subs(h_1, 0), a)


def _limit_in_S(theorem: Theorem) -> bool:
    """Infinitely many substeps: h_2 <= a h_1 (with 1/S = u -> 0 from above)."""
    u, g = symbols("u g", positive=True)
    return limit(theorem.forms["boundary"].subs(S, 1 / u).subs(h_1, g), u, 0, "+") == a * g


def _nested_up_to_1_over_sqrt3(_: Theorem) -> bool:
    """phi(t) = (1-2at+t^2)^(-1/2) - 1; phi(t)/t is non-increasing on [0, 2a] when a^2 <= 1/3.

    With q = 1-2at+t^2 that is q^(3/2) <= q - t(a-t) = 1-3at+2t^2. The right side is positive
    (its discriminant 9a^2 - 8 is negative), and the difference of the squares is t^2 p with, for
    t = 2aw and c = a^2, p = (1 - 3c) + 4cw^2 + 16c^2 w(1-w)^3: no term is negative. At t = 0,
    p = 1 - 3a^2: beyond 1/sqrt(3) nesting fails for small steps.
    """
    t = x
    q = 1 - 2 * a * t + t**2
    phi = q**-HALF - 1
    right = q - t * (a - t)
    derivative = t * diff(phi, t) - phi  # t^2 (phi/t)'
    monotone = identical(derivative, 1 - right * q ** -ratio(3, 2))
    difference = expand((right**2 - q**3) / t**2)
    terms = (1 - 3 * c) + 4 * c * w**2 + 16 * c**2 * w * (1 - w) ** 3
    in_c = expand(difference.subs(t, 2 * a * w)).subs(a, sqrt(c))
    negative = identical(discriminant(right, t), 9 * a**2 - 8)  # so for all a^2 <= 1/3
    return (
        monotone
        and identical(in_c, terms)
        and negative
        and identical(difference.subs(t, 0), 1 - 3 * a**2)
    )


def _not_nested_at_09(_: Theorem) -> bool:
    """a = 0.9, h_1 = 1/2: the boundary falls from S = 1 to 2 to the limit a h_1."""
    values = [boundary.subs({a: ratio(9, 10), h_1: HALF, S: count}) for count in (1, 2, 4)]
    return bool(values[0] > values[1] > values[2] > ratio(9, 20))


def _sharp_order_reversed(_: Theorem) -> bool:
    """d/dS of a h_1 S / (S - a h_1) is -(a h_1)^2 / (S - a h_1)^2 < 0."""
    real = symbols("S_real", positive=True)
    derivative = diff(sharp_boundary.subs(S, real), real)
    return identical(derivative, -((a * h_1) ** 2) / (real - a * h_1) ** 2)


def area(substeps: int) -> Expr:
    """Share of the square [0,1]^2 below the boundary for a = 1/2, for 1 or 2 substeps (there the
    boundary is positive up to h_1 = substeps >= 1): by the antiderivative asinh."""
    t = symbols("t", real=True)
    primitive: Any = asinh((2 * t - 1) / sqrt(3))
    mean = substeps * (primitive.subs(t, ratio(1, substeps)) - primitive.subs(t, 0))
    return substeps * (mean - 1)


def _closed_form_for_training(_: Theorem) -> bool:
    """4 / sqrt(h^2 - 2h + 4) - 2 is the boundary for a = 1/2, S = 2; it grows on [0.3, 1]."""
    step = prescribed_expansive_step.subs(h_C, h_1)
    derivative = diff(step, h_1) * (h_1**2 - 2 * h_1 + 4) ** ratio(3, 2)
    return identical(step, boundary.subs({a: HALF, S: 2})) and identical(derivative, 4 - 4 * h_1)


def _areas(_: Theorem) -> bool:
    """ln 3 - 1 and 2 ln 3 - 2: asinh((2t-1)/sqrt 3) has the derivative (1 - t + t^2)^(-1/2)."""
    t = symbols("t", real=True)
    derivative = diff(asinh((2 * t - 1) / sqrt(3)), t)
    integrand = (1 - t + t**2) ** -HALF
    right = simplify(derivative**2 - integrand**2) == 0 and derivative.subs(t, 1).is_positive
    one = simplify((area(1) - (log(3) - 1)).rewrite(log)) == 0
    two = simplify((area(2) - (2 * log(3) - 2)).rewrite(log)) == 0
    return bool(right) and one and two


def _rectangles_by_balls(theorem: Theorem) -> int:
    """a = 1/2, orthogonal: the paper's law and this one are at most 1 on RECTANGLES, by interval
    subdivision: how many boxes in all."""
    boxes = 0
    for substeps, ends in RECTANGLES.items():
        for law in (paper_switching, theorem.law):
            at: Any = law.subs({**ORTHOGONAL, S: substeps})
            found = balls.prove_at_most(at, ends, Integer(1))
            if not found:
                return 0
            boxes += found
    return boxes


switching = Theorem(
    id="T9-switching",
    statement=r"\Big(\Psi^{h_1/S}_{-\nabla V} \circ \Psi^{h_2/S}_{\Sigma(W\cdot+v)}\Big)^S:\quad "
    r"\mathrm{Lip} \le \Big[\max(|1-\tfrac{h_1}{S} a s_{\min}^2|, |1-\tfrac{h_1}{S} s_{\max}^2|)"
    r"\,(1+\tfrac{|h_2|}{S} w_{\max})\Big]^S",
    words="S times an expansive step followed by a contractive one: the block is 1-Lipschitz "
    "when the contraction pays for the expansion, although the expansive steps alone are not.",
    source="Celledoni et al., slides HB60 and plotContractivityArea.ipynb (orthogonal A, W, and "
    "the square root of T7); measured spectra and the sharp factor are derived here",
    status="derived",
    hypotheses=(gradient, slopes, smallest, largest, push_lipschitz, push_norm),
    constant=(contraction(h_1 / S) * (1 + Abs(h_2 / S) * w_max)) ** S,
    admissible=Le(contraction(h_1 / S) * (S + Abs(h_2) * w_max), S),
    forms={
        "paper": paper_switching,
        "boundary": boundary,
        "maximum": maximum,
        "sharp boundary": sharp_boundary,
    },
    proof=(
        ProofStep("the law is (T7 at h_1/S times T8' at h_2/S)^S", _product_of_steps),
        ProofStep("it is at most 1 exactly on the admissible set", _admissible_steps),
        ProofStep("on the paper's boundary the paper's law is exactly 1", _boundary_is_equality),
        ProofStep("the boundary is positive exactly for 0 < h_1 < 2aS", _positive_between_0_and_2a),
        ProofStep("its maximum S[(1-a^2)^(-1/2) - 1] is at h_1 = aS", _maximum_at_aS),
        ProofStep("its slope at 0 is a", _slope_at_0),
        ProofStep("its limit for S to infinity is a h_1", _limit_in_S),
        ProofStep(
            "for a <= 1/sqrt(3) the paper's regions grow with S: the slack is "
            "(1-3c) + 4cw^2 + 16c^2 w(1-w)^3 with c = a^2, h_1 = 2aSw; not beyond",
            _nested_up_to_1_over_sqrt3,
        ),
        ProofStep("for a = 0.9 and h_1 = 0.5 they shrink", _not_nested_at_09),
        ProofStep(
            "the sharp boundary S[1/(1 - a h_1/S) - 1] holds for h_1/S <= 2/(1+a)",
            _sharp_boundary_is_equality,
        ),
        ProofStep("the sharp regions shrink with S", _sharp_order_reversed),
        ProofStep(
            "used in training (a = 1/2, S = 2): h_2 = 4/sqrt(h_1^2 - 2h_1 + 4) - 2 is the "
            "boundary, increasing up to h_1 = 1",
            _closed_form_for_training,
        ),
        ProofStep("areas in the unit square for a = 1/2: ln 3 - 1 and 2 ln 3 - 2", _areas),
        ProofStep(
            "for a = 1/2 and orthogonal matrices the law, and the paper's, is at most 1 on "
            "[0.3, 0.7] x [0, 0.125] with S = 1 and on [0.3, 1] x [0, 0.14115] with S = 2",
            _rectangles_by_balls,
            method="interval",
        ),
    ),
    sharp="over the class: W = w_max I, every contractive step aligned with one singular vector, "
    "and activations linear with slope a or 1",
)

# T10: two contractive substeps h_1/2, then x + h_2 W'ReLU(Wx + v). ---------------------------

paper_flexible = (1 - h_1 / 2 + h_1**2 / 4) * (1 + h_2)
flexible_boundary = 1 / (1 - h_1 / 2 + h_1**2 / 4) - 1


def _two_halves_and_a_gradient_step(theorem: Theorem) -> bool:
    """The law is (T7 at h_1/2)^2 times T8 at -h_2."""
    contractive = contractive_euler.law.subs(h, h_1 / 2)
    second = nonexpansive_euler.law.subs({h: -h_2, s_max: w_max})
    return theorem.law == contractive**2 * second


def _admissible_pairs(theorem: Theorem) -> bool:
    """c^2 max(1, e) with c, e >= 0 is at most 1 exactly where c and c^2 e are."""
    c, e = contraction(h_1 / 2), Abs(1 + h_2 * w_max**2)
    steps = And(Le(c, 1), Le(c**2 * e, 1))
    return theorem.law == c**2 * Max(1, e) and theorem.admissible == steps


def _paper_flexible_form(theorem: Theorem) -> bool:
    """a = 1/2, orthogonal: sqrt(1 - h_1/2 + h_1^2/4)^2 (1 + h_2), and its boundary."""
    paper, root = theorem.forms["paper"], contractive_euler.forms["paper"].subs(ORTHOGONAL)
    on_boundary = paper.subs(h_2, theorem.forms["boundary"])
    law = root.subs(h, h_1 / 2) ** 2 * (1 + h_2)
    return identical(law, paper) and identical(on_boundary, Integer(1))


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
    """h_1 = 1.9 with h_2 = 0.05."""
    at = {h_1: ratio(19, 10), h_2: ratio(5, 100)}
    return paper_flexible.subs(at) == ratio(1000125, 10**6)


def _papers_box_by_balls(_: Theorem) -> int:
    """The paper's law on [0.11, 1.89] x [0, 0.05]."""
    box = {"h_1": BOX[h_1], "h_2": (Integer(0), BOX[h_2][1])}
    return balls.prove_at_most(paper_flexible, box, Integer(1))


def _overhang_by_balls(_: Theorem) -> bool:
    """With 1.9 for 1.89 subdivision finds a point above 1, and the corner is one."""
    corner = {"h_1": ratio(19, 10), "h_2": BOX[h_2][1]}
    box = {"h_1": (BOX[h_1][0], corner["h_1"]), "h_2": (Integer(0), corner["h_2"])}
    above = balls.lower(paper_flexible, corner) > 1
    return above and balls.prove_at_most(paper_flexible, box, Integer(1)) == 0


def _box_by_balls(theorem: Theorem) -> int:
    """The law is at most 1 at every point of the box, by interval subdivision: how many boxes."""
    box = {str(symbol): ends for symbol, ends in BOX.items()}
    return balls.prove_at_most(theorem.law.subs(ORTHOGONAL), box, Integer(1))


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
    constant=contraction(h_1 / 2) ** 2 * Max(1, Abs(1 + h_2 * w_max**2)),
    admissible=And(
        Le(contraction(h_1 / 2), 1),
        Le(contraction(h_1 / 2) ** 2 * Abs(1 + h_2 * w_max**2), 1),
    ),
    forms={"paper": paper_flexible, "boundary": flexible_boundary},
    proof=(
        ProofStep("the law is (T7 at h_1/2)^2 times T8 at -h_2", _two_halves_and_a_gradient_step),
        ProofStep("it is at most 1 exactly on the admissible set", _admissible_pairs),
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
        ProofStep(
            "the paper's law is at most 1 on [0.11, 1.89] x [0, 0.05]",
            _papers_box_by_balls,
            method="interval",
        ),
        ProofStep(
            "on [0.11, 1.9] x [0, 0.05] it is not: a ball above 1 at (1.9, 0.05)",
            _overhang_by_balls,
            method="interval",
        ),
    ),
    sharp="over the class: W = w_max I, both half steps aligned with one singular vector, and "
    "activations linear with slope a or 1",
)
