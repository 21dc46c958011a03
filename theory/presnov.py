"""Every field is a gradient plus a field tangent to spheres [T1], by the homotopy formula."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sympy import (
    QQ,
    Dummy,
    Eq,
    Expr,
    Function,
    Integer,
    Integral,
    Matrix,
    Piecewise,
    Poly,
    Symbol,
    cos,
    diff,
    expand,
    integrate,
    simplify,
    sin,
    symbols,
)
from sympy.polys.monomials import itermonomials
from sympy.polys.rings import ring

from theory.algebra import equal, identical, matrix, ratio
from theory.theorem import Hypothesis, ProofStep, Theorem

t = symbols("t", nonnegative=True)
jump, potential_at_0, tangency_defect, jump_at_0 = symbols(
    "jump potential_at_0 tangency_defect jump_at_0", nonnegative=True
)
singularities = symbols("singularities", integer=True, nonnegative=True)

POTENTIAL_WEIGHT: Expr = Integer(1)
SKEW_WEIGHT: Expr = t


@dataclass(frozen=True)
class Presnov:
    """X = grad `potential` + `tangential`, where `tangential` = `skew` x and `skew` is skew."""

    potential: Expr
    tangential: Any
    skew: Any


def _generic(*branches: Any) -> Any:
    """The branch of a Piecewise that holds outside a set without interior."""
    for value, condition in branches:
        if not condition.atoms(Eq):
            return value
    return Piecewise(*branches)


def along_rays(expression: Any, variables: Sequence[Symbol], weight: Expr) -> Expr:
    """Integral of weight(t) expression(t x) over 0 <= t <= 1.

    Raises ValueError where SymPy finds no closed form.
    """
    if expression.is_polynomial(*variables):
        terms = Poly(expression, *variables).terms()
        average = {k: integrate(weight * t**k, (t, 0, 1)) for k in {sum(m) for m, _ in terms}}
        monomials = [Poly({m: c * average[sum(m)]}, *variables) for m, c in terms]
        return sum((m.as_expr() for m in monomials), Integer(0))
    ray = expression.subs({x: t * x for x in variables}, simultaneous=True)
    value: Any = integrate(expand(weight * ray), (t, 0, 1)).replace(Piecewise, _generic)
    if value.has(Integral, Piecewise) or not _agrees(value, weight * ray):
        raise ValueError(f"SymPy finds no closed form of {expression} averaged along rays")
    return value


def _agrees(value: Any, integrand: Any) -> bool:
    """Whether `value` is the integral at one point, by quadrature: SymPy's closed forms may take
    the wrong branch, and Euler's identity does not see a function of the angle."""
    names = sorted(integrand.free_symbols - {t}, key=str)
    point = {name: ratio(i + 3, i + 5) for i, name in enumerate(names)}
    exact = Integral(integrand.subs(point), (t, 0, 1)).evalf(15)
    difference = abs(value.subs(point).evalf(15) - exact)
    return bool(difference.is_number and difference.is_finite and difference < 1e-9)


def presnov(field: Sequence[Any] | Any, variables: Sequence[Symbol]) -> Presnov:
    """The decomposition of `field` (n expressions) in n `variables` [T1].

    U(x) = int_0^1 <x, X(tx)> dt with U(0) = 0, X_S = X - grad U = Lambda(x) x and
    Lambda(x) = int_0^1 t (DX - DX')(tx) dt. Other symbols are parameters. Where a formula is not
    polynomial it may have removable singularities (a division by x). Raises ValueError where the
    dimensions differ, where SymPy finds no closed form, or where it cannot confirm the result.
    """
    X, x = Matrix(list(field)), Matrix(list(variables))
    n = len(x)
    if n == 0 or len(X) != n:
        raise ValueError(
            f"the field has {len(X)} components for {n} variables: give one for each variable"
        )
    states = [Dummy(str(v), real=True, nonzero=True) for v in variables]
    there = dict(zip(variables, states, strict=True))
    back = dict(zip(states, variables, strict=True))
    X, x = X.subs(there), Matrix(states)
    DX = X.jacobian(x)
    average = X.applyfunc(lambda entry: along_rays(entry, states, POTENTIAL_WEIGHT))
    potential = (x.T * average)[0]
    tangential = (X - Matrix([diff(potential, v) for v in states])).applyfunc(simplify)
    rotation = DX - DX.T
    skew = rotation.applyfunc(lambda entry: simplify(along_rays(entry, states, SKEW_WEIGHT)))
    radial = (x.T * tangential)[0]
    if not (identical(radial, 0) and all(identical(d, 0) for d in tangential - skew * x)):
        raise ValueError(f"SymPy cannot confirm that X - grad U = Lambda x for the field {field}")
    return Presnov(simplify(potential).subs(back), tangential.subs(back), skew.subs(back))


