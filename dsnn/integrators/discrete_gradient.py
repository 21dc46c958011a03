"""Discrete gradients: x+ = x + h S g(x, x+) keeps I exactly, whatever I is [T15].

A discrete gradient g(x, y) of I obeys the chain rule <g, y - x> = I(y) - I(x).
"""

from abc import abstractmethod
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields import HasEnergy, VectorField
from dsnn.fields.base import along_batch, inner
from dsnn.integrators.base import Integrator
from dsnn.integrators.solver import fixed_point, size
from dsnn.structure import ENERGY

NEAR = 1e-5
"""Distance, as a part of the state, below which the gradient at the midpoint obeys the chain rule
to round-off by itself, as a rule: its error is of third order, and the correction would be noise.
A potential may vary on a scale of 1 far from the origin: from this distance on, what is missing
counts wherever it is more than `NOISE` units in the last place of the potential."""
NOISE = 4
NODES = 10
"""Of the quadrature in the average vector field: exact for polynomials up to degree 20."""
QUADRATURE = [(np.polynomial.legendre.leggauss(NODES)[k] + (1 - k)) / 2 for k in (0, 1)]
"""Its nodes in [0, 1], and its weights, which add up to 1."""
TOLERANCE = 1e-12
"""Largest error of the chain rule that the average vector field lets pass, as a part of the
integral's size: 10,000 steps add up to 1e-11 when errors have either sign."""


def gonzalez(energy: HasEnergy, x: Tensor, y: Tensor) -> Tensor:
    """grad I(m) + (I(y) - I(x) - <grad I(m), d>) / |d|² d, m = (x + y) / 2, d = y - x: (B, ...).

    At coincident points it is the limit, grad I(x), as a value and in its derivatives.
    """
    m, d = (x + y) / 2, y - x
    g = energy.gradient(m)
    square = inner(d, d)
    before, after = energy.integral(x), energy.integral(y)
    missing = along_batch(after - before, d) - inner(g, d)
    round_off = NOISE * torch.finfo(x.dtype).eps * along_batch(before.abs() + after.abs(), d)
    apart = square > (NEAR * (size(x) + size(y)).clamp_max(1)) ** 2
    apart = apart & (missing.abs() > round_off)
    return g + torch.where(apart, missing / torch.where(apart, square, 1.0), 0.0) * d


def average(energy: HasEnergy, x: Tensor, y: Tensor) -> Tensor:
    """The mean of grad I on the segment from x to y, by Gauss-Legendre quadrature: (B, ...).

    Exact for polynomials; for smooth I the error falls fast with |y - x|, for a gradient with
    kinks slowly. At coincident points it is grad I(x).
    """
    nodes, weights = (torch.tensor(v, dtype=x.dtype, device=x.device) for v in QUADRATURE)
    # All nodes in one batch: (nodes, 1, ..., 1) and (nodes, B, ...).
    nodes, weights = (v.reshape(-1, *[1] * x.ndim) for v in (nodes, weights))
    points = x + nodes * (y - x)
    gradients = energy.gradient(points.flatten(0, 1)).reshape(points.shape)
    return (weights * gradients).sum(0)


class DiscreteGradient(Integrator):
    """x+ = x + h S(m) g(x, x+), m = (x + x+) / 2, solved to round-off. Symmetric, of order 2.

    Raises UserError when the solver diverges.
    """

    order = 2
    preserves = frozenset({ENERGY})
    fields = HasEnergy

    @abstractmethod
    def discrete(self, energy: HasEnergy, x: Tensor, y: Tensor) -> Tensor: ...

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        energy = cast(HasEnergy, field)

        def update(d: Tensor) -> Tensor:
            return h * energy.structure(x + d / 2, self.discrete(energy, x, x + d))

        start = h * field(x)
        with torch.no_grad():  # What the rounding of I adds to d, through the correction along d.
            square = inner(start, start)
            turned = size(h * energy.structure(x + start / 2, start))
            values = along_batch(energy.integral(x).abs(), start)
            noise = torch.where(square > 0, values * turned / square, 0.0)
        return x + fixed_point(update, start, size(x), type(self).__name__, h, noise)


class Gonzalez(DiscreteGradient):
    """With the gradient at the midpoint, corrected along the increment (Gonzalez 1996)."""

    def discrete(self, energy: HasEnergy, x: Tensor, y: Tensor) -> Tensor:
        return gonzalez(energy, x, y)


class AverageVectorField(DiscreteGradient):
    """With the mean gradient on the segment (McLachlan, Quispel, Robidoux 1999).

    Raises UserError as well when the quadrature misses the chain rule: the energy would drift.
    """

    def discrete(self, energy: HasEnergy, x: Tensor, y: Tensor) -> Tensor:
        return average(energy, x, y)

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        y = super().advance(field, x, h)
        energy = cast(HasEnergy, field)
        with torch.no_grad():
            before, after = energy.integral(x), energy.integral(y)
            mean, epsilon = average(energy, x, y), torch.finfo(x.dtype).eps
            missed = (after - before - inner(mean, y - x).reshape(-1)).abs()
            rounded = 16 * epsilon * (inner(mean, mean) * inner(x, x)).sqrt().reshape(-1)  # of x
            largest = torch.maximum(before.abs(), after.abs()).clamp_min(1)
            error = float(((missed - rounded) / largest).max())
        limit = max(TOLERANCE, 16 * epsilon)
        if not error <= limit:
            raise UserError(
                f"AverageVectorField: {NODES} nodes miss the chain rule by {error:.1g} (limit "
                f"{limit:.1g}) at h = {float(h.detach()):g}: take a smaller step, or Gonzalez"
            )
        return y
