"""Symplectic steps of Hamiltonian fields [T13]: shears by gradients, implicit midpoint.

The state is (q, p), J = [[0, I], [-I, 0]], and a map with Jacobian D is symplectic when D'JD = J.
q+ = q + h B'Sigma(Bp + b) has the Jacobian [[I, h B'DB], [0, I]] with a symmetric corner, as has
p+ = p - h C'Sigma(Cq + c); symplectic Euler and Stoermer-Verlet are made of these.
"""

from typing import Any

from sympy import Integer, Matrix, eye, solve, symbols
from sympy import zeros as zero_matrix

from theory.algebra import diagonal, equal, identical, matrix
from theory.facts import gradient, h
from theory.identity import is_law
from theory.theorem import Hypothesis, ProofStep, Theorem

stale, hessian_defect, layer_defect = symbols("stale hessian_defect layer_defect", nonnegative=True)


def structure(size: int) -> Any:
    """J = [[0, I], [-I, 0]] with blocks of this size."""
    zero, one = zero_matrix(size, size), eye(size)
    return zero.row_join(one).col_join((-one).row_join(zero))


def push_q(corner: Any) -> Any:
    """[[I, corner], [0, I]]: q moves with p."""
    size = corner.rows
    return eye(size).row_join(corner).col_join(zero_matrix(size, size).row_join(eye(size)))


def push_p(corner: Any) -> Any:
    """[[I, 0], [-corner, I]]: p moves with q."""
    size = corner.rows
    return eye(size).row_join(zero_matrix(size, size)).col_join((-corner).row_join(eye(size)))


def _hessian(name: str, size: int) -> Any:
    """A'DA on symbols."""
    A = matrix(name, size, size)
    return A.T * diagonal("D" + name, size) * A


def _symmetric(name: str, size: int) -> Any:
    return Matrix(size, size, lambda i, j: symbols(f"{name}_{min(i, j)}{max(i, j)}", real=True))


