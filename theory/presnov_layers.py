"""Layers that approximate the two parts of a field: parametrised [T2'], and convex parts [R1]."""

from sympy import Add, Ge, Integer, Le, Matrix, diff, symbols

from theory.algebra import diagonal, equal, identical, matrix
from theory.facts import gradient
from theory.presnov import tangency_defect
from theory.theorem import Hypothesis, ProofStep, Theorem

delta, quotient, true_quotient = symbols("delta q true_q", nonnegative=True)
shift, used_shift, curvature, true_curvature = symbols(
    "shift used_shift M true_M", nonnegative=True
)
r = symbols("r", positive=True)


def _regularised_skew_matrix(_: Theorem) -> bool:
    """(X_S x' - x X_S') x / (|x|^2 + d^2) - X_S = -(d^2 X_S + <x, X_S> x) / (|x|^2 + d^2)."""
    Y, x = matrix("Y", 3, 1), matrix("x", 3, 1)
    square, inner = (x.T * x)[0], (x.T * Y)[0]
    acted = (Y * x.T - x * Y.T) * x
    defect = acted - Y * (square + delta**2) + delta**2 * Y + inner * x
    return defect.expand() == Matrix([0, 0, 0])


def _arithmetic_and_geometric_mean(theorem: Theorem) -> bool:
    """The error q r d^2 / (r^2 + d^2) at |x| = r is below q d / 2 by
    q d (r - d)^2 / (2 (r^2 + d^2)), and equal at r = d."""
    error = quotient * r * delta**2 / (r**2 + delta**2)
    slack = quotient * delta * (r - delta) ** 2 / (2 * (r**2 + delta**2))
    return identical(theorem.law - error, slack)


def _jacobian_is_symmetric(theorem: Theorem) -> bool:
    """A' D S A, with D = diag(alpha) and S the slopes, equals its transpose."""
    A, D, S = matrix("A", 3, 2), diagonal("D", 3), diagonal("S", 3)
    J = A.T * D * S * A
    return all(identical(entry, theorem.law) for entry in J - J.T)


def _it_is_a_gradient(theorem: Theorem) -> bool:
    """A' diag(alpha) Sigma(Ax + b) is the gradient of alpha' Gamma(Ax + b), for Gamma = u^3 / 3."""
    A, D, b, x = matrix("A", 3, 2), diagonal("D", 3), matrix("b", 3, 1), matrix("x", 2, 1)
    u = A * x + b
    potential = Add(*(D[i, i] * u[i] ** 3 / 3 for i in range(3)))
    field = A.T * D * u.applyfunc(lambda entry: entry**2)
    return all(identical(diff(potential, x[i]) - field[i], theorem.law) for i in range(2))


def _published_form_is_not(_: Theorem) -> bool:
    """F.linear(., D @ A.T) is D A' Sigma(Ax + b): for A = [[1, 1], [0, 1]], D = diag(1, 2) and
    slopes 1 its Jacobian [[1, 1], [2, 4]] is not symmetric."""
    A, D = Matrix([[1, 1], [0, 1]]), Matrix.diag(1, 2)
    jacobian = D * A.T * A
    return jacobian == Matrix([[1, 1], [2, 4]]) and jacobian != jacobian.T


def _shift_makes_convex(theorem: Theorem) -> bool:
    """<d, (D^2 U + shift I) d> >= (shift - M) |d|^2 for <d, D^2 U d> = (slack - M) |d|^2."""
    slack, square = symbols("slack square", nonnegative=True)
    form = (slack - curvature) * square + shift * square
    return identical(form - theorem.law * square, slack * square)


def _parts_add_up(_: Theorem) -> bool:
    """grad (U + shift |x|^2 / 2) - grad (shift |x|^2 / 2) = grad U, and the Hessian of the second
    part is shift I."""
    x = matrix("x", 2, 1)
    second = shift * (x.T * x)[0] / 2
    hessian = Matrix(2, 2, lambda i, j: diff(second, x[i], x[j]))
    return hessian == shift * Matrix.eye(2)


