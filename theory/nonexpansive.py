"""One explicit Euler step: contractive [T7], non-expansive [T8], expansive [T8'].

All four rest on one picture. For an activation with slopes in [a, 1], the difference of two
outputs of x - h A'Sigma(Ax+b) is (I - h A'DA)(x - y) with D diagonal, a <= D <= 1: a symmetric
matrix with spectrum in 1 - h [a s_min^2, s_max^2], whose norm is found at the two ends.
"""

from functools import partial
from typing import Any

from sympy import Abs, Expr, Ge, Interval, Le, Matrix, Max, eye, sqrt, symbols
from sympy import zeros as zero_matrix
from sympy.logic.boolalg import And
from sympy.solvers.inequalities import solve_univariate_inequality

from theory.algebra import diagonal, identical, matrix, positive_terms, ratio
from theory.facts import (
    a,
    gradient,
    h,
    largest,
    push_lipschitz,
    s_max,
    s_min,
    slopes,
    slopes_from_zero,
    smallest,
)
from theory.theorem import Hypothesis, ProofStep, Theorem

p, q, t, theta = symbols("p q t theta", nonnegative=True)


def largest_over_spectrum(step: Expr, low: Any, high: Any) -> Expr:
    """max |1 - step t| over low <= t <= high, which is found at an end: |1 - step t| is convex."""
    return Max(Abs(1 - step * low), Abs(1 - step * high))


# Steps of the proofs. ----------------------------------------------------------------------


def _quotients_of_leaky_relu(_: Theorem) -> bool:
    """(sigma(p) - sigma(-q)) / (p + q) = (p + a q) / (p + q), between a and 1."""
    quotient = (p + a * q) / (p + q)
    slack = symbols("slack", nonnegative=True)  # a = 1 / (1 + slack) runs through (0, 1]
    above = (quotient - a).subs(a, 1 / (1 + slack))
    below = (1 - quotient).subs(a, 1 / (1 + slack))
    return positive_terms(above.simplify(), p, q, slack) and positive_terms(
        below.simplify(), p, q, slack
    )


def _quadratic_form_is_squeezed(_: Theorem) -> bool:
    """<d, A'DAd> - a|Ad|^2 = sum (D_i - a)(Ad)_i^2 and |Ad|^2 - <d, A'DAd> = sum (1 - D_i)(Ad)_i^2,
    on matrices of symbols with 3 rows and 2 columns and with 2 rows and 3 columns."""
    for rows, columns in ((3, 2), (2, 3)):
        A, D, d = matrix("A", rows, columns), diagonal("D", rows), matrix("d", columns, 1)
        Ad = A * d
        form = (d.T * A.T * D * A * d)[0]
        low = sum((D[i, i] - a) * Ad[i] ** 2 for i in range(rows))
        high = sum((1 - D[i, i]) * Ad[i] ** 2 for i in range(rows))
        square = (Ad.T * Ad)[0]
        if not (identical(form - a * square, low) and identical(square - form, high)):
            return False
    return True


def _difference_is_linear(_: Theorem) -> bool:
    """d - h A'(D A d) = (I - h A'DA) d and I - h A'DA is symmetric."""
    A, D, d = matrix("A", 2, 3), diagonal("D", 2), matrix("d", 3, 1)
    step = eye(3) - h * A.T * D * A
    defect = d - h * A.T * (D * (A * d)) - step * d
    return defect.expand() == zero_matrix(3, 1) and (step - step.T).expand() == zero_matrix(3, 3)


def _convex(_: Theorem) -> bool:
    """1 - h t is affine in t: its value between p and q is the same mixture of its end values."""
    between = 1 - h * ((1 - theta) * p + theta * q)
    return identical(between, (1 - theta) * (1 - h * p) + theta * (1 - h * q))


def _at_the_ends(low: Any, high: Any, theorem: Theorem) -> bool:
    return theorem.law == largest_over_spectrum(h, low, high)


