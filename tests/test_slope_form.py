"""Constants from the slopes of activations: against Jacobians at random points, and exact cases."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from sympy import oo
from torch import Tensor, nn

from dsnn.fields import GradientField, VectorField, hamiltonian
from dsnn.integrators import ExplicitEuler, NumericalStep
from dsnn.operators import Dense
from verification import audit
from verification import derive as derive_field
from verification.capture import capture
from verification.certificate import Finding, Subject, write
from verification.lipschitz import derive
from verification.slope_form import SlopeForm, centred, one_sided, slope_form


class Mixed(VectorField):
    """Wσ(Vx + v) + Kx - c x in float64, with W, V, K random: no structure at all."""

    def __init__(self, seed: int, act: nn.Module):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def matrix(rows: int, columns: int) -> nn.Parameter:
            entries = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            return nn.Parameter(entries / 3)

        self.W, self.V, self.K, self.act = matrix(4, 7), matrix(7, 4), matrix(4, 4), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x @ self.V.T + 0.1) @ self.W.T + x @ self.K.T


class Damped(VectorField):
    """x' = J grad H(x) - c x."""

    def __init__(self, dim: int, c: float):
        super().__init__()
        self.energy, self.c = hamiltonian(dim, dim), c

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x) - self.c * x


def form(field: nn.Module, n: int) -> SlopeForm:
    found = slope_form(capture(field, (n,)))
    assert isinstance(found, SlopeForm), found
    return found


def jacobians(field: nn.Module, n: int) -> Tensor:
    points = 3 * torch.randn(64, n, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return torch.func.vmap(torch.func.jacrev(lambda x: field(x[None])[0]))(points).detach()


@pytest.mark.parametrize("act", [nn.Tanh(), nn.LeakyReLU(0.5), nn.GELU(), nn.ReLU()], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_no_jacobian_exceeds_the_bounds(seed: int, act: nn.Module) -> None:
    field = Mixed(seed, act)
    J, found = jacobians(field, 4), form(field, 4)
    assert centred(found) >= float(torch.linalg.matrix_norm(J, 2).max())
    assert one_sided(found) >= float(torch.linalg.eigvalsh((J + J.mT) / 2).max())
    assert one_sided(found) <= centred(found)


def corners(field: Mixed) -> tuple[float, float]:
    """The largest norm and one-sided constant over all 2^7 corners of slopes in [1/2, 1], which
    random points may miss."""
    bits = (torch.arange(128)[:, None] >> torch.arange(7)) & 1
    D = 0.5 + 0.5 * bits.to(torch.float64)
    J = ((field.W * D[:, None, :]) @ field.V + field.K).detach()
    norm = torch.linalg.matrix_norm(J, 2).max()
    return float(norm), float(torch.linalg.eigvalsh((J + J.mT) / 2).max())


@pytest.mark.parametrize("seed", range(3))
def test_the_worst_slopes_are_within_the_bounds(seed: int) -> None:
    field = Mixed(seed, nn.LeakyReLU(0.5))
    (norm, rate), found = corners(field), form(field, 4)
    assert norm <= centred(found) <= 1.3 * norm
    assert rate <= one_sided(found) <= rate + 0.3 * norm


def test_convex_gradients_do_not_expand_exactly() -> None:
    field = GradientField(Dense(4, 6), 6, slope=0.0)
    assert one_sided(form(field, 4)) == 0.0


def test_implicit_midpoint_takes_any_step_on_a_rotation() -> None:
    """The one-sided constant is exactly 0, so the law applies: 1e-16 would not do."""
    rotation = nn.Linear(2, 2, bias=False)
    rotation.weight.data = torch.tensor([[0.0, 0.3], [-0.3, 0.0]])
    report = derive_field(rotation, (2,), "implicit-midpoint")
    assert report.one_sided == 0
    assert report.steps.largest == oo


def test_damping_moves_the_constant_of_a_hamiltonian_field() -> None:
    """An orthogonal layer with slopes in [0, 1] expands at 1/2 at most; sharp."""
    bound = one_sided(form(Damped(6, 0.75), 6))
    assert -0.25 <= bound <= -0.25 + 1e-6


def test_slopes_that_are_too_few_are_found_out() -> None:
    """The comparison can fail: with the middle slopes only, corners exceed both constants."""
    field = Mixed(0, nn.LeakyReLU(0.5))
    found, (norm, rate) = form(field, 4), corners(field)
    middle = (found.low + found.high) / 2
    narrow = dataclasses.replace(found, low=middle, high=middle)
    assert centred(narrow) < norm
    assert one_sided(narrow) < rate


def test_an_activation_of_activations_has_no_such_form() -> None:
    two = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    assert isinstance(slope_form(capture(two, (3,))), str)


def test_the_audit_of_a_network_of_such_steps_contracts() -> None:
    torch.manual_seed(0)
    step = NumericalStep(Damped(6, 0.75), ExplicitEuler(), 0.125)
    (verdict,) = audit(nn.Sequential(step, step), "contractive", (6,)).verdicts
    assert verdict.outcome == "proved"
    assert verdict.upper < 0.97
    weak = NumericalStep(Damped(6, 0.4), ExplicitEuler(), 0.125)
    (verdict,) = audit(weak, "contractive", (6,)).verdicts
    assert verdict.outcome != "proved"


def test_no_certificate_holds_what_the_checker_does_not_know(tmp_path: Path) -> None:
    torch.manual_seed(0)
    step = NumericalStep(Damped(6, 0.75), ExplicitEuler(), 0.125)
    graph = capture(step, (6,))
    constant = derive(graph)
    assert constant.law == "centred"
    found = Finding("lipschitz<=1", "", "proved", constant.upper, graph, constant)
    said = write(tmp_path / "a.json", Subject("step", step.state_dict()), [found])
    assert len(said) == 1
    assert json.loads((tmp_path / "a.json").read_text())["claims"] == []