# Steps of the proofs. ----------------------------------------------------------------------


def _generic_field(n: int) -> tuple[Any, Any, Any]:
    """Variables x, and the entries of X at t x for arbitrary functions X_i."""
    x = Matrix(symbols(f"x_1:{n + 1}", real=True))
    there = [t * v for v in x]
    return x, Matrix([Function(f"X_{i}")(*there) for i in range(n)]), there


def _radial_derivative(theorem: Theorem) -> bool:
    """With g(t) = <x, X(tx)>: U(sx) = int_0^s g, so <x, grad U(x)> = d/ds U(sx) at 1 = g(1)."""
    s, g = symbols("s", positive=True), Function("g")
    weight: Any = theorem.forms["potential weight"]
    # U(sx) = int_0^1 weight(t) s g(st) dt = int_0^s weight(r / s) g(r) dr
    r = symbols("r", nonnegative=True)
    along = Integral(weight.subs(t, r / s) * g(r), (r, 0, s))
    return identical(along.diff(s).subs(s, 1) - g(1), theorem.law)


def _tangential_part_is_lambda_x(theorem: Theorem) -> bool:
    """d/dt [t X_i(tx)] - d/dx_i <x, X(tx)> = sum_j x_j t [(d_j X_i)(tx) - (d_i X_j)(tx)]. When
    integrated over t, the left side is X - grad U and the right side Lambda x; n = 2, 3."""
    weights = [theorem.forms[name] for name in ("potential weight", "skew weight")]
    for n in (2, 3):
        x, X, _ = _generic_field(n)
        for i in range(n):
            left = diff(t * X[i], t) - weights[0] * diff((x.T * X)[0], x[i])
            right = sum(
                x[j] * weights[1] * (diff(X[i], x[j]) - diff(X[j], x[i])) / t for j in range(n)
            )
            if not identical((left - right).doit(), theorem.law):
                return False
    return True


def _on_all_monomials(theorem: Theorem) -> bool:
    """Both identities on every monomial vector of degree <= 4 in 2, 3 and 4 variables, with
    U = <x, X> / (k+1) and Lambda = (DX - DX') / (k+1) as the weights give them."""
    potential, skew = (theorem.forms[f"{name} weight"] for name in ("potential", "skew"))
    for n in (2, 3, 4):
        names = [f"x_{i}" for i in range(n)]
        polynomials, *x = ring(names, QQ)
        for monomial in itermonomials(symbols(names), 4):
            k = int(Poly(monomial, *symbols(names)).total_degree())
            u_k, s_k = (integrate(w * t**e, (t, 0, 1)) for w, e in ((potential, k), (skew, k - 1)))
            m = polynomials.from_expr(monomial)
            for i in range(n):
                U = x[i] * m * QQ(u_k.p, u_k.q)
                for j in range(n):
                    tangential = (m if i == j else polynomials.zero) - U.diff(x[j])
                    rotated = sum(
                        (
                            (
                                (m.diff(x[other]) if i == j else 0)
                                - (m.diff(x[j]) if i == other else 0)
                            )
                            * x[other]
                            for other in range(n)
                        ),
                        polynomials.zero,
                    )
                    if k and tangential - rotated * QQ(s_k.p, s_k.q) != theorem.law:
                        return False
                radial = x[i] * m - sum(x[j] * U.diff(x[j]) for j in range(n))
                if radial != theorem.law:
                    return False
    return True


