"""First integrals [T15]: skew-gradient fields, discrete gradients, Gauss, relaxation, projection.

A field conserves I when <grad I, F> = 0, and then F = S(x) grad I with S skew. What a step makes
of that depends on I: discrete gradients keep any I, Gauss methods quadratic ones, relaxation and
projection keep |x|, and explicit Euler lets it grow.
"""

from typing import Any

from sympy import Ge, Integer, Matrix, Rational, diff, expand, integrate, sqrt, symbols

from theory.algebra import equal, identical, matrix
from theory.facts import h
from theory.identity import is_law, reduced
from theory.mass import skew_defect
from theory.runge_kutta import GAUSS, MIDPOINT, energy_matrix
from theory.theorem import Hypothesis, ProofStep, Theorem

skew = Hypothesis("skew", "the matrix S of the field is skew", equal(skew_defect, 0))


def _skew(name: str, size: int) -> Any:
    A = matrix(name, size, size)
    return A - A.T


def _dot(x: Any, y: Any) -> Any:
    return (x.T * y)[0]


# The field. ---------------------------------------------------------------------------------


def _orthogonal_to_the_gradient(theorem: Theorem) -> bool:
    S, g = _skew("S", 4), matrix("g", 4, 1)
    return is_law(theorem, expand(_dot(g, S * g)))


def _rate_along_the_flow(theorem: Theorem) -> bool:
    """d/dt I(x(t)) = <grad I, F>: on a general quartic in the plane."""
    x, y = symbols("x y", real=True)
    polynomial = _quartic(x, y)
    gradient = Matrix([diff(polynomial, x), diff(polynomial, y)])
    u, v = symbols("u v", real=True)
    t = symbols("t", real=True)
    along = diff(polynomial.subs({x: x + t * u, y: y + t * v}, simultaneous=True), t).subs(t, 0)
    return is_law(theorem, expand(along - _dot(gradient, Matrix([u, v]))))


def _quartic(x: Any, y: Any) -> Any:
    return sum(
        symbols(f"c_{i}{j}", real=True) * x**i * y**j for i in range(5) for j in range(5 - i)
    )


def _every_such_field(theorem: Theorem) -> bool:
    """S = (F g' - g F') / |g|^2 is skew with S g = F - g <F, g> / |g|^2, which is F when F is
    orthogonal to g."""
    F, g = matrix("F", 3, 1), matrix("g", 3, 1)
    square = _dot(g, g)
    S = (F * g.T - g * F.T) / square
    rest = (S * g - F + g * _dot(F, g) / square).applyfunc(reduced)
    return is_law(theorem, (S + S.T).expand()) and is_law(theorem, rest)


first_integral = Theorem(
    id="T15-first-integral",
    statement=r"F(x) = S(x)\nabla I(x),\ S^\top = -S:\quad \langle \nabla I, F\rangle = 0",
    words="A skew matrix times the gradient of I is a field that conserves I, and every field that "
    "conserves I is of this form where the gradient does not vanish. I = |x|^2: the flow stays on "
    "spheres.",
    source="structure.pdf beside Murari's lecture notes",
    status="recalled",
    hypotheses=(skew,),
    constant=Integer(0),
    measures="|<grad I, F>|",
    proof=(
        ProofStep("<g, S g> = 0", _orthogonal_to_the_gradient),
        ProofStep("d/dt I(x(t)) = <grad I, F>", _rate_along_the_flow),
        ProofStep("S = (F g' - g F') / |g|^2 serves every conserving field", _every_such_field),
    ),
)

# Discrete gradients. ------------------------------------------------------------------------

correction = symbols("correction", real=True)


def _gonzalez(theorem: Theorem) -> bool:
    """m + (delta - <m, d>) d / |d|^2 has the product delta with d, for any m, d and delta."""
    m, d = matrix("m", 3, 1), matrix("d", 3, 1)
    delta = symbols("delta", real=True)
    g = m + (delta - _dot(m, d)) / _dot(d, d) * d
    return is_law(theorem, reduced(_dot(g, d) - delta))


