"""Orders, what integrators say they keep, and bad input: errors, never a NaN."""

import math
import re
from pathlib import Path

import pytest
import structured_cases as cases
import torch
from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields import (
    ConstantSkew,
    FirstIntegralField,
    FunctionPotential,
    GradientField,
    HamiltonianField,
    LayerPotential,
    LiftedField,
    PotentialField,
    RingMassField,
    ShiftField,
    VectorField,
    VolumeField,
    hamiltonian,
    presnov_field,
    separable_hamiltonian,
    sphere_field,
    volume_field,
)
from dsnn.fields.layers import require_skew
from dsnn.integrators import (
    AverageVectorField,
    ExplicitEuler,
    Gonzalez,
    Heun,
    ImplicitMidpoint,
    Integrator,
    LieTrotter,
    LiftedEuler,
    NumericalStep,
    Projected,
    RelaxedHeun,
    RungeKutta4,
    StormerVerlet,
    Strang,
    SymplecticEuler,
    average,
    gonzalez,
)
from dsnn.operators import Convolution, Dense
from dsnn.spheres import relax, rescale
from dsnn.structure import ENERGY, MASS, NORM, SHIFT, SYMPLECTIC, VOLUME
from verification import integrators_page
from verification.integrators_problems import problems

PAGE = (Path(__file__).parents[1] / "docs" / "integrators.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def measured():
    return integrators_page.measured()


def test_the_page_is_what_is_measured(measured):
    """Words alike, powers up to 0.2: other machines round otherwise."""
    written = re.findall(r"^\| (\S[^|]*) \| (\d[\d.]*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(written) == len(integrators_page.ROWS) == len(measured)
    number = re.compile(r"\d+\.\d")
    for name, power, entries in written:
        order, cells = measured[name]
        assert abs(float(power) - order) <= 0.15, name
        for entry, cell in zip(entries.split(" | "), cells.values(), strict=True):
            assert number.sub("#", entry) == number.sub("#", str(cell)), (name, entry, cell)
            if cell.power is not None:
                assert abs(float(number.findall(entry)[0]) - cell.power) <= 0.2, (name, entry)


@pytest.mark.parametrize("row", integrators_page.ROWS, ids=lambda row: row.name)
def test_integrators_say_what_is_measured(measured, row: integrators_page.Row):
    """The order within 0.1; what is claimed is exact, and what is exact and not claimed is so for
    a reason of these fields, which the page gives."""
    order, cells = measured[row.name]
    assert abs(order - row.integrator.order) <= 0.1
    fields = problems()[row.kind]
    for name, cell in cells.items():
        if name in row.integrator.preserves and name in fields[name].conserves:
            assert cell.kind == "exact", name
        elif cell.kind == "exact":
            assert isinstance(row.integrator, Gonzalez | AverageVectorField)
            assert name in (MASS, NORM)


class _Lost(ExplicitEuler):
    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        return x * math.nan


@pytest.mark.parametrize("name", integrators_page.INVARIANTS)
def test_what_is_no_number_is_not_kept(name: str):
    field = problems()["any"][name]
    assert integrators_page.cell(_Lost(), field, name).kind == "no"


# Orders on learned fields. ------------------------------------------------------------------


def end(field: VectorField, method: Integrator, x: Tensor, steps: int) -> Tensor:
    h = torch.tensor(1 / steps, dtype=torch.float64)
    for _ in range(steps):
        x = method.advance(field, x, h)
    return x


@pytest.mark.parametrize(
    ("field", "method"),
    [
        (lambda: sphere_field(4, 6), RelaxedHeun()),
        (lambda: sphere_field(4, 6), Projected(RungeKutta4())),
        (lambda: presnov_field(4, 6, 6), LieTrotter(Heun(), RelaxedHeun())),
        (lambda: presnov_field(4, 6, 6), Strang(Gonzalez(), RelaxedHeun())),
        (lambda: presnov_field(4, 6, 6), Strang(ExplicitEuler(), RelaxedHeun())),
        (lambda: LiftedField(sphere_field(2, 6)), LiftedEuler()),
        (lambda: LiftedField(sphere_field(2, 6)), ImplicitMidpoint()),
    ],
)
@torch.no_grad()
def test_order_on_learned_fields(field, method: Integrator):
    """The ratio of the errors of 40 and 80 steps."""
    torch.manual_seed(5)
    f, x = cases.randomised(field()), torch.randn(3, 4, dtype=torch.float64)
    exact = end(f, RungeKutta4(), x, 320)
    coarse, fine = (float((end(f, method, x, n) - exact).abs().max()) for n in (40, 80))
    assert abs(math.log2(coarse / fine) - method.order) <= 0.1


# Discrete gradients. ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [gonzalez, average])
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-7, 1e-4, 1e-2, 0.3])
def test_discrete_gradients(rule, distance: float):
    """The chain rule, the gradient at coincident points, and finite derivatives there."""
    torch.manual_seed(6)
    field = cases.randomised(hamiltonian(4, 6))
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    y = x + distance * torch.randn(5, 4, dtype=torch.float64)
    g = rule(field, x, y)
    change = (g * (y - x)).sum(1) - (field.integral(y) - field.integral(x))
    assert float(change.detach().abs().max()) <= 1e-14
    assert float((g - field.gradient(x)).detach().abs().max()) <= 1e-14 + 5 * distance
    (slope,) = torch.autograd.grad(g.sum(), x)
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize("method", [Gonzalez(), AverageVectorField()])
@pytest.mark.parametrize("turns", [1e2, 1e4, 1e8])
@pytest.mark.parametrize("h", [0.1, 0.001])
def test_the_energy_is_kept_far_from_the_origin(method: Integrator, turns: float, h: float):
    """A pendulum that has turned often: a step is a small part of its angle, and was taken for
    none. The energy drifted by 8e-4; now by the rounding of the angle, which the other method took
    for a miss of its quadrature."""
    field = HamiltonianField(FunctionPotential(lambda x: x[:, 1] ** 2 / 2 - x[:, 0].cos()), 2)
    x = torch.tensor([[turns, 1.5]], dtype=torch.float64)
    start, time = field.integral(x), torch.tensor(h, dtype=torch.float64)
    for _ in range(200):
        x = method.advance(field, x, time)
    assert float((field.integral(x) - start).abs()) <= 1e-13 + 2e-15 * turns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_the_energy_is_kept_near_the_origin(dtype: torch.dtype, size: float):
    """Where the energy is large beside what a step changes: its rounding, put along the increment,
    was more than the solver let pass, and most of these steps were refused."""
    epsilon = torch.finfo(dtype).eps
    for seed in range(10):
        torch.manual_seed(seed)
        field = cases.randomised(hamiltonian(4, 8)).to(dtype)
        x = size * torch.randn(2, 4, dtype=dtype)
        y = Gonzalez().advance(field, x, torch.tensor(0.05, dtype=dtype))
        change = (field.double().integral(y.double()) - field.integral(x.double())).abs()
        assert float(change.detach().max()) <= 100 * epsilon, seed