def _skew_is_tangential(_: Theorem) -> bool:
    """<x, (M - M')x> = 0 for every matrix M of symbols."""
    M, x = matrix("M", 4, 4), matrix("x", 4, 1)
    return identical((x.T * (M - M.T) * x)[0], 0)


def _skew_gradient_form(_: Theorem) -> bool:
    """(X_S x' - x X_S') x = |x|^2 X_S - <x, X_S> x."""
    Y, x = matrix("Y", 3, 1), matrix("x", 3, 1)
    square, inner = (x.T * x)[0], (x.T * Y)[0]
    return (((Y * x.T - x * Y.T) * x) - (square * Y - inner * x)).expand() == Matrix([0, 0, 0])


def _pendulum(_: Theorem) -> bool:
    """X = (p, -sin x): U = xp/2 + p (cos x - 1)/x."""
    x, p = symbols("x p", real=True)
    parts = presnov([p, -sin(x)], [x, p])
    return identical(parts.potential, x * p / 2 + p * (cos(x) - 1) / x)


def _linear_field(_: Theorem) -> bool:
    """Mx splits into the symmetric and the skew part of M."""
    M, x = matrix("M", 3, 3), matrix("x", 3, 1)
    parts = presnov(M * x, list(x))
    symmetric = (x.T * (M + M.T) * x)[0] / 4
    return identical(parts.potential, symmetric) and parts.skew.expand() == ((M - M.T) / 2).expand()


def _componentwise_is_gradient(_: Theorem) -> bool:
    """X_i = sin(x_i)^3 + x_i^3, the field of the paper's appendix, has no tangential part."""
    x = symbols("x_1:4", real=True)
    X = Matrix([sin(v) ** 3 + v**3 for v in x])
    DX = X.jacobian(Matrix(x))
    return DX == DX.T and presnov([v**3 for v in x], x).tangential == Matrix([0, 0, 0])


def _difference_is_constant_on_rays(theorem: Theorem) -> bool:
    """<x, grad D> = 0 for D = W - U gives d/ds D(sx) = <sx, grad D(sx)> / s = 0."""
    s = symbols("s", positive=True)
    x = symbols("x_1:4", real=True)
    D = Function("D")
    on_ray = D(*(s * v for v in x))
    chain = sum(v * diff(on_ray, v) for v in x) / s  # <sx, (grad D)(sx)> / s
    return identical((diff(on_ray, s) - chain).doit(), theorem.law)


def _euler_forces_zero(theorem: Theorem) -> bool:
    """A homogeneous D of degree k >= 1 has <x, grad D> = k D: tangential only if D = 0."""
    x = symbols("x_1:4", real=True)
    for m in itermonomials(x, 5):
        k = int(Poly(m, *x).total_degree())
        if not identical(sum(v * diff(m, v) for v in x) - k * m, theorem.law):
            return False
    return True


def _angles_are_not_excluded_by_tangency(_: Theorem) -> bool:
    """W = xy / (x^2 + y^2) is constant on rays, grad W is tangential: W must be continuous."""
    x, y = symbols("x y", real=True)
    W = x * y / (x**2 + y**2)
    radial = x * diff(W, x) + y * diff(W, y)
    return identical(radial, 0) and W.subs({x: 1, y: 1}) == ratio(1, 2) != W.subs({x: 1, y: 0})


WEIGHTS = {"potential weight": POTENTIAL_WEIGHT, "skew weight": SKEW_WEIGHT}

