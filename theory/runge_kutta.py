"""Runge-Kutta steps that do not expand: circle contractivity [T8], B-stability, plain Lipschitz.

For the difference of two solutions, with stages Y_i and g_i the differences of the field there,
  |d+|^2 = |d|^2 + 2h sum b_i <g_i, Y_i> - h^2 sum m_ij <g_i, g_j>,
  m_ij = b_i a_ij + b_j a_ji - b_i b_j:
what the field says about <g, Y> and the coefficients about m decides (Butcher, Dahlquist).
"""

from typing import Any

from sympy import Ge, Integer, Le, Matrix, Rational, eye, sqrt, symbols
from sympy import zeros as zero_matrix
from sympy.logic.boolalg import And

from theory.algebra import identical, matrix, positive_terms
from theory.facts import h
from theory.theorem import Hypothesis, ProofStep, Theorem

Tableau = tuple[Any, Any]

EULER: Tableau = (Matrix([[0]]), Matrix([1]))
HEUN: Tableau = (Matrix([[0, 0], [1, 0]]), Matrix([1, 1]) / 2)
RK4: Tableau = (
    Matrix([[0, 0, 0, 0], [Rational(1, 2), 0, 0, 0], [0, Rational(1, 2), 0, 0], [0, 0, 1, 0]]),
    Matrix([1, 2, 2, 1]) / 6,
)
MIDPOINT: Tableau = (Matrix([[Rational(1, 2)]]), Matrix([1]))
GAUSS: Tableau = (
    Matrix(
        [
            [Rational(1, 4), Rational(1, 4) - sqrt(3) / 6],
            [Rational(1, 4) + sqrt(3) / 6, Rational(1, 4)],
        ]
    ),
    Matrix([1, 1]) / 2,
)


def energy_matrix(A: Any, b: Any) -> Any:
    """m_ij = b_i a_ij + b_j a_ji - b_i b_j of a method with coefficients A and weights b."""
    size = len(b)
    return Matrix(size, size, lambda i, j: b[i] * A[i, j] + b[j] * A[j, i] - b[i] * b[j]).expand()


def circle_radius(A: Any, b: Any) -> Any:
    """The largest r with m + B/r >= 0, B = diag(b) > 0: -1 over the least eigenvalue of B^-1 m,
    or None where m >= 0 and every radius serves. Raises ValueError for a weight that is not > 0."""
    if not all(weight > 0 for weight in b):
        raise ValueError(f"the weights {list(b)} are not all positive: no circle")
    scaled = Matrix.diag(*(1 / weight for weight in b)) * energy_matrix(A, b)
    least = min(scaled.eigenvals(), key=lambda value: float(value))
    return -1 / least if least < 0 else None


def _dot(x: Any, y: Any) -> Any:
    return (x.T * y)[0]


def _energy(_: Theorem) -> bool:
    """The formula above for two stages in the plane, with symbols for d, g_i and coefficients."""
    d, g = matrix("d", 2, 1), [matrix(f"g{i}", 2, 1) for i in range(2)]
    A, b = matrix("a", 2, 2), matrix("b", 2, 1)
    start = zero_matrix(2, 1)
    stages = [d + h * sum((A[i, j] * g[j] for j in range(2)), start) for i in range(2)]
    after = d + h * sum((b[i] * g[i] for i in range(2)), start)
    m = energy_matrix(A, b)
    change = _dot(after, after) - _dot(d, d)
    formula = 2 * h * sum(b[i] * _dot(g[i], stages[i]) for i in range(2)) - h**2 * sum(
        m[i, j] * _dot(g[i], g[j]) for i in range(2) for j in range(2)
    )
    return identical(change, formula)


# Circle contractivity. ----------------------------------------------------------------------

nu, cocoercivity = symbols("nu cocoercivity", nonnegative=True)
r, true_radius = symbols("r true_radius", positive=True)


def _circle_decides(theorem: Theorem) -> bool:
    """<g_i, Y_i> = -nu |g_i|^2 - slack and m = -B/r + rest leave |d|^2 - |d+|^2 =
    h (2 nu - h/r) sum b_i |g_i|^2 + 2h slack + h^2 rest: with h = 2 nu r - room, no negative
    term, so the factor is at most the law."""
    square, slack, rest, room, weight = symbols("square slack rest room weight", nonnegative=True)
    decrease = 2 * h * (weight * nu * square + slack) + h**2 * (rest - weight * square / r)
    grouped = h * (2 * nu - h / r) * weight * square + 2 * h * slack + h**2 * rest
    step = symbols("step", nonnegative=True)
    inside = grouped.subs(nu, (step + room) / (2 * r)).subs(h, step)
    return (
        identical(decrease, grouped)
        and positive_terms(inside.expand(), square, slack, rest, room, weight, step)
        and theorem.law == 1
    )


