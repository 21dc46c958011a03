"""Explicit Runge-Kutta methods: they keep linear invariants and symmetries [T14, T16].

Nothing else, in general. The stages are evaluated at points where the field is tangent to the
invariant hyperplane, and their combination stays in it.
"""

from torch import Tensor

from dsnn.fields import VectorField
from dsnn.integrators.base import Integrator
from dsnn.structure import MASS, SHIFT

LINEAR = frozenset({MASS, SHIFT})


class ExplicitEuler(Integrator):
    """x + h f(x)."""

    order = 1
    preserves = LINEAR

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        return field.euler(x, h)


class Heun(Integrator):
    """x + h/2 (k + f(x + h k)), k = f(x)."""

    order = 2
    preserves = LINEAR

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        first = field(x)
        return x + h / 2 * (first + field(x + h * first))


class RungeKutta4(Integrator):
    """The classical method of order 4."""

    order = 4
    preserves = LINEAR

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        k1 = field(x)
        k2 = field(x + h / 2 * k1)
        k3 = field(x + h / 2 * k2)
        k4 = field(x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
