"""Structured networks are proved by audit, theorem named; published wrong forms are refuted."""

import pytest
import structured_cases as cases
import torch
import torch.nn.functional as F
from property_modules import judged
from torch import Tensor, nn

from dsnn.fields import (
    LayerPotential,
    PotentialField,
    RingMassField,
    separable_hamiltonian,
    sphere_field,
)
from dsnn.integrators import (
    ExplicitEuler,
    Heun,
    NumericalStep,
    Projected,
    RelaxedHeun,
    RungeKutta4,
    SymplecticEuler,
)
from dsnn.models import (
    Exchange,
    Permutation,
    StructuredNet,
    ZeroLift,
    mass_network,
    norm_network,
    symplectic_network,
    volume_network,
)
from dsnn.operators import Convolution, Dense

MASS, NORM, VOLUME = "mass-preserving", "norm-preserving", "volume-preserving"
SAME = nn.Identity()


def step(field, method) -> NumericalStep:
    return NumericalStep(field, method, 0.1)


def potential(operator) -> PotentialField:
    return PotentialField(LayerPotential(operator, weighted=True))


def rearranged() -> StructuredNet:
    flow = [step(separable_hamiltonian(4, 5), SymplecticEuler())]
    return StructuredNet(VOLUME, Permutation([2, 0, 1, 3]), flow, Exchange(4))


def lifted() -> StructuredNet:
    return StructuredNet(NORM, ZeroLift(3, 4), [step(sphere_field(4, 5), RelaxedHeun())], SAME)


PROVED = {
    "SIR, narrower than published": (
        MASS, "T14", lambda: mass_network((3, 6, 6, 8, 3), 1, 8, "relu", "relu"), (3,)
    ),
    "mass on a ring": (MASS, "T14", lambda: step(RingMassField(4, 5), RungeKutta4()), (4,)),
    "mass of images": (MASS, "T14", cases.MASS["images"].step, cases.IMAGE),
    "norm": (NORM, "T15", lambda: norm_network(4, 2, 6), (4,)),
    "norm behind a lift": (NORM, "T15", lifted, (3,)),
    "norm by projection": (NORM, "T15", lambda: step(sphere_field(4, 5), Projected()), (4,)),
    "norm of images": (NORM, "T15", cases.NORM["images"].step, cases.IMAGE),
    "volume": (VOLUME, "T12", lambda: volume_network(5, 2), (5,)),
    "volume, rearranged": (VOLUME, "T12", rearranged, (4,)),
    "symplectic": ("symplectic", "T13", lambda: symplectic_network(6, 2, 5), (6,)),
    "gradient part": ("gradient-field", "T2'", lambda: potential(Dense(3, 5)), (3,)),
    "gradient part of images": (
        "gradient-field", "T2'", lambda: potential(Convolution(2, 3)), cases.IMAGE
    ),
    "shift": ("equivariant:shift", "T16", cases.SHIFT["two layers, RK4"].step, cases.IMAGE),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "theorem", "make", "shape"), PROVED.values(), ids=list(PROVED))
def test_proved(claim: str, theorem: str, make, shape: tuple[int, ...]):
    torch.manual_seed(1)
    verdict = judged(claim, cases.randomised(make()), *shape)
    assert verdict.outcome == "proved", verdict.evidence
    assert verdict.evidence["theorem"] == theorem


class PublishedGradient(nn.Module):
    """D Aᵀ Σ(Ax + b), as the published code multiplies [T2']."""

    def __init__(self, dim: int):
        super().__init__()
        self.layer, self.alpha = nn.Linear(dim, dim), nn.Parameter(torch.rand(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.layer(x)), torch.diag(self.alpha) @ self.layer.weight.T)


REFUTED = {
    "explicit Euler on a sphere": (
        NORM, lambda: step(sphere_field(4, 5), ExplicitEuler()), 4
    ),
    "D A' Sigma": ("gradient-field", lambda: PublishedGradient(3), 3),
    "Heun on a Hamiltonian": ("symplectic", lambda: step(separable_hamiltonian(4, 5), Heun()), 4),
    "Euler on a Hamiltonian": (
        VOLUME, lambda: step(separable_hamiltonian(4, 5), ExplicitEuler()), 4
    ),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "make", "dim"), REFUTED.values(), ids=list(REFUTED))
def test_refuted(claim: str, make, dim: int):
    torch.manual_seed(1)
    verdict = judged(claim, cases.randomised(make()), dim)
    assert verdict.outcome == "refuted", verdict.evidence
