"""Many seeds at once are what each seed is alone."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import FunctionPotential, HamiltonianField
from dsnn.integrators import Heun, NumericalStep
from dsnn.models import PresnovNet, mass_network, norm_network, symplectic_network
from dsnn.training.ensemble import Schedule, train_ensemble

SCHEDULE = Schedule(epochs=3, batch=16, rate=1e-2, weight_decay=1e-3, every=2, factor=0.5)


def data(inputs: int = 4, outputs: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    x = torch.randn(40, inputs, dtype=torch.float64)
    return x, torch.sin(x).cumsum(1)[:, :outputs]


def alone(make: Callable[[], nn.Module], seed: int, x: Tensor, y: Tensor) -> nn.Module:
    """The same training, written as one writes it for one network."""
    torch.manual_seed(seed)
    net = make().double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.5 ** (epoch // 2)
        for chosen in torch.randperm(len(x), generator=generator).split(16):
            optimizer.zero_grad()
            ((net(x[chosen]) - y[chosen]) ** 2).mean().backward()
            optimizer.step()
    return net


NETWORKS = {
    "mass": lambda: mass_network((4, 6, 4), 2, 8, "relu", "relu"),
    "norm": lambda: norm_network(4, 2, 8),
    "symplectic": lambda: symplectic_network(4, 2, 8),
    "Presnov": lambda: PresnovNet(4, 5, 4, 2, 6, 6),
}


@pytest.mark.parametrize("traced", [False, True], ids=["mapped", "traced"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=list(NETWORKS))
def test_ensemble_equals_single_training(
    make: Callable[[], nn.Module], traced: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dsnn.training.ensemble.TRACED", 1 if traced else 10**9)
    x, y = data()
    before = torch.random.get_rng_state()
    together = train_ensemble(make, [3, 8], x, y, SCHEDULE)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert together.losses.shape == (3, 2)
    assert bool((together.losses[-1] < together.losses[0]).all())
    for seed, net in zip([3, 8], together.networks, strict=True):
        single = alone(make, seed, x, y)
        for ours, theirs in zip(net.parameters(), single.parameters(), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    first, second = together.networks
    assert not torch.allclose(first(x), second(x))


def test_an_own_loss_unrolls_the_network():
    """Two steps of the network against a target: not the loss of one."""
    x, y = data()

    def unrolled(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        return ((model(model(x)) - y) ** 2).mean()

    make = NETWORKS["symplectic"]
    one = train_ensemble(make, [0], x, y, SCHEDULE)
    two = train_ensemble(make, [0], x, y, SCHEDULE, loss=unrolled)
    assert not torch.allclose(one.losses, two.losses)
    torch.manual_seed(0)
    net, order = make().double(), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    expected = unrolled(net, x[order[:16]], y[order[:16]])
    first = train_ensemble(make, [0], x[order[:16]], y[order[:16]], Schedule(1, 16), loss=unrolled)
    assert torch.allclose(first.losses[0, 0], expected.detach(), rtol=1e-12)


def test_known_energies_can_be_trained_through():
    """An automatic gradient inside the mapped gradient."""

    def make() -> nn.Module:
        field = HamiltonianField(FunctionPotential(lambda x: torch.cos(x).sum(1)), 4)
        return NumericalStep(field, Heun(), 0.1)

    x, y = data()
    found = train_ensemble(make, [0, 1], x, y, SCHEDULE)
    for seed, net in zip([0, 1], found.networks, strict=True):
        (time,) = net.parameters()
        assert torch.allclose(time, next(alone(make, seed, x, y).parameters()), rtol=1e-9)
        assert abs(time.item() - 0.1) > 1e-3


@pytest.mark.parametrize(
    ("seeds", "cut", "rate", "words"),
    [
        ([], 40, 1e-2, "0 seeds"),
        ([0], 39, 1e-2, "39 targets"),
        ([0, 1], 40, 1e200, "not finite in epoch"),
    ],
)
def test_bad_input(seeds: list[int], cut: int, rate: float, words: str):
    x, y = data()
    with pytest.raises(UserError, match=words):
        train_ensemble(NETWORKS["symplectic"], seeds, x, y[:cut], Schedule(3, 16, rate))


def test_learned_buffers_are_refused():
    x, y = data()
    prototype = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    made = iter(range(9))

    def make() -> nn.Module:
        net = copy.deepcopy(prototype)
        assert isinstance(net[1].running_mean, Tensor)
        net[1].running_mean += next(made)
        return net

    with pytest.raises(UserError, match="only parameters are trained"):
        train_ensemble(make, [0, 1], x, y, SCHEDULE)
