"""Every field is the projection of a Hamiltonian one [T3], every Euler step of a symplectic one.

H(x, p) = <p, f(x)> has the field (f(x), -Df(x)' p), whose x-part does not know p. Its symplectic
Euler step x+ = x + h f(x), p+ = (I + h Df(x)')^-1 p moves x as the ResNet layer does.
"""

from typing import Any

from sympy import Function, Gt, Integer, Matrix, diff, eye, symbols, zeros

from theory.algebra import equal, identical
from theory.facts import adjoint_defect, h
from theory.theorem import Hypothesis, ProofStep, Theorem

smallest_step = symbols("smallest_step", nonnegative=True)


def _lifted(n: int) -> tuple[Any, Any, Any, Any]:
    """Variables x and p, an arbitrary field f(x), and H = <p, f>."""
    x, p = (Matrix(symbols(f"{name}_1:{n + 1}", real=True)) for name in "xp")
    f = Matrix([Function(f"f_{i}")(*x) for i in range(n)])
    return x, p, f, (p.T * f)[0]


def symplectic_form(n: int) -> Any:
    """S = [[0, I], [-I, 0]] for the state (x, p)."""
    return Matrix.vstack(Matrix.hstack(zeros(n, n), eye(n)), Matrix.hstack(-eye(n), zeros(n, n)))


def _hamiltonian_field(theorem: Theorem) -> bool:
    """dH/dp = f and -dH/dx = -Df' p, and d f / dp = 0: the x-part is a field of its own."""
    for n in (1, 2, 3):
        x, p, f, H = _lifted(n)
        position = Matrix([diff(H, entry) for entry in p]) - f
        momentum = Matrix([diff(H, entry) for entry in x]) - f.jacobian(x).T * p
        coupled = Matrix([diff(H, entry) for entry in p]).jacobian(p)
        if not all(
            identical(e, theorem.law) for part in (position, momentum, coupled) for e in part
        ):
            return False
    return True


def _euler_is_symplectic(theorem: Theorem) -> bool:
    """In the coordinates (x, p+): x+ = x + h f(x) and p = p+ + h Df(x)' p+. With N and M the
    Jacobians of (x+, p+) and (x, p), the step has the Jacobian N M^-1, symplectic exactly when
    N'SN = M'SM. For arbitrary f in dimensions 1, 2, 3."""
    for n in (1, 2, 3):
        x, p, f, _ = _lifted(n)  # p stands for p+
        S, coordinates = symplectic_form(n), Matrix.vstack(x, p)
        new = Matrix.vstack(x + h * f, p).jacobian(coordinates)
        old = Matrix.vstack(x, p + h * f.jacobian(x).T * p).jacobian(coordinates)
        defect = new.T * S * new - old.T * S * old
        if not all(identical(entry, theorem.law) for entry in defect):
            return False
    return True


def _generated_by_h(theorem: Theorem) -> bool:
    """Symplectic Euler for H: x+ = x + h H_p(x, p+) and p+ = p - h H_x(x, p+)."""
    x, p, f, H = _lifted(2)
    step = x + h * Matrix([diff(H, entry) for entry in p]) - (x + h * f)
    kick = h * Matrix([diff(H, entry) for entry in x]) - h * f.jacobian(x).T * p
    return all(identical(entry, theorem.law) for part in (step, kick) for entry in part)


def _fails_where_it_cannot_be_solved(_: Theorem) -> bool:
    """f = -x, h = 1: I + h Df = 0, and no p+ solves 0 p+ = p."""
    x = symbols("x", real=True)
    return 1 + diff(-x, x) == 0


hamiltonian_lift = Theorem(
    id="T3-hamiltonian-lift",
    statement=r"H(x,p)=\langle p,f(x)\rangle,\ X_H=(f,\,-Df^\top p):\quad "
    r"P\circ\Phi^h_{X_H}\circ L = \Phi^h_f,\qquad "
    r"(x,p)\mapsto\big(x+hf(x),\,(I+hDf(x)^\top)^{-1}p\big)\text{ is symplectic}",
    words="Twice as many dimensions make every flow the projection of a Hamiltonian flow, exactly, "
    "and every ResNet layer the projection of a symplectic step.",
    source="the theorem is recalled from the paper; the lift and its step are derived here",
    status="derived",
    hypotheses=(
        Hypothesis(
            "adjoint", "p is moved by the transposed Jacobian of f at x", equal(adjoint_defect, 0)
        ),
        Hypothesis("invertible", "I + h Df(x) is invertible", Gt(smallest_step, 0)),
    ),
    constant=Integer(0),
    measures="symplectic defect of the lifted step, or distance of its x-part from the layer",
    proof=(
        ProofStep("X_H = (f, -Df' p), and its x-part is free of p", _hamiltonian_field),
        ProofStep("the step is symplectic Euler for H = <p, f>", _generated_by_h),
        ProofStep(
            "N'SN = M'SM in the coordinates (x, p+), for arbitrary f in dimensions 1 to 3",
            _euler_is_symplectic,
        ),
        ProofStep("I + h Df = 0 has no solution p+", _fails_where_it_cannot_be_solved),
    ),
    warning="The approximation theorem follows with T2-approximation: the lifting L(x) = (x, 0) "
    "and the projection P are linear and lose nothing.",
)
