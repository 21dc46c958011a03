"""Long horizons: learned steps of the pendulum and of Hénon and Heiles, 10,000 times over [T13].

A network of symplectic steps beside a residual network of its size, both trained on the same pairs
(x, flow of x over the step); what is followed is the true energy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from dsnn.models import symplectic_network
from dsnn.training.ensemble import Schedule, train_ensemble
from experiments.free import free_steps, size, spread
from experiments.kept import Bar, Result, Table, over_seeds
from experiments.measures import drift, inverse_defect, mean_square_error
from experiments.reference import (
    Field,
    flow,
    henon_heiles,
    henon_heiles_energy,
    pendulum,
    pendulum_energy,
)
from verification.defects import symplectic_defect

SYMPLECTIC_BAR, INVERSE_BAR = 1e-10, 1e-12


@dataclass(frozen=True)
class Problem:
    """A Hamiltonian field, its energy, and states: uniform in [-reach, reach]^dim with an energy of
    at most `highest`."""

    dim: int
    field: Field
    energy: Field
    reach: float
    highest: float


PROBLEMS = {
    "pendulum": Problem(2, pendulum, pendulum_energy, 1.5, 0.2),
    "henon-heiles": Problem(4, henon_heiles, henon_heiles_energy, 0.6, 1 / 10),
}
"""Below the separatrix of the pendulum at 1, and below the chaos of Hénon-Heiles above 1/8."""


@dataclass(frozen=True)
class Configuration:
    problem: str
    schedule: Schedule
    points: int = 1000
    step: float = 0.1
    layers: int = 4
    width: int = 16
    starts: int = 8
    iterations: int = 10_000


SCHEDULE = Schedule(epochs=300, batch=100, rate=1e-2, every=100)
PENDULUM = Configuration("pendulum", SCHEDULE)
HENON_HEILES = Configuration("henon-heiles", SCHEDULE, width=24)


def states(problem: Problem, count: int, seed: int) -> Tensor:
    """(count, dim), by rejection."""
    generator = torch.Generator().manual_seed(seed)
    kept: list[Tensor] = []
    while sum(map(len, kept)) < count:
        x = torch.rand(4 * count, problem.dim, generator=generator, dtype=torch.float64)
        x = problem.reach * (2 * x - 1)
        kept.append(x[problem.energy(x) <= problem.highest])
    return torch.cat(kept)[:count]


def _kinds(c: Configuration, dim: int) -> dict[str, Callable[[], nn.Module]]:
    def symplectic() -> nn.Module:
        return spread(symplectic_network(dim, c.layers, c.width, time=c.step / c.layers))

    def free() -> nn.Module:
        rows = (size(symplectic()) / c.layers - dim - 1) / (2 * dim + 1)
        return spread(free_steps(dim, c.layers, round(rows), "tanh", time=c.step / c.layers))

    return {"symplectic": symplectic, "unconstrained": free}


def run(configuration: Configuration, seeds: Sequence[int]) -> Result:
    """Error of a step and drift of the true energy over many; the defects of the symplectic one."""
    problem = PROBLEMS[configuration.problem]
    x, test = (states(problem, configuration.points, seed) for seed in (0, 1))
    starts = states(problem, configuration.starts, 2)
    y, after = (flow(problem.field, s, [configuration.step])[0] for s in (x, test))
    rows, seconds, curves = [], {}, {}
    bars: list[Bar] = []
    for name, make in _kinds(configuration, problem.dim).items():
        start = time.process_time()
        nets = train_ensemble(make, seeds, x, y, configuration.schedule).networks
        seconds[name] = time.process_time() - start
        drifts = [drift(net, starts, problem.energy, configuration.iterations) for net in nets]
        curves[name] = drifts
        with torch.no_grad():
            errors = over_seeds(mean_square_error(net(test), after) for net in nets)
        defects = [symplectic_defect(net, starts) for net in nets]
        rows.append(
            {
                "network": name,
                "parameters": size(nets[0]),
                "test MSE of a step": errors,
                "drift of the true energy": over_seeds(d.largest for d in drifts),
                "symplectic defect": over_seeds(defects),
            }
        )
        if name == "symplectic":
            bars = [
                Bar("symplectic defect of the trained step", SYMPLECTIC_BAR, max(defects)),
                Bar(
                    "|inverse(forward(x)) - x| of the trained step",
                    INVERSE_BAR,
                    max(inverse_defect(net, test) for net in nets),
                ),
            ]
    columns = [(name, seed) for name in curves for seed in range(len(seeds))]
    at = curves["symplectic"][0].steps
    values = [curves[name][k].values for name, k in columns]
    header = ("step", *(f"{name} {seeds[k]}" for name, k in columns))
    table = Table(header, tuple(zip(at, *values, strict=True)))
    return Result(asdict(configuration), rows, bars, {"curves": table}, seconds)
