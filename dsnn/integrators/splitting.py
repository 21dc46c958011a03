"""Splittings: the two parts of a field, each with a method of its own [T2]."""

from typing import cast

from torch import Tensor

from dsnn.fields import SumField, VectorField
from dsnn.integrators.base import Integrator


class Splitting(Integrator):
    """Steps of `first` and `second` on the two parts of a `SumField`; it preserves what both do."""

    fields = SumField
    symmetric: bool

    def __init__(self, first: Integrator, second: Integrator):
        self.first, self.second = first, second
        self.order = min(2, first.order, second.order) if self.symmetric else 1
        self.preserves = first.preserves & second.preserves

    def require(self, field: VectorField) -> None:
        super().require(field)
        parts = cast(SumField, field)
        self.first.require(parts.first)
        self.second.require(parts.second)


class LieTrotter(Splitting):
    """`second` after `first`, h each: order 1 whatever the methods."""

    symmetric = False

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        parts = cast(SumField, field)
        return self.second.advance(parts.second, self.first.advance(parts.first, x, h), h)


class Strang(Splitting):
    """`first` over h/2, `second` over h, `first` over h/2: order 2, or that of a method below."""

    symmetric = True

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        parts = cast(SumField, field)
        x = self.first.advance(parts.first, x, h / 2)
        x = self.second.advance(parts.second, x, h)
        return self.first.advance(parts.first, x, h / 2)