def test_a_gradient_step_is_monotone():
    """y = x + h g: V grows by |y - x|² / h, whatever h the solver takes [T2']."""
    torch.manual_seed(7)
    field = PotentialField(LayerPotential(Dense(3, 5), "tanh", weighted=True))
    field, x = cases.randomised(field), torch.randn(6, 3, dtype=torch.float64)
    h = torch.tensor(0.3, dtype=torch.float64)
    y = Gonzalez().advance(field, x, h)
    growth = field.integral(y) - field.integral(x)
    assert torch.allclose(growth, ((y - x) ** 2).sum(1) / h, rtol=1e-10)


def test_a_quadrature_that_misses_kinks_is_refused():
    """H = q + p |p|: the momentum falls through the kink of the gradient."""
    field = HamiltonianField(FunctionPotential(lambda x: x[:, 0] + x[:, 1] * x[:, 1].abs()), 2)
    x = torch.tensor([[0.0, 0.02]], dtype=torch.float64)
    with pytest.raises(UserError, match="nodes miss the chain rule"):
        AverageVectorField().advance(field, x, torch.tensor(0.05, dtype=torch.float64))


# Solvers. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [ImplicitMidpoint(), Gonzalez(), AverageVectorField()])
@pytest.mark.parametrize(
    ("h", "words"),
    [(100.0, "smaller step"), (float("nan"), "not finite"), (float("inf"), "not finite")],
)
def test_a_solver_that_diverges_says_so(method: Integrator, h: float, words: str):
    step = NumericalStep(hamiltonian(4, 6), method, h).double()
    with pytest.raises(UserError, match=words):
        step(torch.randn(2, 4).double())