presnov_decomposition = Theorem(
    id="T1-presnov",
    statement=r"X \in C^1:\quad X = \nabla U + \Lambda(x)\,x,\quad "
    r"U(x) = \int_0^1 \langle x, X(tx)\rangle\,dt,\quad "
    r"\Lambda(x) = \int_0^1 t\,(DX - DX^\top)(tx)\,dt,\quad \langle x, \Lambda(x)x\rangle = 0",
    words="Every field is the gradient of an explicit potential plus an explicit skew matrix "
    "applied to x, which keeps the norm.",
    source="Celledoni et al., slides SciCADE 2022 (the formula; the name Presnov is recalled); "
    "the matrix Lambda is derived here",
    status="derived",
    hypotheses=(
        Hypothesis(
            "smooth", "X is C^1 on the segment from 0 to x: it does not jump", equal(jump, 0)
        ),
        Hypothesis(
            "star-shaped",
            "X is defined on the whole segment from 0 to x",
            equal(singularities, 0),
        ),
    ),
    constant=Integer(0),
    measures="defect |X - grad U - Lambda x| or |<x, X - grad U>|",
    forms=WEIGHTS,
    proof=(
        ProofStep("<x, grad U(x)> = d/ds U(sx) at s = 1 = <x, X(x)>", _radial_derivative),
        ProofStep(
            "d/dt [t X(tx)] - grad <x, X(tx)> = t (DX - DX')(tx) x for arbitrary X, in 2 and 3 "
            "variables: integrated, X - grad U = Lambda x",
            _tangential_part_is_lambda_x,
        ),
        ProofStep(
            "all is linear in X, and both identities hold on each monomial vector of degree <= 4 "
            "in 2, 3, 4 variables, there U = <x, X>/(k+1) and Lambda = (DX - DX')/(k+1)",
            _on_all_monomials,
        ),
        ProofStep("<x, Lambda x> = 0 for a skew Lambda", _skew_is_tangential),
        ProofStep(
            "(X_S x' - x X_S') x = |x|^2 X_S: the other matrix with this action",
            _skew_gradient_form,
        ),
        ProofStep("a linear field splits into its symmetric and skew parts", _linear_field),
        ProofStep("the pendulum has U = xp/2 + p (cos x - 1)/x", _pendulum),
        ProofStep(
            "componentwise fields, the appendix's sin^3 x + x^3 among them, are gradients: they "
            "do not exercise the tangential part",
            _componentwise_is_gradient,
        ),
    ),
    warning="X in C^1 gives grad U in C^0 only, whose flow need not be unique: take X in C^2, or "
    "polynomial, where flows are built on the parts.",
)

presnov_uniqueness = Theorem(
    id="T1-presnov-uniqueness",
    statement=r"X = \nabla W + Y,\ \langle x, Y(x)\rangle = 0,\ W \text{ continuous},\ W(0) = 0 "
    r"\implies W(x) = \int_0^1 \langle x, X(tx)\rangle\,dt",
    words="There is one such decomposition only: any other potential that vanishes at the origin "
    "and is continuous there is the same.",
    source="derived here",
    status="derived",
    hypotheses=(
        Hypothesis("tangential", "<x, Y(x)> = 0 for every x", equal(tangency_defect, 0)),
        Hypothesis("origin", "W(0) = 0", equal(potential_at_0, 0)),
        Hypothesis(
            "continuous", "W is continuous at 0: it does not jump there", equal(jump_at_0, 0)
        ),
    ),
    constant=Integer(0),
    measures="difference |W - U|",
    forms={"potential weight": POTENTIAL_WEIGHT},
    proof=(
        ProofStep(
            "W - U is constant on rays: d/ds (W - U)(sx) = 0", _difference_is_constant_on_rays
        ),
        ProofStep(
            "U has <x, grad U> = <x, X>, so W - U has a tangential gradient", _radial_derivative
        ),
        ProofStep(
            "so it equals its value at 0; for polynomials Euler's <x, grad D> = kD says the same",
            _euler_forces_zero,
        ),
        ProofStep(
            "without continuity at 0, functions of the angle could be added",
            _angles_are_not_excluded_by_tangency,
        ),
    ),
)
