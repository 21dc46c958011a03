"""Small fields with known invariants, on which `integrators_page` measures integrators."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from dsnn.fields import (
    EnergyField,
    HamiltonianField,
    Potential,
    SeparableHamiltonian,
    SplitField,
    SumField,
    VectorField,
)
from dsnn.structure import ENERGY, MASS, NORM, SYMPLECTIC, VOLUME

Field = TypeVar("Field", bound=VectorField)


class Known(Potential):
    """A function and its gradient, both written down."""

    def __init__(self, function: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function, self.derivative = function, gradient

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.derivative(x)


class Cross(EnergyField):
    """x' = x × grad I(x) in R³: a spinning body. It keeps I, |x|² and volume."""

    conserves = frozenset({ENERGY, NORM, VOLUME})

    def __init__(self, energy: Potential):
        super().__init__()
        self.energy = energy

    def integral(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.energy.gradient(x)

    def structure(self, x: Tensor, g: Tensor) -> Tensor:
        return torch.linalg.cross(x, g)


class Pair(SplitField):
    """Divergence-free in R⁴, without an energy."""

    conserves = frozenset({VOLUME})
    split = 2

    def drift(self, p: Tensor) -> Tensor:
        a, b = p.unbind(1)
        return torch.stack([torch.sin(a + 2 * b), torch.cos(a * b)], 1)

    def kick(self, q: Tensor) -> Tensor:
        a, b = q.unbind(1)
        return torch.stack([torch.sin(a) * b, torch.sin(b - a)], 1)


def _body(*inertia: float) -> Cross:
    a, first = torch.tensor(inertia).double(), torch.tensor([1.0, 0, 0]).double()
    return Cross(
        Known(
            lambda x: (a * x**2).sum(1) / 2 + x[:, 0] ** 4 / 4,
            lambda x: a * x + first * x**3,
        )
    )


def _precession() -> Cross:
    """Around (1, 1, 1): with an energy of the sum alone, the sum stays."""
    field = Cross(
        Known(
            lambda x: torch.sin(x.sum(1)),
            lambda x: torch.cos(x.sum(1, keepdim=True)).expand_as(x),
        )
    )
    return _keeping(field, MASS)


def _keeping(field: Field, name: str) -> Field:
    field.conserves = field.conserves | {name}
    return field


FREE = Known(lambda p: (p**2).sum(1) / 2, lambda p: p)
NOTHING = Known(lambda x: 0 * x.sum(1), torch.zeros_like)
WELLS = Known(  # Hénon-Heiles
    lambda q: (q**2).sum(1) / 2 + q[:, 0] ** 2 * q[:, 1] - q[:, 1] ** 3 / 3,
    lambda q: q + torch.stack([2 * q[:, 0] * q[:, 1], q[:, 0] ** 2 - q[:, 1] ** 2], 1),
)
OPPOSITE = torch.tensor([1.0, -1.0]).double()
# Two bodies that see their distance only: the sums of q and of p stay.
RELATIVE = Known(lambda p: (p @ OPPOSITE) ** 2 / 2, lambda p: (p @ OPPOSITE)[:, None] * OPPOSITE)
PENDULUMS = Known(
    lambda q: -torch.cos(q @ OPPOSITE), lambda q: torch.sin(q @ OPPOSITE)[:, None] * OPPOSITE
)


def _separable(kinetic: Potential, potential: Potential, *names: str) -> SeparableHamiltonian:
    field = SeparableHamiltonian(kinetic, potential, 4)
    field.conserves = field.conserves | set(names)
    return field


def _resonance() -> HamiltonianField:
    """H = a + a² + b² with a = q_1 q_2 + p_1 p_2 and b = q_1² + p_1²: it commutes with |x|²."""

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3], x[:, 0] ** 2 + x[:, 2] ** 2

    def value(x: Tensor) -> Tensor:
        a, b = parts(x)
        return a + a**2 + b**2

    def gradient(x: Tensor) -> Tensor:
        a, b = (part[:, None] for part in parts(x))
        of_b = 2 * x * torch.tensor([1.0, 0, 1, 0]).double()
        return (1 + 2 * a) * x[:, [1, 0, 3, 2]] + 2 * b * of_b

    return _keeping(HamiltonianField(Known(value, gradient), 4), NORM)


def problems() -> dict[str, dict[str, VectorField]]:
    """By kind of method, a field for each invariant that the method applies to."""
    wells, bodies = _separable(FREE, WELLS), SumField(_body(1, 2, 3), _body(2, 0.5, 1))
    coupled, body = _separable(RELATIVE, PENDULUMS, MASS), _body(1, 2, 3)
    split = SumField(_separable(FREE, NOTHING), _separable(NOTHING, WELLS))
    apart = SumField(_separable(RELATIVE, NOTHING, MASS), _separable(NOTHING, PENDULUMS, MASS))
    general = {MASS: coupled, NORM: body, ENERGY: wells, VOLUME: body, SYMPLECTIC: wells}
    oscillator = _separable(FREE, FREE, NORM)
    return {
        "any": general,
        "shears": {**general, NORM: oscillator, VOLUME: Pair()},
        "split": {MASS: apart, NORM: bodies, ENERGY: split, VOLUME: bodies, SYMPLECTIC: split},
        "spheres": {**general, MASS: _precession(), ENERGY: body, SYMPLECTIC: _resonance()},
        "gradients": general,
    }
