"""Shears of the two halves, one after the other: symplectic Euler, Störmer-Verlet [T12, T13].

Each shear moves one part of the state by a function of the other, so it has determinant 1 and an
explicit inverse; by a gradient, it is symplectic. A linear invariant of a split field is one of
each shear, up to a constant rate that cancels in a step.
"""

from typing import cast

import torch
from torch import Tensor

from dsnn.fields import SplitField, VectorField
from dsnn.integrators.base import InvertibleIntegrator
from dsnn.structure import MASS, SHIFT, SYMPLECTIC, VOLUME

SHEARS = frozenset({SYMPLECTIC, VOLUME, MASS, SHIFT})


class SymplecticEuler(InvertibleIntegrator):
    """q+ = q + h drift(p), p+ = p + h kick(q+)."""

    order = 1
    preserves = SHEARS
    fields = SplitField

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        split = cast(SplitField, field)
        q, p = split.parts(x)
        q = q + h * split.drift(p)
        return torch.cat([q, p + h * split.kick(q)], 1)

    def inverse(self, field: VectorField, y: Tensor, h: Tensor) -> Tensor:
        split = cast(SplitField, field)
        q, p = split.parts(y)
        p = p - h * split.kick(q)
        return torch.cat([q - h * split.drift(p), p], 1)


class StormerVerlet(InvertibleIntegrator):
    """p½ = p + h/2 kick(q), q+ = q + h drift(p½), p+ = p½ + h/2 kick(q+); symmetric."""

    order = 2
    preserves = SHEARS
    fields = SplitField

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        split = cast(SplitField, field)
        q, p = split.parts(x)
        p = p + h / 2 * split.kick(q)
        q = q + h * split.drift(p)
        return torch.cat([q, p + h / 2 * split.kick(q)], 1)

    def inverse(self, field: VectorField, y: Tensor, h: Tensor) -> Tensor:
        return self.advance(field, y, -h)