def _concave_attains_it(theorem: Theorem) -> bool:
    x = symbols("x", real=True)
    return identical(diff(-curvature * x**2 / 2 + shift * x**2 / 2, x, 2), theorem.law)


skew_density = Theorem(
    id="T2'-presnov-networks",
    statement=r"\Lambda_\delta(x) = \frac{X_S x^\top - x X_S^\top}{|x|^2+\delta^2}:\quad "
    r"|X_S(x) - \Lambda_\delta(x)\,x| \le \tfrac12\,\delta\,\sup\frac{|X_S|}{|x|}",
    words="A field that is tangent to spheres is Lambda(x) x up to any error with a skew matrix "
    "whose entries are continuous, so networks may learn the entries.",
    source="the authors' appendix code (the form); derived here",
    status="derived",
    hypotheses=(
        Hypothesis("tangential", "<x, X_S(x)> = 0", equal(tangency_defect, 0)),
        Hypothesis("quotient", "q is at least sup |X_S| / |x|", Ge(quotient, true_quotient)),
    ),
    constant=quotient * delta / 2,
    measures="error |X_S - Lambda_delta x|",
    proof=(
        ProofStep(
            "Lambda_delta x - X_S = -(delta^2 X_S + <x, X_S> x) / (|x|^2 + delta^2)",
            _regularised_skew_matrix,
        ),
        ProofStep(
            "|x| delta^2 / (|x|^2 + delta^2) <= delta / 2, with equality at |x| = delta",
            _arithmetic_and_geometric_mean,
        ),
    ),
    sharp="at |x| = delta, where |X_S| / |x| = q",
    warning="Recalled, not proved here: that shallow networks are dense in C^1, so that the "
    "potential and the entries of Lambda_delta can be learned.",
)

gradient_layer = Theorem(
    id="T2'-gradient-layer",
    statement=r"x \mapsto A^\top \mathrm{diag}(\alpha)\,\Sigma(Ax+b) = "
    r"\nabla\,\alpha^\top\Gamma(Ax+b),\ \Gamma'=\Sigma:\quad J = J^\top",
    words="The layer that multiplies by A transposed last is a gradient field whatever alpha is.",
    source="Celledoni et al., slides; the code's D A' Sigma(Ax + b) is not a gradient field",
    status="derived",
    hypotheses=(gradient,),
    constant=Integer(0),
    measures="asymmetry of the Jacobian",
    proof=(
        ProofStep("A'DSA is symmetric for all diagonal D and S", _jacobian_is_symmetric),
        ProofStep("it is the gradient of alpha' Gamma(Ax + b)", _it_is_a_gradient),
        ProofStep("D A' Sigma(Ax + b) has an unsymmetric Jacobian", _published_form_is_not),
    ),
)

difference_of_convex = Theorem(
    id="R1-difference-of-convex",
    statement=r"U = U_1 - U_2,\ U_1 = U + \tfrac\lambda2|x|^2,\ U_2 = \tfrac\lambda2|x|^2:\quad "
    r"\langle \nabla U_1(x)-\nabla U_1(y), x-y\rangle \ge (\lambda - M)\,|x-y|^2",
    words="On a box every C^2 potential is a difference of convex ones, so its gradient flow "
    "splits into a contractive and an expansive one.",
    source="recalled from the paper; derived here",
    status="recalled",
    hypotheses=(
        Hypothesis(
            "curvature", "M is at least sup |D^2 U| on the box", Ge(curvature, true_curvature)
        ),
        Hypothesis("shift", "at least lambda |x|^2 / 2 is added", Le(shift, used_shift)),
    ),
    constant=shift - curvature,
    bound="lower",
    measures="convexity of U_1",
    proof=(
        ProofStep("the Hessian of U_1 is at least lambda - M", _shift_makes_convex),
        ProofStep("U_2 is lambda-convex, and the gradients subtract", _parts_add_up),
        ProofStep("U = -M |x|^2 / 2 attains it", _concave_attains_it),
    ),
    sharp="U = -M |x|^2 / 2",
)
