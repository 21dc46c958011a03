"""Regression of |x| + sin x + x² and of the norm in the plane, by the paper's network and others.

The published network is that of `published_forms`; the corrected one has the form of T2', in as
many steps and of about the size; the third is a ResNet of the size of the second.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from dsnn.models import PresnovNet
from dsnn.training.ensemble import Schedule, train_ensemble
from experiments.free import hidden_rows, residual_network, size, spread
from experiments.kept import Result, Table, over_seeds
from experiments.measures import mean_square_error
from experiments.published_forms import published_network

NOISE = 0.01


@dataclass(frozen=True)
class Configuration:
    """`points` standard normal inputs, a tenth of them for the test, targets with noise; the figure
    is drawn on [-reach, reach] in every direction."""

    inputs: int
    reach: float
    schedule: Schedule
    points: int = 2000
    dim: int = 10
    blocks: int = 3
    layers: int = 2
    hidden: int = 10
    act: str = "relu"


SCHEDULE = Schedule(epochs=150, batch=64, rate=1e-2, weight_decay=1e-5, every=50)
ONE = Configuration(1, 3.0, SCHEDULE)
TWO = Configuration(2, 2.0, SCHEDULE)


def scalar(x: Tensor) -> Tensor:
    """|x| + sin x + x², (B, 1) -> (B, 1)."""
    return x.abs() + torch.sin(x) + x**2


def norm(x: Tensor) -> Tensor:
    """|x|, (B, 2) -> (B, 1)."""
    return x.norm(dim=1, keepdim=True)


def target(configuration: Configuration) -> Callable[[Tensor], Tensor]:
    return scalar if configuration.inputs == 1 else norm


def data(configuration: Configuration) -> tuple[Tensor, Tensor, Tensor]:
    """Training inputs and noisy targets, and the inputs of the test; always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = configuration.points, configuration.inputs
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(configuration.points, 1, generator=generator, dtype=torch.float64)
    cut = configuration.points * 9 // 10
    return x[:cut], target(configuration)(x[:cut]) + NOISE * noise[:cut], x[cut:]


def networks(configuration: Configuration) -> dict[str, Callable[[], nn.Module]]:
    c = configuration

    def published() -> nn.Module:
        return spread(published_network(c.inputs, c.dim, 1, c.blocks, c.layers, c.hidden, c.act))

    def corrected() -> nn.Module:
        steps = c.blocks * c.layers
        return spread(PresnovNet(c.inputs, c.dim, 1, steps, c.dim, c.hidden, c.act))

    def free() -> nn.Module:
        ends = c.inputs, c.dim, 1, c.blocks * c.layers
        return spread(residual_network(*ends, hidden_rows(size(corrected()), *ends), c.act))

    return {"published": published, "corrected": corrected, "unconstrained": free}


def grid(configuration: Configuration) -> Tensor:
    """Where the figure is drawn: (P, inputs)."""
    if configuration.inputs == 1:
        return torch.linspace(-configuration.reach, configuration.reach, 301).double()[:, None]
    side = torch.linspace(-configuration.reach, configuration.reach, 41).double()
    return torch.cartesian_prod(side, side)


def run(configuration: Configuration, seeds: Sequence[int]) -> Result:
    """Errors of the three networks against the target without noise, on the test inputs and on the
    grid of the figure."""
    x, y, test = data(configuration)
    true, points = target(configuration), grid(configuration)
    rows, seconds, shown = [], {}, {}
    for name, make in networks(configuration).items():
        start = time.process_time()
        nets = train_ensemble(make, seeds, x, y, configuration.schedule).networks
        seconds[name] = time.process_time() - start
        with torch.no_grad():
            shown[name] = nets[0](points)
            worst = over_seeds(float((net(points) - true(points)).abs().max()) for net in nets)
        rows.append(
            {
                "network": name,
                "parameters": size(nets[0]),
                "test MSE": over_seeds(mean_square_error(net(test), true(test)) for net in nets),
                "grid MSE": over_seeds(
                    mean_square_error(net(points), true(points)) for net in nets
                ),
                "largest error on the grid": worst,
            }
        )
    axes = ("x",) if configuration.inputs == 1 else ("x1", "x2")
    columns = torch.cat([points, true(points), *shown.values()], 1)
    table = Table((*axes, "true", *shown), tuple(map(tuple, columns.tolist())))
    return Result(asdict(configuration), rows, (), {"curves": table}, seconds)