def _average(theorem: Theorem) -> bool:
    """<int_0^1 grad I(x + s d) ds, d> = I(x + d) - I(x), for a general quartic in the plane."""
    x, y, u, v = symbols("x y u v", real=True)
    s = symbols("s", real=True)
    polynomial = _quartic(x, y)
    line = {x: x + s * u, y: y + s * v}
    mean = [
        integrate(expand(diff(polynomial, at).subs(line, simultaneous=True)), (s, 0, 1))
        for at in (x, y)
    ]
    end = polynomial.subs({x: x + u, y: y + v}, simultaneous=True)
    return is_law(theorem, expand(mean[0] * u + mean[1] * v - (end - polynomial)))


def _step_keeps_the_integral(theorem: Theorem) -> bool:
    """d = h S g gives I(x+) - I(x) = <g, d> = h <g, S g> = 0."""
    S, g = _skew("S", 3), matrix("g", 3, 1)
    return is_law(theorem, expand(_dot(g, h * S * g)))


def _gradient_step_decreases(theorem: Theorem) -> bool:
    """d = -h g gives V(x+) - V(x) = <g, d> = -|d|^2 / h."""
    g = matrix("g", 3, 1)
    d = -h * g
    return is_law(theorem, (_dot(g, d) + _dot(d, d) / h).expand())


def _midpoint_gradient_is_not(theorem: Theorem) -> bool:
    """I = x^3 between 0 and 1: the gradient at the midpoint gives 3/4, the difference is 1."""
    defect = 3 * Rational(1, 2) ** 2 - 1
    return defect == -Rational(1, 4) and not is_law(theorem, defect)


discrete_gradient = Theorem(
    id="T15-discrete-gradient",
    statement=r"\bar g(x,y) = \nabla I(m) + \frac{I(y)-I(x)-\langle\nabla I(m),y-x\rangle}"
    r"{|y-x|^2}(y-x),\ m = \tfrac{x+y}{2}:\quad \langle \bar g, y-x\rangle = I(y)-I(x)",
    words="A discrete gradient has the chain rule built in, so x+ = x + h S g(x, x+) keeps any I "
    "exactly when S is skew, and x+ = x - h g(x, x+) lets it fall. Gonzalez' corrects the "
    "gradient at the midpoint; the average vector field is the mean gradient on the segment.",
    source="Gonzalez 1996; McLachlan, Quispel, Robidoux 1999; the authors' discrete.ipynb",
    status="published",
    hypotheses=(
        Hypothesis(
            "correction",
            "the missing difference is added in full along y - x",
            equal(correction, 1),
        ),
    ),
    constant=Integer(0),
    measures="|<g, y - x> - (I(y) - I(x))|",
    proof=(
        ProofStep("Gonzalez' gradient obeys the chain rule, whatever it corrects", _gonzalez),
        ProofStep("so does the mean gradient on the segment (quartics)", _average),
        ProofStep("with S skew the step keeps I", _step_keeps_the_integral),
        ProofStep("x+ = x - h g decreases V by |x+ - x|^2 / h", _gradient_step_decreases),
        ProofStep("the gradient at the midpoint alone does not: x^3", _midpoint_gradient_is_not),
    ),
)

# Quadratic integrals. -----------------------------------------------------------------------

tableau_defect, energy_defect = symbols("tableau_defect energy_defect", nonnegative=True)