def _attained_by_constant_slopes(theorem: Theorem) -> bool:
    """D = aI and D = I, on A with singular values s_min, s_max: the larger of the two norms."""
    A = Matrix.diag(s_min, s_max)
    eigenvalues = [
        1 - h * slope * s**2 for slope, s in ((a, s_min), (1, s_max))
    ]  # the extreme ones of the two patterns
    patterns = [eye(2) - h * slope * A.T * A for slope in (a, 1)]
    found = eigenvalues[0] in patterns[0].eigenvals() and eigenvalues[1] in patterns[1].eigenvals()
    return found and theorem.law == Max(*(Abs(value) for value in eigenvalues))


def _tall_matrices_too(theorem: Theorem) -> bool:
    """A = [1; -1], a = 1/2, h = 3/10: the offset 0 gives 0.55 only, both inputs negative 0.70."""
    values = {a: ratio(1, 2), h: ratio(3, 10), s_min: sqrt(2), s_max: sqrt(2)}
    A = Matrix([1, -1])
    factor = {
        pattern: 1 - values[h] * (A.T * Matrix.diag(*pattern) * A)[0]
        for pattern in ((1, values[a]), (values[a], values[a]))
    }
    attained, missed = factor[values[a], values[a]], factor[1, values[a]]
    return theorem.law.subs(values) == attained == ratio(7, 10) > missed


def _zero_on_wide_matrices(theorem: Theorem) -> bool:
    """A = [I 0] has singular values 1 as an SVD lists them, and a step that fixes its kernel."""
    A = eye(3).row_join(zero_matrix(3, 3))
    kernel = A.nullspace()[0]
    moved = kernel - h * A.T * (A * kernel)
    claimed = theorem.law.subs({a: ratio(1, 2), h: 1, s_min: 1, s_max: 1})
    true = theorem.law.subs({a: ratio(1, 2), h: 1, s_min: 0, s_max: 1})
    return moved == kernel and true == 1 and claimed == ratio(1, 2)


def _below_the_square_root(theorem: Theorem) -> bool:
    """1 - 2hp + h^2 q^2 exceeds (1 - hp)^2 by h^2 (q^2 - p^2) and (1 - hq)^2 by 2h(q - p)."""
    low, high = a * s_min**2, s_max**2
    form = theorem.forms["paper"] ** 2
    return identical(form - (1 - h * low) ** 2, h**2 * (high**2 - low**2)) and identical(
        form - (1 - h * high) ** 2, 2 * h * (high - low)
    )


def _strong_convexity_chain(theorem: Theorem) -> bool:
    """|d - hg|^2 = |d|^2 - 2h<g,d> + h^2|g|^2 with <g,d> >= a s_min^2 |d|^2, |g| <= s_max^2 |d|:
    the slacks enter with the right sign for h >= 0."""
    slack, loss, step = symbols("slack loss step", nonnegative=True)
    inner, square = a * s_min**2 + slack, s_max**4 - loss
    exact = (1 - 2 * h * inner + h**2 * square).subs(h, step)
    surplus = theorem.forms["paper"].subs(h, step) ** 2 - exact
    return positive_terms(surplus.expand(), step, slack, loss)


def _cocoercive(_: Theorem) -> bool:
    """<g, d> - |g|^2 / L = t (L - t) / L >= 0 for an eigenvalue t = L - p of A'DA, L = s_max^2."""
    L = symbols("L", positive=True)
    surplus = t - t**2 / L
    return identical(surplus, t * (L - t) / L) and positive_terms(
        surplus.subs(L, t + p).simplify(), t, p
    )


def _cocoercivity_chain(_: Theorem) -> bool:
    """|d|^2 - |d - hg|^2 = 2h<g,d> - h^2|g|^2 = 2h slack + h (2/L - h) |g|^2 with
    <g, d> = |g|^2 / L + slack."""
    L, square, slack = symbols("L square slack", positive=True)
    decrease = 2 * h * (square / L + slack) - h**2 * square
    return identical(decrease, 2 * h * slack + h * (2 / L - h) * square)