def _radii(_: Theorem) -> bool:
    """Explicit Euler, Heun and the classical method of order 4 have radius 1; implicit midpoint
    and Gauss have every radius."""
    explicit = all(circle_radius(*method) == 1 for method in (EULER, HEUN, RK4))
    return explicit and circle_radius(*MIDPOINT) is None and circle_radius(*GAUSS) is None


def _euler_attains(theorem: Theorem) -> bool:
    """g = -d / nu with h = 2 nu: the factor 1 - h/nu is -1, and beyond that it is larger."""
    factor = 1 - h / nu
    beyond = symbols("beyond", positive=True)
    further = factor.subs(h, 2 * nu + beyond).expand()
    return identical(factor.subs(h, 2 * nu), -theorem.law) and identical(
        further, -theorem.law - beyond / nu
    )


circle_contractive = Theorem(
    id="T8-circle-contractive",
    statement=r"\langle X(x)-X(y),x-y\rangle \le -\nu\,|X(x)-X(y)|^2,\ "
    r"\text{method } r\text{-circle contractive},\ 0 \le h \le 2\nu r:\quad \mathrm{Lip} \le 1",
    words="A Runge-Kutta step with positive weights is non-expansive on co-coercive fields as long "
    "as h <= 2 nu r, with r the radius of the method's circle: 1 for explicit Euler, Heun and the "
    "classical method of order 4. A gradient -A'Sigma(Ax + b) has nu = 1/|A|^2.",
    source="Dahlquist and Jeltsch 1979; contractive.pdf beside Murari's lecture notes",
    status="published",
    hypotheses=(
        Hypothesis(
            "co-coercive",
            "nu is at most the true co-coercivity constant of the field",
            Le(nu, cocoercivity),
        ),
        Hypothesis("radius", "r is at most the radius of the method", Le(r, true_radius)),
        Hypothesis("step", "h lies in [0, 2 nu r]", And(Ge(h, 0), Le(h, 2 * nu * r))),
    ),
    constant=Integer(1),
    proof=(
        ProofStep("|d+|^2 in terms of <g_i, Y_i> and m_ij", _energy),
        ProofStep(
            "|d|^2 - |d+|^2 >= h (2 nu - h/r) sum b_i |g_i|^2, not negative for h <= 2 nu r",
            _circle_decides,
        ),
        ProofStep("explicit Euler, Heun and RK4 have r = 1, Gauss methods every r", _radii),
        ProofStep("explicit Euler at h = 2 nu attains it, and exceeds it beyond", _euler_attains),
    ),
    sharp="explicit Euler with h = 2 nu on x' = -x / nu; every method with h = 0",
)

# B-stability. -------------------------------------------------------------------------------

one_sided = symbols("one_sided", real=True)
stability = symbols("stability", real=True)


def _b_stable(theorem: Theorem) -> bool:
    """<g_i, Y_i> = -slack_i and m >= 0: |d|^2 - |d+|^2 = 2h sum b_i slack_i + h^2 <g, m g>."""
    step, b, slack, rest = symbols("step b slack rest", nonnegative=True)
    decrease = 2 * step * b * slack + step**2 * rest
    return positive_terms(decrease, step, b, slack, rest) and theorem.law == 1


def _gauss_is_stable(_: Theorem) -> bool:
    """m = 0 and positive weights for implicit midpoint and two-stage Gauss; m = -1 for Euler."""
    zero = all(
        energy_matrix(A, b) == zero_matrix(len(b), len(b)) and all(weight > 0 for weight in b)
        for A, b in (MIDPOINT, GAUSS)
    )
    return zero and energy_matrix(*EULER) == Matrix([[-1]])


def _rotations_attain(theorem: Theorem) -> bool:
    """Implicit midpoint on x' = w [[0, 1], [-1, 0]] x is an orthogonal map."""
    w = symbols("w", real=True)
    K = h * w / 2 * Matrix([[0, 1], [-1, 0]])
    D = (eye(2) - K).inv() * (eye(2) + K)
    square = (D.T * D).applyfunc(lambda entry: entry.cancel())
    return square == theorem.law * eye(2)


