"""Radii from a gradient [R2]: how far a margin that turns slowly stays positive.

A margin with value `margin` and gradient of length at most `slope` at a point, whose fall beyond
the gradient's is at most `curvature` r^2 / 2 at distance r, is at least `least_margin` there, which
falls in r and is 0 at `radius`. Second-order certificates of this form: Singla and Feizi 2020.

What a softplus s(z) = log(1 + exp(z)) gains beyond its tangent, s(z + d) - s(z) - s'(z) d, is
`beyond`. It is at most κ d^2 / 2 for all |d| <= D, z >= 0, where κ is `nearby` for D <= 2z, and
`anywhere` for every D; for -z the same, by symmetry, and both fall in |z|. For moves away from 0 it
is less, as s'' falls there. For one by -x towards 0, the derivative of 2 `beyond` / x^2 has the
sign of

    N(x) = integral of y (x - y) h(y) over [0, x],    h(y) = -s'''(z - y).

N'' = x h(x) is positive before x = z and negative behind, and N(0) = N'(0) = 0: so N is positive,
then negative, and as h is odd about z it vanishes at x = 2z. There `beyond` is z tanh(z / 2): the
quadratic bound of Jaakkola and Jordan (2000).
"""

from sympy import Ge, Le, exp, log, sqrt, symbols, tanh

from theory.algebra import identical
from theory.theorem import Hypothesis, ProofStep, Theorem

margin, slope, curvature, r = symbols("margin slope curvature r", positive=True)
true_margin, true_slope, true_curvature = symbols(
    "true_margin true_slope true_curvature", nonnegative=True
)

least_margin = margin - slope * r - curvature * r**2 / 2
radius = 2 * margin / (slope + sqrt(slope**2 + 2 * curvature * margin))

z, D = symbols("z D", positive=True)
d = symbols("d", real=True)

softplus = log(1 + exp(z))
beyond = softplus.subs(z, z + d) - softplus - softplus.diff(z) * d
nearby = 2 * beyond.subs(d, -D) / D**2
anywhere = tanh(z / 2) / (2 * z)


def _uses_the_margin_up(theorem: Theorem) -> bool:
    return identical(least_margin.subs(r, theorem.law), 0)


def _less_remains_farther_out(_: Theorem) -> bool:
    return bool(least_margin.diff(r).is_negative)


def _largest_on_either_side_of_0(theorem: Theorem) -> bool:
    """At d = -2z the bound is attained, which is why the quadratic is the best one there is."""
    nearby, anywhere = (theorem.forms[f"softplus_{where}"] for where in ("nearby", "anywhere"))
    return identical(nearby.subs(D, 2 * z).rewrite(exp), anywhere.rewrite(exp))


gradient_radius = Theorem(
    id="R2-gradient-radius",
    statement=r"m(y) \ge m(x) + \nabla m(x) \cdot (y-x) - \tfrac{K}{2}|y-x|^2,\ "
    r"|\nabla m(x)| \le s:\quad "
    r"|x-y| < \frac{2\,m(x)}{s + \sqrt{s^2 + 2 K m(x)}} \implies m(y) > 0",
    words="A margin that bends by at most K falls by no more than its gradient and K r^2 / 2 say, "
    "so a point keeps its class until that has used the margin up.",
    source="Singla, Feizi 2020; curvatures by Jaakkola, Jordan 2000",
    status="derived",
    hypotheses=(
        Hypothesis("margin", "the margin used is at most the true one", Le(margin, true_margin)),
        Hypothesis("slope", "s is at least the length of the gradient", Ge(slope, true_slope)),
        Hypothesis(
            "curvature",
            "K is at least what the margin bends downwards",
            Ge(curvature, true_curvature),
        ),
    ),
    constant=radius,
    forms={"softplus_nearby": nearby, "softplus_anywhere": anywhere},
    bound="lower",
    measures="distance to a change of class",
    proof=(
        ProofStep("at the radius the margin that must remain is 0", _uses_the_margin_up),
        ProofStep("and it falls with the distance", _less_remains_farther_out),
        ProofStep(
            "a softplus bends by at most tanh(z / 2) / (2 z), attained at a move by -2 z",
            _largest_on_either_side_of_0,
        ),
    ),
    sharp="a margin whose second derivative is -K, moved against its gradient",
)
