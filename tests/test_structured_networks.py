"""Networks that keep a property by their types: what is composed, and what is refused and why."""

import re
from pathlib import Path

import pytest
import structured_cases as cases
import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import (
    ResidualField,
    ShiftField,
    SumField,
    mass_field,
    separable_hamiltonian,
    sphere_field,
    volume_field,
)
from dsnn.integrators import (
    ExplicitEuler,
    Gonzalez,
    ImplicitMidpoint,
    LieTrotter,
    NumericalStep,
    Projected,
    RelaxedHeun,
    RungeKutta4,
    StormerVerlet,
    SymplecticEuler,
)
from dsnn.models import (
    Exchange,
    HamiltonianLift,
    MassProjection,
    NormProjection,
    OperatorLayer,
    Permutation,
    PresnovNet,
    StructuredNet,
    ZeroLift,
    mass_network,
    norm_network,
    symplectic_network,
    volume_network,
)
from dsnn.operators import Convolution, Dense
from dsnn.structure import ENERGY, MASS, NORM, SHIFT, SYMPLECTIC, VOLUME


def states(n: int, count: int = 20) -> Tensor:
    return torch.randn(count, n, generator=torch.Generator().manual_seed(2)).double()


def jacobian(net: nn.Module, x: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(lambda s: net(s[None])[0], x)
    assert isinstance(found, Tensor)
    return found


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def off(value: Tensor, expected: Tensor | float) -> float:
    """Largest difference of two entries."""
    return float((value - expected).detach().abs().max())


# What is kept. ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 10, 10, 15, 3), (3, 10, 3), (4, 6, 2)])
def test_mass_networks(sizes: tuple[int, ...]):
    """The paper's SIR network is the first; sizes may differ, the sum does not."""
    net, x = cases.randomised(mass_network(sizes, 3, 20, "relu", "relu")), states(sizes[0])
    y = net(x)
    assert y.shape == (20, sizes[-1])
    # The flows are no small perturbation of the identity, and may grow.
    largest = x.abs().sum(1)
    hidden = net.lift(x)
    for step in net.flow:
        hidden = step(hidden)
        largest = torch.maximum(largest, hidden.abs().sum(1))
    assert bool(((y.sum(1) - x.sum(1)).abs() <= 1e-14 * largest).all())
    assert sum(isinstance(part, NumericalStep) for part in net.flow) == 3 * (len(sizes) - 2)


def test_norm_networks():
    net, x = cases.randomised(norm_network(5, 3, 8)), states(5)
    assert off(net(x).norm(dim=1) / x.norm(dim=1), 1) <= 1e-14
    steps = [NumericalStep(sphere_field(6, 8), Projected(), 0.1)]
    resized = StructuredNet(NORM, ZeroLift(3, 6), steps, NormProjection(6, 4)).double()
    y = resized(states(3))
    assert y.shape == (20, 4)
    assert off(y.norm(dim=1) / states(3).norm(dim=1), 1) <= 1e-14
    assert torch.equal(resized(torch.zeros(1, 3).double()), torch.zeros(1, 4).double())


@pytest.mark.parametrize("dim", [2, 5, 8])
def test_volume_networks(dim: int):
    net, x = cases.randomised(volume_network(dim, 4)), states(dim)
    assert off(net.inverse(net(x)), x) <= 1e-12
    assert off(torch.linalg.det(jacobian(net, x[0])), 1) <= 1e-10


@pytest.mark.parametrize("dim", [2, 8])
def test_symplectic_networks(dim: int):
    net, x = cases.randomised(symplectic_network(dim, 4, 8)), states(dim)
    mixed = StructuredNet(SYMPLECTIC, Exchange(dim), net.flow, _alike(dim)).double()
    for some in (net, mixed):
        assert off(some.inverse(some(x)), x) <= 1e-12
        D, n = jacobian(some, x[0]), dim // 2
        J = torch.zeros(dim, dim).double()
        J[:n, n:], J[n:, :n] = torch.eye(n), -torch.eye(n)
        assert off(D.T @ J @ D, J) <= 1e-10


def _alike(dim: int) -> Permutation:
    """Reversing q and p alike."""
    q = list(reversed(range(dim // 2)))
    return Permutation(q + [i + dim // 2 for i in q])


def test_equivariant_networks():
    lift = OperatorLayer(Convolution(1, 2, circular=True))
    steps = [NumericalStep(ShiftField(cases.circular(), cases.circular()), RungeKutta4(), 0.1)]
    net = cases.randomised(StructuredNet(SHIFT, lift, steps, nn.Identity()))
    x = torch.randn(2, 1, 5, 6).double()
    moved = net(x.roll((1, 2), (-2, -1)))
    assert off(moved, net(x).roll((1, 2), (-2, -1))) <= 1e-13


# Lifts and projections. ---------------------------------------------------------------------


def test_mass_projection_is_the_papers():
    """x_i + (sum of the rest) / k: dividing by the number left out, as printed once, is wrong."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.0]])
    assert MassProjection(5, 2)(x).tolist() == [[8.5, 9.5]]
    wrong = x[:, :2] + x[:, 2:].sum(1, keepdim=True) / 3
    assert float(wrong.sum()) != float(x.sum())
    assert MassProjection(5, 5)(x).tolist() == x.tolist()
    assert ZeroLift(5, 7)(x).tolist() == [[1, 2, 3, 4, 8, 0, 0]]
    assert ZeroLift(2, 3, images=True)(torch.ones(1, 2, 4, 5)).shape == (1, 3, 4, 5)


def test_rearrangements_have_inverses():
    x = states(4)
    for layer in (Permutation([2, 0, 3, 1]), Exchange(4)):
        assert torch.equal(layer.inverse(layer(x)), x)
        assert not torch.equal(layer(x), x)


# What is refused. ---------------------------------------------------------------------------


def _mass() -> NumericalStep:
    return NumericalStep(mass_field(4, 5), ExplicitEuler(), 0.1)


def _sphere(method=None) -> NumericalStep:
    return NumericalStep(sphere_field(4, 5), method or RelaxedHeun(), 0.1)


def _shears(method=None) -> NumericalStep:
    return NumericalStep(separable_hamiltonian(4, 5), method or SymplecticEuler(), 0.1)


SAME = nn.Identity()
REFUSED = {
    "unknown property": (lambda: StructuredNet("isometric", SAME, [], SAME), "unknown property"),
    "field of another property": (
        lambda: StructuredNet(MASS, SAME, [_mass(), _sphere()], SAME),
        r"flow.1 .*the flow of SphereField does not conserve it",
    ),
    "explicit Euler on a sphere": (
        lambda: StructuredNet(NORM, SAME, [_sphere(ExplicitEuler())], SAME),
        "ExplicitEuler does not preserve it",
    ),
    "explicit Hamiltonian": (
        lambda: StructuredNet(SYMPLECTIC, SAME, [_shears(RungeKutta4())], SAME),
        "RungeKutta4 does not preserve it",
    ),
    "volume by the midpoint rule": (
        lambda: StructuredNet(
            VOLUME, SAME, [NumericalStep(volume_field(4), ImplicitMidpoint(), 0.1)], SAME
        ),
        "ImplicitMidpoint does not preserve it",
    ),
    "energy by shears": (
        lambda: StructuredNet(ENERGY, SAME, [_shears(StormerVerlet())], SAME),
        "StormerVerlet does not preserve it",
    ),
    "energies of two fields": (
        lambda: StructuredNet(ENERGY, SAME, [_shears(Gonzalez()), _shears(Gonzalez())], SAME),
        "2 fields have an energy each",
    ),
    "energy of a step as a lift": (
        lambda: StructuredNet(ENERGY, _shears(Gonzalez()), [_shears(Gonzalez())], SAME),
        "2 fields have an energy each",
    ),
    "lift of a volume": (
        lambda: StructuredNet(VOLUME, ZeroLift(3, 4), [_shears()], SAME),
        "lift .*changes the dimension",
    ),
    "projection of a symplectic form": (
        lambda: StructuredNet(SYMPLECTIC, SAME, [_shears()], MassProjection(4, 2)),
        "projection .*changes the dimension",
    ),
    "sum for the norm": (
        lambda: StructuredNet(NORM, ZeroLift(2, 4), [_sphere()], MassProjection(4, 2)),
        "NormProjection keeps the norm",
    ),
    "norm for the sum": (
        lambda: StructuredNet(MASS, ZeroLift(2, 4), [_mass()], NormProjection(4, 2)),
        "MassProjection keeps the sum",
    ),
    "permutation of q alone": (
        lambda: StructuredNet(SYMPLECTIC, Permutation([1, 0, 2, 3]), [_shears()], SAME),
        "moves q and p differently",
    ),
    "free linear lift": (
        lambda: StructuredNet(MASS, OperatorLayer(Dense(3, 4)), [_mass()], SAME),
        "a free linear map",
    ),
    "lift at the border": (
        lambda: StructuredNet(SHIFT, OperatorLayer(Convolution(1, 2)), [], SAME),
        "not circular",
    ),
    "lift of features by place": (
        lambda: StructuredNet(SHIFT, ZeroLift(1, 2), [], SAME),
        "images=True",
    ),
    "a field that says nothing of shifts": (
        lambda: StructuredNet(
            SHIFT,
            SAME,
            [NumericalStep(ResidualField(cases.circular(), 2), ExplicitEuler(), 0.1)],
            SAME,
        ),
        "the flow of ResidualField does not conserve it",
    ),
    "a foreign module": (
        lambda: StructuredNet(MASS, nn.Linear(3, 4), [_mass()], SAME),
        "nothing is known of Linear",
    ),
    "inside a sequence": (
        lambda: StructuredNet(MASS, SAME, [nn.Sequential(_mass(), nn.ReLU())], SAME),
        "nothing is known of ReLU",
    ),
    "odd dimension": (lambda: symplectic_network(5, 2, 8), "even dimension"),
    "exchange of odd": (lambda: Exchange(3), "even dimension"),
    "projection to more": (lambda: MassProjection(3, 4), "keeps at most 3"),
    "norm projection to more": (lambda: NormProjection(3, 4), "keeps at most 3"),
    "projection to nothing": (lambda: MassProjection(3, 0), "from 3 entries to 0"),
    "lift to fewer": (lambda: ZeroLift(4, 3), "at least as many"),
    "no permutation": (lambda: Permutation([0, 0, 1]), "no permutation"),
    "too few sizes": (lambda: mass_network((3, 3), 1, 4), "at least the input"),
    "wrong width": (lambda: ZeroLift(3, 4)(states(2)), "takes states of 3"),
    "no inverse": (lambda: norm_network(3, 1, 4).inverse(states(3)), "no explicit inverse"),
    "no inverse of a lift": (
        lambda: mass_network((3, 4, 3), 1, 4).inverse(states(3)),
        "has no inverse",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=list(REFUSED))
def test_refused_with_the_reason(make, words: str):
    with pytest.raises(UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_steps_of_one_field_keep_its_energy():
    field, x = separable_hamiltonian(4, 5), states(4)
    steps = [NumericalStep(field, Gonzalez(), time) for time in (0.1, 0.2)]
    net = StructuredNet(ENERGY, SAME, steps, SAME).double()
    assert off(field.integral(net(x)), field.integral(x)) <= 1e-12


def test_a_sum_of_fields_has_no_energy():
    first, second = separable_hamiltonian(4, 5), separable_hamiltonian(4, 5)
    step = NumericalStep(SumField(first, second), LieTrotter(Gonzalez(), Gonzalez()), 0.1)
    assert ENERGY in first.conserves & second.conserves
    assert not step.claims


# Approximators. -----------------------------------------------------------------------------


def test_the_hamiltonian_lift_is_the_residual_network():
    """Its value is that of x + h f(x), bit for bit, and its flow is symplectic [T3]."""
    fields = [ResidualField(Dense(3, 3), 3) for _ in range(3)]
    net = cases.randomised(HamiltonianLift(fields, 0.2))
    x = states(3)
    expected = x
    for step in net.flow:
        assert isinstance(step, NumericalStep)
        assert SYMPLECTIC in step.claims
        (h,) = step.times()
        expected = step.field.get_submodule("field")(expected) * h + expected
    assert torch.equal(net(x), expected)
    D = jacobian(net.flow, torch.randn(6).double())
    J = torch.zeros(6, 6).double()
    J[:3, 3:], J[3:, :3] = torch.eye(3), -torch.eye(3)
    assert off(D.T @ J @ D, J) <= 1e-10


@pytest.mark.parametrize("discrete", [False, True])
def test_presnov_networks_learn(discrete: bool):
    """A few steps of Adam on |x|: the loss falls, and all parts have a gradient."""
    net = PresnovNet(2, 6, 1, 2, 8, 8, "tanh", discrete=discrete).double()
    x = states(2, 64)
    y = x.norm(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_the_page_says_what_happens(capsys: pytest.CaptureFixture[str]):
    """The code of docs/structured.md runs, and prints what its comments say."""
    page = Path(__file__).parents[1] / "docs" / "structured.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert f"# {first}\n" in code
    assert f"# {second}\n" in code
