"""What structured steps keep, on random fields and inputs; and published forms that do not."""

from collections.abc import Callable

import pytest
import structured_cases as cases
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields import EnergyField, LayerPotential, PotentialField, SeparableHamiltonian
from dsnn.integrators import (
    AverageVectorField,
    ExplicitEuler,
    Gonzalez,
    NumericalStep,
    RungeKutta4,
)
from dsnn.operators import Dense
from dsnn.structure import MASS, NORM, SHIFT, SYMPLECTIC, VOLUME

STEPS = 10_000


@torch.no_grad()
def largest_drift(
    step: Callable[[Tensor], Tensor], x: Tensor, measure: Callable[[Tensor], Tensor], steps: int
) -> Tensor:
    """Largest |I(x_k) - I(x_0)| along the trajectories, which must stay numbers: (B,)."""
    start = measure(x)
    drift = torch.zeros_like(start)
    for _ in range(steps):
        x = step(x)
        drift = torch.maximum(drift, (measure(x) - start).abs())
    assert bool(x.isfinite().all())
    return drift


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def length(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of one state, over its entries: (n, n)."""
    found = torch.autograd.functional.jacobian(lambda s: function(s[None])[0], x)
    assert isinstance(found, Tensor)
    return found.reshape(x.numel(), x.numel())


def form(n: int) -> Tensor:
    identity, zero = torch.eye(n // 2).double(), torch.zeros(n // 2, n // 2).double()
    return torch.cat([torch.cat([zero, identity], 1), torch.cat([-identity, zero], 1)])


@cases.members(cases.MASS)
def test_mass_over_many_steps(case: cases.Case):
    """Over a time of 5 at most: the fields grow, and rounding is relative to the state by then."""
    step, x = case.step(time=5e-4), case.states(4)
    assert MASS in step.claims
    drift = largest_drift(step, x, total, case.steps)
    assert bool((drift <= 1e-12 * x.flatten(1).abs().sum(1)).all()), drift


@cases.members(cases.NORM)
def test_norm_over_many_steps(case: cases.Case):
    step, x = case.step(time=0.05), case.states(4)
    assert NORM in step.claims
    drift = largest_drift(step, x, length, case.steps)
    assert bool((drift <= 1e-12 * length(x)).all()), drift


@cases.members(cases.VOLUME | cases.SYMPLECTIC)
def test_volume(case: cases.Case):
    step = case.step()
    assert VOLUME in step.claims
    for x in case.states(3):
        assert abs(float(torch.linalg.det(jacobian(step, x)).abs()) - 1) <= 1e-10


@cases.members(cases.SYMPLECTIC)
def test_symplectic_form(case: cases.Case):
    step = case.step()
    assert SYMPLECTIC in step.claims
    for x in case.states(3):
        D, J = jacobian(step, x), form(x.numel())
        assert float((D.T @ J @ D - J).abs().max()) <= 1e-10


@cases.members(cases.VOLUME | cases.SYMPLECTIC)
def test_inverse(case: cases.Case):
    step, x = case.step(), case.states(20)
    assert float((step.inverse(step(x)) - x).abs().max()) <= 1e-12
    assert float((step(x) - x).abs().max()) > 1e-3


@cases.members(cases.SHIFT)
@pytest.mark.parametrize("shift", [(1, 0), (2, 3)])
def test_equivariance(case: cases.Case, shift: tuple[int, int]):
    step, x = case.step(), case.states(3)
    assert SHIFT in step.claims
    moved = step(x.roll(shift, (-2, -1)))
    assert float((moved - step(x).roll(shift, (-2, -1))).abs().max()) <= 1e-13


@pytest.mark.parametrize("method", [Gonzalez(), AverageVectorField()], ids=["Gonzalez", "AVF"])
@pytest.mark.parametrize("name", cases.ENERGY)
@pytest.mark.parametrize("steps", [150, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_energy_of_discrete_gradients(name: str, method: Gonzalez, steps: int):
    torch.manual_seed(0)
    step = NumericalStep(cases.ENERGY[name](), method, 1.0)
    step = cases.settled(cases.randomised(step), 0.05)
    field = step.field
    assert isinstance(field, EnergyField | SeparableHamiltonian)
    x = torch.randn(3, 4, dtype=torch.float64)
    assert float(largest_drift(step, x, field.integral, steps).max()) <= 1e-11


@cases.members(cases.MASS | cases.NORM | cases.VOLUME | cases.SYMPLECTIC)
def test_fields_conserve_what_they_say(case: cases.Case):
    """The derivative of the invariant along the field, at random states."""
    field, x = case.step().field, case.states(5)
    v = field(x)
    if MASS in field.conserves:
        assert float(total(v).abs().max()) <= 1e-14
    if NORM in field.conserves:
        assert float(total(v * x).abs().max()) <= 1e-13
    if VOLUME in field.conserves:
        assert all(abs(float(jacobian(field, state).trace())) <= 1e-13 for state in x)
    if SYMPLECTIC in field.conserves:
        for state in x:
            hamiltonian = form(state.numel()) @ jacobian(field, state)
            assert float((hamiltonian - hamiltonian.T).abs().max()) <= 1e-13


# What does not hold must be seen: the same measures on published and on naive forms. ----------


def test_explicit_euler_leaves_the_sphere():
    """|x + h Λ x|² = |x|² + h² |Λ x|² at every step; no claim is made of it either [T15]."""
    case = cases.NORM["relaxed Heun"]
    step = NumericalStep(case.step().field, ExplicitEuler(), 0.05).double()
    x = case.states(4)
    assert NORM not in step.claims
    assert float((largest_drift(step, x, length, 100) / length(x)).min()) > 1e-3
    growth = length(step(x)) ** 2 - length(x) ** 2
    (h,) = step.times()
    assert torch.allclose(growth, h**2 * length(step.field(x)) ** 2, rtol=1e-8)


@pytest.mark.parametrize("method", [ExplicitEuler(), RungeKutta4()], ids=["Euler", "RK4"])
def test_explicit_methods_are_not_symplectic(method: ExplicitEuler):
    case = cases.SYMPLECTIC["Verlet"]
    step = cases.settled(NumericalStep(case.step().field, method, 1.0).double(), 0.3)
    D, J = jacobian(step, case.states(1)[0]), form(6)
    assert not {SYMPLECTIC, VOLUME} & step.claims
    assert float((D.T @ J @ D - J).abs().max()) > 1e-8


def asymmetry(field: Callable[[Tensor], Tensor], x: Tensor) -> float:
    D = jacobian(field, x)
    return float((D - D.T).abs().max())


def test_presnov_gradient_part_and_the_published_form():
    """Aᵀ D Σ(Ax + b) is a gradient; the code's D Aᵀ Σ(Ax + b) is not [T2']."""
    torch.manual_seed(3)
    potential = cases.randomised(LayerPotential(Dense(4, 4), weighted=True))
    field, x = PotentialField(potential), torch.randn(4, dtype=torch.float64)
    weight, alpha = potential.layer.operator.weight, potential.alpha
    assert alpha is not None

    def published(state: Tensor) -> Tensor:
        return F.linear(potential.layer(state), torch.diag(alpha) @ weight.T)

    assert asymmetry(field, x) <= 1e-15
    assert asymmetry(published, x) > 1e-2


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("act", ["tanh", "sigmoid", "relu"])
def test_gradients_of_layer_potentials(act: str, weighted: bool):
    """The gradient written down is the derivative of the potential; large arguments included."""
    torch.manual_seed(4)
    potential: nn.Module = LayerPotential(Dense(3, 5), act, weighted=weighted)
    potential = cases.randomised(potential)
    x = (30 * torch.randn(50, 3, dtype=torch.float64)).requires_grad_(True)
    (automatic,) = torch.autograd.grad(potential(x).sum(), x)
    assert torch.allclose(potential.gradient(x), automatic, atol=1e-13, rtol=1e-13)
