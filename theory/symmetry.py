"""Symmetry [T16]: what commutes with the field commutes with its flow and with every step."""

from typing import Any

from sympy import Function, Integer, Matrix, diff, expand, eye, symbols
from sympy import zeros as zero_matrix

from theory.algebra import equal, matrix
from theory.facts import h
from theory.identity import is_law
from theory.theorem import Hypothesis, ProofStep, Theorem

field_defect, map_defect, padding_defect = symbols(
    "field_defect map_defect padding_defect", nonnegative=True
)


def _stages_follow(theorem: Theorem) -> bool:
    """If the stages so far satisfy k_j(gx) = g k_j(x), the next one is evaluated at
    gx + h sum a_ij g k_j = g (x + h sum a_ij k_j), where the field commutes with g."""
    g, x = matrix("g", 2, 2), matrix("x", 2, 1)
    k, weights = [matrix(f"k{j}", 2, 1) for j in range(3)], matrix("a", 3, 1)
    start = zero_matrix(2, 1)
    moved = sum((weights[j] * g * k[j] for j in range(3)), start)
    still = sum((weights[j] * k[j] for j in range(3)), start)
    return is_law(theorem, (g * x + h * moved - g * (x + h * still)).expand())


def _flow_follows(theorem: Theorem) -> bool:
    """(g x(t))' - f(g x) = g (x' - f(x)): the image of a solution solves the same equation."""
    t = symbols("t", real=True)
    g = matrix("g", 2, 2)
    x = Matrix([Function("x_0")(t), Function("x_1")(t)])
    f = matrix("f", 2, 1)  # f(x(t)); equivariance says that f(g x(t)) is g times it
    return is_law(theorem, ((g * x).diff(t) - g * f - g * (x.diff(t) - f)).expand())


def _a_cube_is_not(theorem: Theorem) -> bool:
    """f(x) = x commutes with g(x) = x^3, which is not linear: (1 + h) x^3 against (1 + h)^3 x^3."""
    x = symbols("x", real=True)
    defect = expand((1 + h) * x**3 - ((1 + h) * x) ** 3)
    return diff(defect, h).subs(h, 0) == -2 * x**3 and not is_law(theorem, defect)


equivariance = Theorem(
    id="T16-equivariance",
    statement=r"f(gx) = g f(x),\ g \text{ linear}:\quad \Phi^t_f(gx) = g\,\Phi^t_f(x),\quad "
    r"\Psi^h_f(gx) = g\,\Psi^h_f(x)",
    words="A linear map that commutes with the field commutes with its flow and with every "
    "Runge-Kutta step, so a network of such steps inherits the symmetry.",
    source="derived here; whether it is in the paper was not confirmed",
    status="recalled",
    hypotheses=(
        Hypothesis("equivariant", "the field commutes with the map", equal(field_defect, 0)),
        Hypothesis("linear", "the map is linear", equal(map_defect, 0)),
    ),
    constant=Integer(0),
    measures="largest entry of |step of g x - g (step of x)|",
    proof=(
        ProofStep("stage by stage, k_i(gx) = g k_i(x), and so the step", _stages_follow),
        ProofStep("the image of a solution is a solution", _flow_follows),
        ProofStep("for a map that is not linear it fails: x^3", _a_cube_is_not),
    ),
)

# Shifts and convolutions. -------------------------------------------------------------------


def convolution(taps: Any, size: int, *, circular: bool) -> Any:
    """The matrix of a 1-D convolution with an odd number of taps, centred."""
    reach = len(taps) // 2
    A = zero_matrix(size, size)
    for row in range(size):
        for k, tap in enumerate(taps):
            column = row + k - reach
            if circular or 0 <= column < size:
                A[row, column % size] += tap
    return A


def shift(size: int) -> Any:
    """x_i -> x_(i+1), circularly."""
    return eye(size)[1:, :].col_join(eye(size)[:1, :])


def _taps() -> Any:
    return symbols("k_0:3", real=True)


def _commutes(theorem: Theorem) -> bool:
    """AP = PA for three taps on four and five entries; so with all powers of P."""
    return all(
        is_law(theorem, A * P - P * A)
        for size in (4, 5)
        for A, P in [(convolution(_taps(), size, circular=True), shift(size))]
    )


def _adjoint_commutes(theorem: Theorem) -> bool:
    """A' is the circular convolution with the taps in reverse order."""
    A = convolution(_taps(), 4, circular=True)
    reverse = convolution(tuple(reversed(_taps())), 4, circular=True)
    return is_law(theorem, A.T - reverse)


def _activation_commutes(theorem: Theorem) -> bool:
    """Sigma acts entry by entry, with one offset for all entries: it commutes with P."""
    sigma: Any = Function("sigma")
    x, b = matrix("x", 4, 1), symbols("b", real=True)
    P = shift(4)

    def act(v: Any) -> Any:
        return v.applyfunc(lambda entry: sigma(entry + b))

    return is_law(theorem, act(P * x) - P * act(x))


def _border_breaks_it(theorem: Theorem) -> bool:
    """Cut off at the border, AP - PA has entries k_0 and k_2 there."""
    A, P = convolution(_taps(), 4, circular=False), shift(4)
    defect = A * P - P * A
    entries = {entry for entry in defect if entry != 0}
    k = _taps()
    return not is_law(theorem, defect) and entries <= {k[0], -k[0], k[2], -k[2]}


shift_equivariance = Theorem(
    id="T16-shift",
    statement=r"A \text{ circular convolution},\ P \text{ shift}:\quad AP = PA",
    words="Circular convolutions, their adjoints and entrywise activations with one offset "
    "commute with shifts; zero padding breaks it at the border.",
    source="derived here",
    status="derived",
    hypotheses=(Hypothesis("circular", "the padding is circular", equal(padding_defect, 0)),),
    constant=Integer(0),
    measures="largest entry of |AP - PA|",
    proof=(
        ProofStep("AP = PA for circular padding", _commutes),
        ProofStep("A' is a circular convolution too", _adjoint_commutes),
        ProofStep("entrywise activations commute with shifts", _activation_commutes),
        ProofStep("with zero padding the border has the defects k_0 and k_2", _border_breaks_it),
    ),
)