b_stable = Theorem(
    id="T8-b-stable",
    statement=r"\langle X(x)-X(y),x-y\rangle \le 0,\ b \ge 0,\ "
    r"(b_i a_{ij} + b_j a_{ji} - b_i b_j) \succeq 0,\ h \ge 0:\quad \mathrm{Lip} \le 1",
    words="Implicit midpoint and the Gauss methods, and every algebraically stable method, are "
    "non-expansive on non-expansive fields for every step, however long.",
    source="Butcher 1975; Burrage and Butcher 1979",
    status="published",
    hypotheses=(
        Hypothesis(
            "non-expansive", "the one-sided constant of the field is at most 0", Le(one_sided, 0)
        ),
        Hypothesis(
            "stable",
            "the weights are not negative and the least eigenvalue of m is at least 0",
            Ge(stability, 0),
        ),
        Hypothesis("step", "the step is not negative", Ge(h, 0)),
    ),
    constant=Integer(1),
    proof=(
        ProofStep("|d+|^2 in terms of <g_i, Y_i> and m_ij", _energy),
        ProofStep("all that is added has the right sign", _b_stable),
        ProofStep("implicit midpoint and two-stage Gauss have m = 0, Euler -1", _gauss_is_stable),
        ProofStep("on rotations implicit midpoint is orthogonal", _rotations_attain),
    ),
    sharp="every skew linear field with implicit midpoint",
)

# Explicit Euler on a field known by two numbers. --------------------------------------------

mu, decay_rate = symbols("mu decay_rate", real=True)
L, true_lipschitz = symbols("L true_lipschitz", nonnegative=True)


def _expanded_square(theorem: Theorem) -> bool:
    """|d + hg|^2 = |d|^2 + 2h<g, d> + h^2|g|^2 with <g, d> = -mu - slack and |g|^2 = L^2 - loss
    (|d| = 1) is below the square of the law for h >= 0."""
    slack, loss, step = symbols("slack loss step", nonnegative=True)
    exact = 1 + 2 * step * (-mu - slack) + step**2 * (L**2 - loss)
    surplus = (theorem.law.subs(h, step) ** 2 - exact).expand()
    return positive_terms(surplus, slack, loss, step)


def _admissible(theorem: Theorem) -> bool:
    """law^2 - 1 = h (h L^2 - 2 mu)."""
    return identical(theorem.law**2 - 1, h * (h * L**2 - 2 * mu)) and theorem.admissible == And(
        Ge(h, 0), Le(h * L**2, 2 * mu)
    )


def _spirals_attain(theorem: Theorem) -> bool:
    """x' = (-mu I + w J) x with w^2 = L^2 - mu^2: (I + hM)'(I + hM) is the law squared times I."""
    w = symbols("w", nonnegative=True)
    M = Matrix([[-mu, w], [-w, -mu]])
    square = ((eye(2) + h * M).T * (eye(2) + h * M)).expand()
    target = (theorem.law**2).subs(L, sqrt(mu**2 + w**2)).expand()
    return (square - target * eye(2)).expand() == zero_matrix(2, 2)


def _best_step(theorem: Theorem) -> bool:
    """The law is least at h = mu / L^2, with the square 1 - (mu/L)^2."""
    square = theorem.law**2
    best = mu / L**2
    return identical(square.diff(h).subs(h, best), 0) and identical(
        square.subs(h, best), 1 - (mu / L) ** 2
    )


lipschitz_euler = Theorem(
    id="T8-lipschitz-euler",
    statement=r"\langle X(x)-X(y),x-y\rangle \le -\mu|x-y|^2,\ |X(x)-X(y)| \le L|x-y|,\ "
    r"h \ge 0:\quad \mathrm{Lip}(\mathrm{id}+hX) \le \sqrt{1 - 2\mu h + L^2h^2}",
    words="Explicit Euler on a field of which only two numbers are known, contraction rate and "
    "Lipschitz constant: contractive for 0 < h < 2 mu / L^2.",
    source="contractive.pdf beside Murari's lecture notes",
    status="published",
    hypotheses=(
        Hypothesis(
            "one-sided",
            "mu is at most the contraction rate: -mu is at least the one-sided constant",
            Le(mu, decay_rate),
        ),
        Hypothesis(
            "lipschitz", "L is at least the Lipschitz constant of the field", Ge(L, true_lipschitz)
        ),
        Hypothesis("step", "the step is not negative", Ge(h, 0)),
    ),
    constant=sqrt(1 - 2 * mu * h + L**2 * h**2),
    admissible=And(Ge(h, 0), Le(h * L**2, 2 * mu)),
    proof=(
        ProofStep("|d + hg|^2 is below the law squared, for h >= 0", _expanded_square),
        ProofStep("law^2 - 1 = h (h L^2 - 2 mu): at most 1 exactly up to 2 mu / L^2", _admissible),
        ProofStep("spirals -mu I + w J attain it in every direction", _spirals_attain),
        ProofStep("the best step is mu / L^2", _best_step),
    ),
    sharp="x' = (-mu I + w J) x with w^2 = L^2 - mu^2",
)
