"""Methods that stay on spheres: relaxation and projection of any other method [T15]."""

from torch import Tensor

from dsnn.fields import VectorField
from dsnn.integrators.base import Integrator
from dsnn.integrators.explicit import Heun
from dsnn.spheres import relax, rescale
from dsnn.structure import MASS, NORM, SHIFT


class RelaxedHeun(Integrator):
    """y+ = (1 - l) φ + l y with φ the step of Heun's method, l = (|φ|² - |y|²) / |φ - y|², and
    y+ = y where φ = y: the authors' step for X_S [T2'].

    |y+| = |y|. With the two stages k and k' that is l = h² |k - k'|² / (4 |φ - y|²) = O(h²), so the
    order of Heun's method stays; of a method of order 4 relaxation would cost one.
    """

    order = 2
    preserves = frozenset({NORM, MASS, SHIFT})

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        phi = Heun().advance(field, x, h)
        return relax(phi, x)


class Projected(Integrator):
    """y+ = φ |y| / |φ| with φ the step of `method`; and y+ = y where y = 0.

    |y+| = |y|, with the order of the method. Raises UserError where φ = 0 and y is not.
    """

    def __init__(self, method: Integrator | None = None):
        self.method = Heun() if method is None else method
        self.order = self.method.order
        self.preserves = frozenset({NORM}) | (self.method.preserves & {SHIFT})

    def require(self, field: VectorField) -> None:
        self.method.require(field)

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        phi = self.method.advance(field, x, h)
        return rescale(phi, x)