def _change_of_a_quadratic(theorem: Theorem) -> bool:
    """x+'Qx+ - x'Qx = 2h sum b_i <Q Y_i, k_i> - h^2 sum m_ij <k_i, Q k_j>, with the stages
    Y_i = x + h sum a_ij k_j and m_ij = b_i a_ij + b_j a_ji - b_i b_j: two stages, in the plane."""
    Q = Matrix(2, 2, lambda i, j: symbols(f"Q_{min(i, j)}{max(i, j)}", real=True))
    x, k = matrix("x", 2, 1), [matrix(f"k{i}", 2, 1) for i in range(2)]
    A, b = matrix("a", 2, 2), matrix("b", 2, 1)
    stages = [x + h * sum((A[i, j] * k[j] for j in range(2)), Matrix([0, 0])) for i in range(2)]
    after = x + h * sum((b[i] * k[i] for i in range(2)), Matrix([0, 0]))
    m = energy_matrix(A, b)
    change = _dot(after, Q * after) - _dot(x, Q * x)
    first = 2 * h * sum(b[i] * _dot(Q * stages[i], k[i]) for i in range(2))
    second = h**2 * sum(m[i, j] * _dot(k[i], Q * k[j]) for i in range(2) for j in range(2))
    return is_law(theorem, expand(change - first + second))


def _stages_conserve(theorem: Theorem) -> bool:
    """k_i = S Q Y_i has no part along Q Y_i."""
    S, y = _skew("S", 3), matrix("y", 3, 1)
    return is_law(theorem, expand(_dot(y, S * y)))


def _gauss_has_none(theorem: Theorem) -> bool:
    """m vanishes for the Gauss methods with one and two stages."""
    return all(is_law(theorem, energy_matrix(*method)) for method in (MIDPOINT, GAUSS))


gauss = Theorem(
    id="T15-gauss-quadratic",
    statement=r"b_i a_{ij} + b_j a_{ji} = b_i b_j,\ \dot x = S Q x:\quad "
    r"\langle x^+, Q x^+\rangle = \langle x, Q x\rangle",
    words="Runge-Kutta methods whose coefficients satisfy b_i a_ij + b_j a_ji = b_i b_j, the Gauss "
    "methods among them, keep every quadratic integral of the field: |x|^2 on spheres, for "
    "instance.",
    source="Cooper 1987; Hairer, Lubich, Wanner, IV.2",
    status="published",
    hypotheses=(
        Hypothesis(
            "skew", "the field is a skew matrix times the gradient", equal(energy_defect, 0)
        ),
        Hypothesis(
            "coefficients",
            "b_i a_ij + b_j a_ji = b_i b_j for all stages",
            equal(tableau_defect, 0),
        ),
    ),
    constant=Integer(0),
    measures="|<x+, Q x+> - <x, Q x>|",
    proof=(
        ProofStep("the change is linear in <Q Y_i, k_i> and in m_ij", _change_of_a_quadratic),
        ProofStep("<Q Y_i, k_i> = 0 for k_i = S Q Y_i", _stages_conserve),
        ProofStep("m = 0 for implicit midpoint and two-stage Gauss", _gauss_has_none),
    ),
)

# Spheres. -----------------------------------------------------------------------------------

relaxation_defect, scaling_defect = symbols("relaxation_defect scaling_defect", nonnegative=True)


def _relaxed(theorem: Theorem) -> bool:
    """|y + t d|^2 - |y|^2 = t (2 <y, d> + t |d|^2), which vanishes for t = -2 <y, d> / |d|^2."""
    y, d = matrix("y", 3, 1), matrix("d", 3, 1)
    t = -2 * _dot(y, d) / _dot(d, d)
    after = y + t * d
    return is_law(theorem, reduced(_dot(after, after) - _dot(y, y)))


def _as_in_the_code(theorem: Theorem) -> bool:
    """(1 - l) phi + l y with l = (|phi|^2 - |y|^2) / |phi - y|^2 is y + t d, d = phi - y."""
    y, phi = matrix("y", 2, 1), matrix("p", 2, 1)
    d = phi - y
    share = (_dot(phi, phi) - _dot(y, y)) / _dot(d, d)
    return is_law(theorem, reduced((1 - share) + 2 * _dot(y, d) / _dot(d, d)))


