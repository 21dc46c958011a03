"""The members of the families of structured fields, with random weights, for the tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from dsnn.fields import (
    FluxField,
    HamiltonianField,
    LayerPotential,
    MassField,
    OperatorSphereField,
    RingMassField,
    SeparableHamiltonian,
    ShiftField,
    VectorField,
    VolumeField,
    first_integral_field,
    hamiltonian,
    mass_field,
    separable_hamiltonian,
    sphere_field,
    volume_field,
)
from dsnn.integrators import (
    ExplicitEuler,
    Heun,
    ImplicitMidpoint,
    Integrator,
    NumericalStep,
    Projected,
    RelaxedHeun,
    RungeKutta4,
    StormerVerlet,
    SymplecticEuler,
)
from dsnn.operators import Convolution

IMAGE = (2, 4, 4)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """A field on states of this shape, and a method that keeps what it conserves."""

    make: Callable[[], VectorField]
    integrator: Integrator
    shape: tuple[int, ...]
    steps: int = 10_000
    """Over which an invariant must stay, fewer where others say the same."""

    def step(self, seed: int = 0, time: float = 0.1) -> NumericalStep:
        torch.manual_seed(seed)
        step = NumericalStep(self.make(), self.integrator, 1.0)
        return settled(randomised(step), time)

    def states(self, count: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, *self.shape, generator=generator, dtype=torch.float64)


def randomised(module: M) -> M:
    """In float64, every parameter moved by 0.3 N(0, 1): biases and weights alpha included."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def settled(step: NumericalStep, time: float) -> NumericalStep:
    """With this time, to the last bit, and nothing to learn."""
    nn.init.constant_(step.u, time)
    step.requires_grad_(False)
    return step


def circular() -> Convolution:
    return Convolution(IMAGE[0], IMAGE[0], circular=True)


def _images(half: int) -> LayerPotential:
    return LayerPotential(Convolution(half, 3, circular=True), weighted=True)


MASS = {
    "full, Euler": Case(lambda: MassField(4), ExplicitEuler(), (4,)),
    "full, Heun": Case(lambda: MassField(4), Heun(), (4,), 1_000),
    "triangle, Euler": Case(lambda: mass_field(4, 8), ExplicitEuler(), (4,)),
    "fluxes of one sign": Case(
        lambda: mass_field(4, 8, "sigmoid", "sigmoid"), ExplicitEuler(), (4,)
    ),
    "triangle, RK4": Case(lambda: mass_field(4, 8, "sigmoid"), RungeKutta4(), (4,), 1_000),
    "ring, Heun": Case(lambda: RingMassField(4, 8), Heun(), (4,), 1_000),
    "images": Case(lambda: FluxField(circular(), circular()), ExplicitEuler(), IMAGE, 1_000),
}
NORM = {
    "relaxed Heun": Case(lambda: sphere_field(4, 8), RelaxedHeun(), (4,)),
    "projected Heun": Case(lambda: sphere_field(4, 8), Projected(), (4,)),
    "projected Euler": Case(lambda: sphere_field(4, 8), Projected(ExplicitEuler()), (4,), 1_000),
    "images": Case(
        lambda: OperatorSphereField(circular(), circular(), circular()), RelaxedHeun(), IMAGE, 500
    ),
}
VOLUME = {
    "pair": Case(lambda: volume_field(6), SymplecticEuler(), (6,)),
    "odd pair": Case(lambda: volume_field(5, "sigmoid"), StormerVerlet(), (5,)),
    "channels": Case(
        lambda: VolumeField(Convolution(1, 1), Convolution(1, 1)), SymplecticEuler(), (2, 2, 2)
    ),
}
SYMPLECTIC = {
    "symplectic Euler": Case(lambda: separable_hamiltonian(6, 8), SymplecticEuler(), (6,)),
    "Verlet": Case(lambda: separable_hamiltonian(6, 8, "sigmoid"), StormerVerlet(), (6,)),
    "midpoint": Case(lambda: hamiltonian(6, 8), ImplicitMidpoint(), (6,)),
    "channels, Verlet": Case(
        lambda: SeparableHamiltonian(_images(1), _images(1), 2), StormerVerlet(), (2, 2, 2)
    ),
    "channels, midpoint": Case(
        lambda: HamiltonianField(_images(2), 2), ImplicitMidpoint(), (2, 2, 2)
    ),
}
SHIFT = {
    "two layers, RK4": Case(lambda: ShiftField(circular(), circular()), RungeKutta4(), IMAGE),
    "fluxes": MASS["images"],
    "spheres": NORM["images"],
    "Hamiltonian": Case(
        lambda: SeparableHamiltonian(_images(1), _images(1), 2), StormerVerlet(), IMAGE
    ),
}
ENERGY = {
    "Hamiltonian": lambda: hamiltonian(4, 6),
    "separable": lambda: separable_hamiltonian(4, 6),
    "first integral": lambda: first_integral_field(4, 6, 6),
}


def members(family: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", family.values(), ids=list(family))