def _defect(D: Any) -> Any:
    J = structure(D.rows // 2)
    return (D.T * J * D - J).expand()


def _gradient_shears(theorem: Theorem) -> bool:
    """Corners h B'DB and h C'DC are symmetric, so both shears are symplectic."""
    return is_law(theorem, _defect(push_q(h * _hessian("B", 2)))) and is_law(
        theorem, _defect(push_p(h * _hessian("C", 2)))
    )


def _composition(theorem: Theorem) -> bool:
    """(DE)'J(DE) - J = E'(D'JD - J)E + (E'JE - J): the defects of two maps add up to none."""
    D, E, J = matrix("D", 2, 2), matrix("E", 2, 2), structure(1)
    whole = (D * E).T * J * (D * E) - J
    parts = E.T * (D.T * J * D - J) * E + (E.T * J * E - J)
    return is_law(theorem, (whole - parts).expand())


def _symplectic_euler(theorem: Theorem) -> bool:
    """p+ with the new q, on symmetric corners of size 2."""
    U, L = push_q(h * _symmetric("B", 2)), push_p(h * _symmetric("C", 2))
    return is_law(theorem, _defect(L * U))


def _stoermer_verlet(theorem: Theorem) -> bool:
    """Half a step of p, one of q, half a step of p with another Hessian."""
    first, last = (push_p(h / 2 * _symmetric(name, 1)) for name in ("B", "C"))
    middle = push_q(h * _symmetric("D", 1))
    return is_law(theorem, _defect(last * middle * first))


def _skew_part_is_the_defect(_: Theorem) -> bool:
    """With any corner M the defect has the block h (M' - M): not a gradient, not symplectic."""
    M = matrix("M", 2, 2)
    defect = _defect(push_q(h * M))
    return (defect[2:, 2:] - h * (M.T - M)).expand() == zero_matrix(2, 2)


def _explicit_euler_is_not(theorem: Theorem) -> bool:
    """With the old q in both halves the determinant is 1 + h^2 b c, so the map is not."""
    b, c = symbols("b c", real=True)
    D = Matrix([[1, h * b], [-h * c, 1]])
    defect = _defect(D)
    return identical(defect[0, 1], h**2 * b * c) and not is_law(theorem, defect)


_order = Hypothesis("order", "every shear reads what the one before has written", equal(stale, 0))

symplectic_shears = Theorem(
    id="T13-symplectic-shears",
    statement=r"q^+ = q + h B^\top\Sigma(Bp+b),\ p^+ = p - h C^\top\Sigma(Cq^+ + c):\quad "
    r"D^\top J D = J",
    words="Shears of the two halves by gradients, in any number and order, are symplectic: "
    "symplectic Euler and Stoermer-Verlet on separable Hamiltonians are made of them.",
    source="Celledoni et al., slides SciCADE 2022; Murari, lecture notes 5.5",
    status="published",
    hypotheses=(gradient, _order),
    constant=Integer(0),
    measures="largest entry of |D'JD - J|",
    proof=(
        ProofStep("shears with corners h B'DB and h C'DC are symplectic", _gradient_shears),
        ProofStep("compositions of symplectic maps are symplectic", _composition),
        ProofStep("symplectic Euler", _symplectic_euler),
        ProofStep("Stoermer-Verlet", _stoermer_verlet),
        ProofStep("a shear with corner h M has the defect h (M' - M)", _skew_part_is_the_defect),
        ProofStep("explicit Euler has the defect h^2 b c in the plane", _explicit_euler_is_not),
    ),
)


def _layers_are_symplectic(_: Theorem) -> bool:
    return _gradient_shears(symplectic_shears) and _composition(symplectic_shears)


def _structure_is_orthogonal(_: Theorem) -> bool:
    J = structure(2)
    return eye(4) == J.T * J


def _norm_of_the_transform(theorem: Theorem) -> bool:
    """|x| = |Jx| = |D'JDx| <= |D|^2 |x|: n^2 >= 1 for the norm n, whose least value is the law."""
    n = symbols("n", positive=True)
    return solve(n**2 - 1, n) == [theorem.law]


def _rotation_attains_it(theorem: Theorem) -> bool:
    """Three shears with corners -1 make the quarter turn [[0, -1], [1, 0]]: orthogonal."""
    one = Matrix([[1]])
    D = push_q(-one) * push_p(-one) * push_q(-one)
    return theorem.law * eye(2) == D.T * D and _defect(D) == zero_matrix(2, 2)


no_vanishing_gradient = Theorem(
    id="T13-no-vanishing-gradient",
    statement=r"D_i^\top J D_i = J:\quad |D_k \cdots D_1|_2 \ge 1",
    words="The Jacobian of a chain of symplectic layers, however long, has norm at least 1: its "
    "gradients do not vanish.",
    source="Murari, lecture notes (44); Galimberti et al.",
    status="published",
    hypotheses=(Hypothesis("symplectic", "every layer is symplectic", equal(layer_defect, 0)),),
    constant=Integer(1),
    bound="lower",
    measures="norm of the Jacobian",
    proof=(
        ProofStep(
            "the layers and their compositions are symplectic [T13-symplectic-shears]",
            _layers_are_symplectic,
        ),
        ProofStep("J is orthogonal: |Jx| = |x|", _structure_is_orthogonal),
        ProofStep("|x| = |D'JDx| <= |D|^2 |x|, so the norm is at least 1", _norm_of_the_transform),
        ProofStep("a quarter turn of three shears has norm 1", _rotation_attains_it),
    ),
    sharp="a quarter turn made of three shears",
)


def _cayley_condition(theorem: Theorem) -> bool:
    """With K = (h/2) J S, (I + K)'J(I + K) - (I - K)'J(I - K) = 2(K'J + JK) vanishes."""
    J = structure(2)
    K = h / 2 * J * _symmetric("S", 4)
    plus, minus = eye(4) + K, eye(4) - K
    difference = (plus.T * J * plus - minus.T * J * minus).expand()
    doubled = (2 * (K.T * J + J * K)).expand()
    return difference == doubled and is_law(theorem, difference)


def _factors_commute(theorem: Theorem) -> bool:
    """(I - K)(I + K) = (I + K)(I - K), so D = (I - K)^-1 (I + K) = (I + K)(I - K)^-1, and the
    condition, multiplied by (I - K)^-1 on both sides, is D'JD = J."""
    K = matrix("K", 3, 3)
    return is_law(theorem, ((eye(3) - K) * (eye(3) + K) - (eye(3) + K) * (eye(3) - K)).expand())


def _in_the_plane(theorem: Theorem) -> bool:
    """D itself, for one degree of freedom."""
    K = h / 2 * structure(1) * _symmetric("S", 2)
    D = (eye(2) - K).inv() * (eye(2) + K)
    J = structure(1)
    return is_law(theorem, (D.T * J * D - J).applyfunc(lambda entry: entry.cancel()))


def _midpoint_needs_a_symmetric_hessian(theorem: Theorem) -> bool:
    J = structure(1)
    K = h / 2 * J * matrix("M", 2, 2)
    return not is_law(theorem, (2 * (K.T * J + J * K)).expand())


implicit_midpoint = Theorem(
    id="T13-implicit-midpoint",
    statement=r"z^+ = z + h J \nabla H\big(\tfrac{z+z^+}{2}\big):\quad D^\top J D = J",
    words="Wherever it is defined, the implicit midpoint rule is symplectic for every Hamiltonian, "
    "separable or not: its Jacobian is the Cayley transform of (h/2) J times a symmetric matrix.",
    source="Hairer, Lubich, Wanner, Geometric Numerical Integration, VI.4",
    status="published",
    hypotheses=(
        Hypothesis(
            "hamiltonian",
            "the field is J times a gradient: the matrix S at the midpoint is symmetric",
            equal(hessian_defect, 0),
        ),
    ),
    constant=Integer(0),
    measures="largest entry of |D'JD - J|",
    proof=(
        ProofStep("(I + K)'J(I + K) = (I - K)'J(I - K) for K = (h/2) J S", _cayley_condition),
        ProofStep("I - K and I + K commute, so that says D'JD = J", _factors_commute),
        ProofStep("D itself, for one degree of freedom", _in_the_plane),
        ProofStep(
            "with a matrix that is not symmetric it fails", _midpoint_needs_a_symmetric_hessian
        ),
    ),
)