relaxation = Theorem(
    id="T15-relaxation",
    statement=r"d = \phi_h(y) - y \ne 0,\ y^+ = y - \frac{2\langle y,d\rangle}{|d|^2}\,d:\quad "
    r"|y^+| = |y|",
    words="Relaxation goes along the increment of any method as far as the sphere reaches: the "
    "norm stays exactly. For sphere-preserving fields and methods of order 2 or more the factor "
    "is close to 1 (for explicit Euler it is 0).",
    source="the authors' discrete.ipynb (Heun); Ketcheson 2019",
    status="published",
    hypotheses=(
        Hypothesis(
            "relaxed",
            "the increment is multiplied by -2<y, d>/|d|^2",
            equal(relaxation_defect, 0),
        ),
    ),
    constant=Integer(0),
    measures="| |y+|^2 - |y|^2 |",
    proof=(
        ProofStep("|y + t d|^2 - |y|^2 vanishes at t = -2<y, d>/|d|^2", _relaxed),
        ProofStep("the authors' (1 - l) phi + l y is the same point", _as_in_the_code),
    ),
)


def _scaled_back(theorem: Theorem) -> bool:
    """phi |x| / |phi| has the square |x|^2."""
    x, phi = matrix("x", 3, 1), matrix("p", 3, 1)
    after = phi * sqrt(_dot(x, x)) / sqrt(_dot(phi, phi))
    return is_law(theorem, reduced(_dot(after, after) - _dot(x, x)))


projection = Theorem(
    id="T15-projection",
    statement=r"\phi_h(x) \ne 0,\ x^+ = \frac{|x|}{|\phi_h(x)|}\,\phi_h(x):\quad |x^+| = |x|",
    words="Any step, scaled back to the sphere it came from, preserves the norm.",
    source="Murari, lecture notes p. 33",
    status="published",
    hypotheses=(
        Hypothesis(
            "scaled", "the result is multiplied by |x| / |phi(x)|", equal(scaling_defect, 0)
        ),
    ),
    constant=Integer(0),
    measures="| |x+|^2 - |x|^2 |",
    proof=(ProofStep("the square of phi |x| / |phi| is |x|^2", _scaled_back),),
)

# Explicit Euler grows. ----------------------------------------------------------------------

rate, skew_norm = symbols("rate skew_norm", nonnegative=True)


def _growth(theorem: Theorem) -> bool:
    """|x + h L x|^2 = |x|^2 + h^2 |L x|^2 for L skew; with |L x| = rate |x| that is the law."""
    L, x = _skew("L", 3), matrix("x", 3, 1)
    after = x + h * L * x
    exact = identical(_dot(after, after), _dot(x, x) + h**2 * _dot(L * x, L * x))
    return exact and identical(theorem.law**2, 1 + h**2 * rate**2)


def _never_shrinks(theorem: Theorem) -> bool:
    """law^2 - 1 = (h rate)^2: a square, 0 only without a step or without a field."""
    return identical(theorem.law**2 - 1, (h * rate) ** 2)


euler_growth = Theorem(
    id="T15-euler-growth",
    statement=r"x^+ = x + h\Lambda x,\ \Lambda^\top = -\Lambda:\quad "
    r"|x^+|^2 = |x|^2 + h^2|\Lambda x|^2,\quad |x^+| \le \sqrt{1+h^2|\Lambda|^2}\;|x|",
    words="Explicit Euler on a sphere-preserving field does not preserve the sphere: every step "
    "leaves it outwards, by h^2 |Lambda x|^2 in the square.",
    source="derived here; the authors' networkArchitecture.py uses this step",
    status="derived",
    hypotheses=(
        skew,
        Hypothesis("rate", "rate is at least the norm of Lambda", Ge(rate, skew_norm)),
    ),
    constant=sqrt(1 + h**2 * rate**2),
    measures="|x+| / |x|",
    proof=(
        ProofStep("|x + h Lambda x|^2 = |x|^2 + h^2 |Lambda x|^2", _growth),
        ProofStep("it never shrinks: the law squared is 1 + (h rate)^2", _never_shrinks),
    ),
    sharp="every rotation Lambda = rate [[0, 1], [-1, 0]]",
)
