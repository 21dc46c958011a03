"""The implicit midpoint rule: symplectic for every Hamiltonian, and exact on spheres [T13, T15]."""

from torch import Tensor

from dsnn.fields import VectorField
from dsnn.integrators.base import InvertibleIntegrator
from dsnn.integrators.solver import fixed_point, size
from dsnn.structure import MASS, NORM, SHIFT, SYMPLECTIC


class ImplicitMidpoint(InvertibleIntegrator):
    """x+ = x + h f((x + x+) / 2), solved to round-off.

    It keeps quadratic invariants, |x|² among them, and the symplectic form; not the volume of a
    field that is not Hamiltonian. Symmetric, so the inverse is the step of time -h. Raises
    UserError when the solver diverges. Where h times the Lipschitz constant of the field is 2 or
    more, the equation may have several solutions, of which rounding chooses one: symmetries may be
    lost, and `inverse` gives one of the states that step to y.
    """

    order = 2
    preserves = frozenset({MASS, NORM, SYMPLECTIC, SHIFT})

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        start = h * field(x)
        d = fixed_point(lambda d: h * field(x + d / 2), start, size(x), "ImplicitMidpoint", h)
        return x + d

    def inverse(self, field: VectorField, y: Tensor, h: Tensor) -> Tensor:
        return self.advance(field, y, -h)
