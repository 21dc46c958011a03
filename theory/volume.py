"""Volume preservation [T12]: shears of the two halves of the state, one after the other.

A divergence-free field (x, v)' = (f(v), g(x)) is split into x+ = x + h f(v), which moves x by a
function of v only, and v+ = v + h g(x+). Each has a triangular Jacobian with ones on the diagonal.
"""

from typing import Any

from sympy import Function, Integer, Matrix, eye, symbols
from sympy import zeros as zero_matrix

from theory.algebra import equal, identical, matrix
from theory.facts import h
from theory.identity import is_law
from theory.theorem import Hypothesis, ProofStep, Theorem

own_dependence, stale = symbols("own_dependence stale", nonnegative=True)
SHAPES = ((2, 2), (2, 1), (1, 3))


def shears(top: int, bottom: int):
    """Jacobians of x+ = x + h f(v) and of v+ = v + h g(x), with free symbols for f' and g'."""
    F, G = matrix("F", top, bottom), matrix("G", bottom, top)
    upper = eye(top).row_join(h * F).col_join(zero_matrix(bottom, top).row_join(eye(bottom)))
    lower = eye(top).row_join(zero_matrix(top, bottom)).col_join((h * G).row_join(eye(bottom)))
    return upper, lower


def _determinant_is_one(theorem: Theorem) -> bool:
    """For 2+2, 2+1 and 1+3 dimensions and any partial derivatives."""
    for shape in SHAPES:
        upper, lower = shears(*shape)
        defects = [(J.det(method="berkowitz") - 1).expand() for J in (upper, lower, lower * upper)]
        if not all(is_law(theorem, defect) for defect in defects):
            return False
    return True


def _inverse(theorem: Theorem) -> bool:
    """v = v+ - h g(x+), then x = x+ - h f(v), for any functions f and g, gives back (x, v)."""
    x, v = symbols("x v", real=True)
    f, g = Function("f"), Function("g")
    x_new = x + h * f(v)
    v_new = v + h * g(x_new)
    v_back = v_new - h * g(x_new)
    x_back = x_new - h * f(v_back)
    return is_law(theorem, v_back - v) and is_law(theorem, x_back - x)


def _divergence_free(theorem: Theorem) -> bool:
    """The trace of [[0, f'], [g', 0]]."""
    upper, lower = shears(2, 2)
    return is_law(theorem, (upper + lower - 2 * eye(4)).trace())


def _explicit_euler_is_not(theorem: Theorem) -> bool:
    """With the old x in the second half: 1 - h^2 f'g' in the plane, I - h^2 F G in 2+2."""
    f, g = symbols("f g", real=True)
    plane: Any = Matrix([[1, h * f], [h * g, 1]]).det()
    upper, lower = shears(2, 2)
    F, G = upper[:2, 2:] / h, lower[2:, :2] / h
    both: Any = (upper + lower - eye(4)).det(method="berkowitz")
    schur = (eye(2) - h**2 * F * G).det()
    return (
        identical(plane, 1 - h**2 * f * g)
        and identical(both, schur)
        and not is_law(theorem, plane - 1)
    )


volume = Theorem(
    id="T12-volume",
    statement=r"x^+ = x + h f(v),\ v^+ = v + h g(x^+):\quad |\det D| = 1",
    words="Two shears, each moving one half of the state by any function of the other half, "
    "preserve volume whatever their weights, and are inverted explicitly.",
    source="Celledoni et al., slides HB60 and ICIAM 2023",
    status="published",
    hypotheses=(
        Hypothesis(
            "shear",
            "each half is moved by a function of the other half alone",
            equal(own_dependence, 0),
        ),
        Hypothesis(
            "order", "the second shear reads what the first one has written", equal(stale, 0)
        ),
    ),
    constant=Integer(0),
    measures="| |det D| - 1 | of the Jacobian D",
    proof=(
        ProofStep("each shear, and their product, has determinant 1", _determinant_is_one),
        ProofStep("v = v+ - h g(x+), x = x+ - h f(v) is the inverse", _inverse),
        ProofStep("the field (f(v), g(x)) has divergence 0", _divergence_free),
        ProofStep(
            "explicit Euler, with the old x in both halves, has det(I - h^2 f'g')",
            _explicit_euler_is_not,
        ),
    ),
)