def _admissible_interval(theorem: Theorem) -> bool:
    """(1 - t)^2 <= 1 on [0, 2] exactly, where t = h s_max^2."""
    u = symbols("u", real=True)
    solved = solve_univariate_inequality((1 - u) ** 2 <= 1, u, relational=False)
    return solved == Interval(0, 2) and theorem.admissible == And(Ge(h, 0), Le(h * s_max**2, 2))


def _triangle(theorem: Theorem) -> bool:
    """W = s_max I with all slopes sign(h): (1 + |h| s_max) I, the bound |I| + |h| |D| |W|."""
    step = symbols("step", nonnegative=True)
    (eigenvalue,) = (eye(2) + step * s_max * eye(2)).eigenvals()
    return all(identical(theorem.law.subs(h, sign * step), eigenvalue) for sign in (1, -1))


def _slopes_bound_the_push(_: Theorem) -> bool:
    """|Dw|^2 <= |w|^2 for |D_i| <= 1: the difference is sum (1 - D_i)(1 + D_i) w_i^2."""
    D, w = diagonal("D", 3), matrix("w", 3, 1)
    loss = sum((1 - D[i, i]) * (1 + D[i, i]) * w[i] ** 2 for i in range(3))
    return identical((w.T * w)[0] - ((D * w).T * (D * w))[0], loss)


def _is_t8_backwards(theorem: Theorem) -> bool:
    """For h >= 0, T8's constant at -h."""
    step = symbols("step", nonnegative=True)
    return theorem.law.subs(h, step) == nonexpansive_euler.law.subs(h, -step)


_linear = ProofStep(
    "the difference of two outputs is (I - h A'DA)(x - y), and I - h A'DA is symmetric",
    _difference_is_linear,
)
_squeezed = ProofStep(
    "a A'A <= A'DA <= A'A as quadratic forms, so the spectrum of A'DA lies in [a s_min^2, s_max^2]",
    _quadratic_form_is_squeezed,
)
_affine = ProofStep("|1 - h t| is convex in t, so its maximum is at an end", _convex)

# The theorems. -----------------------------------------------------------------------------

contractive_euler = Theorem(
    id="T7-contractive-euler",
    statement=r"x \mapsto x - h A^\top \Sigma(Ax+b),\ \sigma' \in [a,1]:\quad "
    r"\mathrm{Lip} \le \max(|1-h a s_{\min}^2|,\ |1-h s_{\max}^2|)",
    words="An explicit Euler step of a contractive gradient field moves two points apart by at "
    "most the larger of two factors, one for the weakest and one for the strongest direction.",
    source="Celledoni et al., slides HB60 (a = 1/2, A orthogonal: sqrt(1 - h + h^2)); "
    "the sharp form is derived here",
    status="derived",
    hypotheses=(gradient, slopes, smallest, largest),
    constant=largest_over_spectrum(h, a * s_min**2, s_max**2),
    admissible=And(Ge(h, 0), Le(h * s_max**2, 2)),
    forms={"paper": sqrt(1 - 2 * a * h * s_min**2 + h**2 * s_max**4)},
    proof=(
        ProofStep("the difference quotients of max(x, ax) lie in [a, 1]", _quotients_of_leaky_relu),
        _linear,
        _squeezed,
        _affine,
        ProofStep(
            "the law is max |1 - h t| over the ends of [a s_min^2, s_max^2]",
            partial(_at_the_ends, a * s_min**2, s_max**2),
        ),
        ProofStep(
            "slopes all a, or all 1, attain it on singular vectors", _attained_by_constant_slopes
        ),
        ProofStep(
            "the offset is free, so tall matrices attain it too: A = [1; -1], a = 1/2, h = 3/10 "
            "has 0.55 for the offset 0 and 0.70, the law, for a negative one",
            _tall_matrices_too,
        ),
        ProofStep(
            "a wide matrix has s_min = 0, whatever number an SVD lists last: 1, not 1/2",
            _zero_on_wide_matrices,
        ),
        ProofStep(
            "strong convexity and |g| <= s_max^2 |d| give the paper's square root for h >= 0",
            _strong_convexity_chain,
        ),
        ProofStep(
            "the law squared is below the paper's form squared by h^2(q^2 - p^2) or 2h(q - p), "
            "with p = a s_min^2 <= q = s_max^2",
            _below_the_square_root,
        ),
        ProofStep(
            "|1 - t| <= 1 exactly for t in [0, 2]: steps up to 2 / s_max^2",
            _admissible_interval,
        ),
    ),
    sharp="for every A over all offsets b, and for every single b when A is onto; "
    "the paper's square root is larger for h > 0 unless a s_min^2 = s_max^2",
)

