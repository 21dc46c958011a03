"""What every vector field is: x -> dx/dt, built from linear operators and an activation."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dsnn.operators import LinearOperator
from dsnn.structure import ENERGY, SHIFT


class VectorField(nn.Module, ABC):
    """dx/dt = f(x); `forward` maps a batch of states to a batch of velocities of that shape.

    `claims` are the properties of the map f itself (a gradient field, an equivariant one), and
    `conserves` those of its exact flow, which an integrator may keep; names of `dsnn.structure`.
    """

    claims: frozenset[str] = frozenset()
    conserves: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def euler(self, x: Tensor, time: Tensor) -> Tensor:
        """The explicit Euler step x + time f(x); a field may compute the same map faster."""
        return x + time * self(x)


class SplitField(VectorField):
    """(q, p)' = (drift(p), kick(q)): each part of the state is moved by the other alone.

    q are the first `split` entries of dimension 1 (features or channels), p the others.
    """

    split: int

    @abstractmethod
    def drift(self, p: Tensor) -> Tensor: ...

    @abstractmethod
    def kick(self, q: Tensor) -> Tensor: ...

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.split], x[:, self.split :]

    def forward(self, x: Tensor) -> Tensor:
        q, p = self.parts(x)
        return torch.cat([self.drift(p), self.kick(q)], 1)


class EnergyField(VectorField):
    """x' = S(x) grad I(x) with the three parts at hand, as discrete gradients need them [T15].

    `integral` maps states (B, ...) to values (B,), `gradient` to grad I(x), and `structure(x, g)`
    is S(x) g: with S skew the field conserves I, with S = -1 it lets it fall.
    """

    @abstractmethod
    def integral(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def structure(self, x: Tensor, g: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        return self.structure(x, self.gradient(x))


@runtime_checkable
class HasEnergy(Protocol):
    """The three parts of an `EnergyField`, which fields of another form may have too."""

    def integral(self, x: Tensor) -> Tensor: ...

    def gradient(self, x: Tensor) -> Tensor: ...

    def structure(self, x: Tensor, g: Tensor) -> Tensor: ...


class SumField(VectorField):
    """f = first + second, which splittings integrate one after the other [T2].

    Each may conserve an energy of its own, and their sum then conserves neither.
    """

    def __init__(self, first: VectorField, second: VectorField):
        super().__init__()
        self.first, self.second = first, second
        self.claims = first.claims & second.claims
        self.conserves = (first.conserves & second.conserves) - {ENERGY}

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)


def equivariance(*operators: LinearOperator) -> frozenset[str]:
    """{equivariant:shift} when all operators are; biases are one number a channel [T16]."""
    return frozenset({SHIFT}) if all(A.shift_equivariant for A in operators) else frozenset()


def along_batch(vector: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1): one number for each state of `like`."""
    return vector.reshape(-1, *[1] * (like.ndim - 1))


def inner(x: Tensor, y: Tensor) -> Tensor:
    """<x, y> of every pair of states, over all entries but the first dimension: (B, 1, ..., 1)."""
    return (x * y).sum(dim=tuple(range(1, x.ndim)), keepdim=True)
