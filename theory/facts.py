"""Symbols: what a law claims about a field, and what is true of it.

The laws are written in claims (a, s_min, s_max, w_max and the steps); hypotheses compare these
with the facts of a concrete field. s_min is always inf |Ax| / |x| over the input space, hence 0
for a matrix with fewer rows than columns.
"""

from sympy import Ge, Le, symbols
from sympy.logic.boolalg import And

from theory.algebra import equal
from theory.theorem import Hypothesis

# claims
a, s_min, s_max, w_max = symbols("a s_min s_max w_max", nonnegative=True)
h, h_1, h_2 = symbols("h h_1 h_2", real=True)
S = symbols("S", integer=True, positive=True)

# facts
slope_low, slope_high = symbols("slope_low slope_high", real=True)
push_low, push_high = symbols("push_low push_high", real=True)
sigma_min, sigma_max, omega_max = symbols("sigma_min sigma_max omega_max", nonnegative=True)
adjoint_defect = symbols("adjoint_defect", nonnegative=True)

gradient = Hypothesis(
    "gradient",
    "the outer matrix is the transpose of the inner one: the field is a gradient",
    equal(adjoint_defect, 0),
)
slopes = Hypothesis(
    "slopes",
    "all difference quotients of the activation lie in [a, 1], with 0 <= a",
    And(Ge(a, 0, evaluate=False), Ge(slope_low, a), Le(slope_high, 1)),
)
slopes_from_zero = Hypothesis(
    "slopes",
    "the activation is non-decreasing and 1-Lipschitz",
    And(Ge(slope_low, 0), Le(slope_high, 1)),
)
smallest = Hypothesis(
    "smallest",
    "s_min is at most inf |Ax| / |x| over the input space",
    And(Ge(s_min, 0, evaluate=False), Le(s_min, sigma_min)),
)
largest = Hypothesis("largest", "s_max is at least the norm of A", Ge(s_max, sigma_max))
push_norm = Hypothesis("push-norm", "w_max is at least the norm of W", Ge(w_max, omega_max))
push_lipschitz = Hypothesis(
    "push-slopes",
    "the activation of the expansive step is 1-Lipschitz",
    And(Ge(push_low, -1), Le(push_high, 1)),
)
push_monotone = Hypothesis(
    "push-slopes",
    "the activation of the second step is non-decreasing and 1-Lipschitz",
    And(Ge(push_low, 0), Le(push_high, 1)),
)