@pytest.mark.parametrize("turns", [0.0, 1e4, 1e10])
def test_a_solver_that_wanders_is_not_taken_for_one_that_settles(turns: float):
    """A pendulum over steps at which the iteration need not converge: one move that was no smaller
    than the last ended it, 1e5 units in the last place away, or anywhere far from the origin."""
    field = HamiltonianField(FunctionPotential(lambda x: x[:, 1] ** 2 / 2 - x[:, 0].cos()), 2)
    torch.manual_seed(0)
    for x in (torch.randn(64, 1, 2) + torch.tensor([turns, 0.0])).double():
        try:
            y = ImplicitMidpoint().advance(field, x, torch.tensor(2.5).double())
        except UserError:
            continue
        missed = (y - x - 2.5 * field((x + y) / 2)).abs().max() / x.abs().max()
        assert float(missed) <= 200 * 2**-52


@pytest.mark.parametrize("method", [Gonzalez(), AverageVectorField()])
def test_a_solver_that_wanders_near_an_equilibrium_is_not_taken_for_one_that_settles(
    method: Integrator,
):
    """There the rounding of the energy, over the small increment, was more than the increment:
    a pendulum at 1e-9 went to 5e-9 in one step, 1.5 increments away from a solution."""
    field = HamiltonianField(FunctionPotential(lambda x: x[:, 1] ** 2 / 2 - x[:, 0].cos()), 2)
    x = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)
    with pytest.raises(UserError, match="smaller step"):
        method.advance(field, x, torch.tensor(3.0, dtype=torch.float64))


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6])
def test_a_step_that_is_larger_than_its_state_settles(size: float):
    """From the origin nothing is small beside the state: it is beside the increment."""
    h = torch.tensor(0.1, dtype=torch.float64)
    for seed in range(10):
        torch.manual_seed(seed)
        field, x = cases.randomised(RingMassField(5, 8)), size * torch.randn(2, 5).double()
        y = ImplicitMidpoint().advance(field, x, h)
        missed = (y - x - h * field((x + y) / 2)).abs().max() / y.abs().max()
        assert float(missed.detach()) <= 200 * 2**-52


def test_a_state_that_is_no_number_is_refused():
    x = torch.tensor([[float("nan"), 1.0, 0.0, 0.0]]).double()
    h = torch.tensor(0.1).double()
    with pytest.raises(UserError, match="not finite"):
        ImplicitMidpoint().advance(hamiltonian(4, 6).double(), x, h)
    with pytest.raises(UserError, match="not finite"):
        Projected().advance(sphere_field(4, 6).double(), x, h)


def test_singular_lifted_step():
    """f = -x, h = 1: I + h Df = 0 [T3]."""
    field = GradientField(Dense(2, 2), 2, slope=1.0).double()
    with torch.no_grad():
        field.operator.weight.copy_(torch.eye(2))
    x, h = torch.ones(1, 4).double(), torch.tensor(1.0).double()
    with pytest.raises(UserError, match="singular"):
        LiftedEuler().advance(LiftedField(field), x, h)


# Spheres. -----------------------------------------------------------------------------------