nonexpansive_euler = Theorem(
    id="T8-nonexpansive-euler",
    statement=r"x \mapsto x - h A^\top \Sigma(Ax+b),\ \sigma' \in [0,1]:\quad "
    r"\mathrm{Lip} \le \max(1,\ |1-h s_{\max}^2|),\ \text{which is } 1 \text{ for } "
    r"0 \le h \le 2/s_{\max}^2",
    words="An explicit Euler step of the gradient flow of a convex function expands nothing as "
    "long as the step is at most 2 / L, where L is the smoothness constant |A|^2.",
    source="Sherry et al. 2306.17332; Murari, lecture notes 6.3 (65)",
    status="published",
    hypotheses=(gradient, slopes_from_zero, largest),
    constant=Max(1, Abs(1 - h * s_max**2)),
    admissible=And(Ge(h, 0), Le(h * s_max**2, 2)),
    proof=(
        ProofStep("co-coercivity: <g, d> >= |g|^2 / L with L = s_max^2", _cocoercive),
        ProofStep(
            "|d|^2 - |d - hg|^2 >= h (2/L - h) |g|^2, not negative for 0 <= h <= 2/L",
            _cocoercivity_chain,
        ),
        _linear,
        _squeezed,
        _affine,
        ProofStep(
            "the law is max |1 - h t| over the ends of [0, s_max^2]",
            partial(_at_the_ends, 0, s_max**2),
        ),
        ProofStep(
            "it is 1 exactly for 0 <= h <= 2 / s_max^2: (1 - t)^2 <= 1 on [0, 2]",
            _admissible_interval,
        ),
    ),
    sharp="for every A over all offsets b: slopes all 0, or all 1",
)

expansive_euler = Theorem(
    id="T8'-expansive-euler",
    statement=r"x \mapsto x + h\,\Sigma(Wx+v),\ |\sigma'| \le 1:\quad "
    r"\mathrm{Lip} \le 1 + |h|\, s_{\max}",
    words="An explicit Euler step of a 1-Lipschitz layer expands by at most 1 + |h| |W|.",
    source="used in the authors' code; derived here",
    status="derived",
    hypotheses=(push_lipschitz, largest),
    constant=1 + Abs(h) * s_max,
    proof=(
        ProofStep("|Dw| <= |w| for slopes between -1 and 1", _slopes_bound_the_push),
        ProofStep(
            "the triangle inequality gives 1 + |h| |D| |W|; W = s_max I attains it", _triangle
        ),
    ),
    sharp="over the class: W = s_max I",
)

expansive_gradient_euler = Theorem(
    id="T8'-expansive-gradient-euler",
    statement=r"x \mapsto x + h A^\top \Sigma(Ax+b),\ \sigma' \in [0,1],\ h \ge 0:\quad "
    r"\mathrm{Lip} \le 1 + h\, s_{\max}^2",
    words="A gradient step in the wrong direction expands by at most 1 + h |A|^2.",
    source="used in the authors' code; derived here",
    status="derived",
    hypotheses=(
        gradient,
        slopes_from_zero,
        largest,
        Hypothesis("step", "the step is not negative", Ge(h, 0)),
    ),
    constant=1 + h * s_max**2,
    proof=(
        _linear,
        _squeezed,
        ProofStep("the law is T8's with the step -h", _is_t8_backwards),
    ),
    sharp="for every A over all offsets b: slopes all 1",
)