def test_relaxation_is_the_published_formula_and_rests_at_equilibria():
    torch.manual_seed(8)
    y, phi = torch.randn(2, 5, 3, dtype=torch.float64)
    phi[0] = y[0]
    share = ((phi**2).sum(1) - (y**2).sum(1)) / ((phi - y) ** 2).sum(1)
    found = relax(phi, y)
    written = (1 - share[1:, None]) * phi[1:] + share[1:, None] * y[1:]
    assert torch.allclose(found[1:], written, rtol=1e-12)
    assert torch.equal(found[0], y[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relaxation_keeps_the_norm_however_far_the_step_went(dtype: torch.dtype):
    """φ - l d was rounded at the size of φ: 1e6 times as far away, 1e-10 of it was lost in float64
    and all of it in float32."""
    torch.manual_seed(0)
    y, d = torch.randn(2, 50, 6, dtype=dtype)
    for far in (1e-6, 1e-3, 1.0, 1e3, 1e6, 1e10):
        moved = relax(y + far * d, y).double().norm(dim=1)
        start = y.double().norm(dim=1)
        assert float(((moved - start) / start).abs().max()) <= 8 * torch.finfo(dtype).eps, far


@pytest.mark.parametrize("method", [RelaxedHeun(), Projected()])
def test_spheres_at_the_origin(method: Integrator):
    """x = 0 stays, and so do the derivatives of a batch that holds it numbers."""
    field = cases.randomised(sphere_field(3, 4))
    x = torch.cat([torch.zeros(1, 3), torch.ones(1, 3)]).double().requires_grad_(True)
    y = method.advance(field, x, torch.tensor(0.1).double())
    assert torch.equal(y[0], torch.zeros(3).double())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert bool(slope.isfinite().all())


def test_projection_of_a_lost_state_is_refused():
    y = torch.ones(1, 2).double()
    with pytest.raises(UserError, match="no direction"):
        rescale(torch.zeros_like(y), y)
    assert torch.equal(rescale(y, torch.zeros_like(y)), torch.zeros_like(y))


# Bad input. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hamiltonian(5, 4), "even dimension"),
        (lambda: separable_hamiltonian(3, 4), "even dimension"),
        (lambda: HamiltonianField(LayerPotential(Dense(1, 2)), 1), "even dimension"),
        (lambda: ConstantSkew(torch.tensor([[0.0, 1.0], [1.0, 0.0]])), "not skew"),
        (lambda: require_skew(torch.tensor([[0.0, float("nan")], [0.0, 0.0]])), "not skew"),
        (lambda: require_skew(torch.eye(3)[:2]), "square"),
        (lambda: require_skew(1e-30 * torch.eye(2)), "not skew"),
        (lambda: sphere_field(1, 4), "at least 2"),
        (lambda: volume_field(1), "two entries"),
        (lambda: VolumeField(Dense(2, 3), Dense(2, 3)), "must map back"),
        (lambda: ShiftField(Convolution(2, 2), Convolution(2, 2)), "circular=True"),
        (lambda: NumericalStep(sphere_field(3, 4), SymplecticEuler(), 0.1), "needs a SplitField"),
        (lambda: NumericalStep(sphere_field(3, 4), Gonzalez(), 0.1), "needs a HasEnergy"),
        (lambda: NumericalStep(sphere_field(3, 4), Strang(Heun(), Heun()), 0.1), "SumField"),
        (
            lambda: NumericalStep(presnov_field(3, 4, 4), LieTrotter(StormerVerlet(), Heun()), 0.1),
            "needs a SplitField",
        ),
        (lambda: LayerPotential(Dense(2, 2), "swish"), "unknown activation"),
    ],
)
def test_bad_input(make, words: str):
    with pytest.raises(UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_skew_matrix_is_taken_as_it_is():
    matrix = torch.tensor([[0.0, 2.0, 0.0], [-2.0, 0.0, 1.0], [0.0, -1.0, 0.0]]).double()
    energy = LayerPotential(Dense(3, 4)).double()
    field, x = FirstIntegralField(energy, ConstantSkew(matrix)), torch.randn(4, 3).double()
    assert torch.allclose(field(x), field.gradient(x) @ matrix.T)


def test_claims_of_steps():
    """What the field conserves and the method preserves, and nothing else."""
    separable, sphere = separable_hamiltonian(4, 4), sphere_field(3, 4)
    expected = {
        (separable, StormerVerlet()): {SYMPLECTIC, VOLUME},
        (separable, ImplicitMidpoint()): {SYMPLECTIC, VOLUME},
        (separable, Gonzalez()): {ENERGY},
        (separable, RungeKutta4()): set(),
        (sphere, RelaxedHeun()): {NORM},
        (sphere, ImplicitMidpoint()): {NORM},
        (sphere, ExplicitEuler()): set(),
        (volume_field(4), SymplecticEuler()): {VOLUME},
        (volume_field(4), ImplicitMidpoint()): set(),
        (presnov_field(3, 4, 4), Strang(Heun(), RelaxedHeun())): set(),
        (cases.SHIFT["spheres"].make(), RelaxedHeun()): {NORM, SHIFT},
    }
    for (field, method), claims in expected.items():
        assert NumericalStep(field, method, 0.1).claims == claims, (field, method)


@pytest.mark.parametrize("method", [Heun(), RungeKutta4(), RelaxedHeun(), Projected()])
def test_explicit_steps_are_exported(method: Integrator):
    """The exported program computes what the module does: what an audit reads is what runs."""
    torch.manual_seed(9)
    step = cases.settled(cases.randomised(NumericalStep(sphere_field(3, 4), method, 1.0)), 0.1)
    x = torch.randn(1, 3, dtype=torch.float64)
    program = torch.export.export(step, (x,))
    assert torch.allclose(program.module()(x), step(x), rtol=1e-14)
