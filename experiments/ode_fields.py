"""Vector fields from pairs (x, flow of x over 0.05): the paper's learning problem, and a right one.

- `published`: what the authors' code minimises. A relaxed Heun step of Λ(x) x, then the residual of
  a discrete gradient step of U whose end point is the target itself, so the trained map is no
  predictor; networks and schedule are theirs.
- `corrected`: an explicit Strang step of grad U + Λ(x) x [T2, T2'], which predicts.
- `unconstrained`: a Heun step of a free field with as many parameters as `corrected`.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dsnn.fields import (
    FunctionPotential,
    PotentialField,
    SkewEntries,
    SkewMatrix,
    SphereField,
    SumField,
    VectorField,
    presnov_field,
)
from dsnn.integrators import Heun, Integrator, RelaxedHeun, Strang, gonzalez
from dsnn.training.ensemble import Loss, Model, Schedule, mean_square, train_ensemble
from experiments.free import FreeField, size, spread
from experiments.kept import Result, Table, over_seeds
from experiments.measures import mean_square_error
from experiments.reference import Field, cubic, flow, pendulum, pendulum_spherical


@dataclass(frozen=True)
class Problem:
    """A field on R^dim and, where it is known, its sphere-preserving part [T1]."""

    dim: int
    field: Field
    spherical: Field


PROBLEMS = {
    "cubic": Problem(4, cubic, torch.zeros_like),
    "pendulum": Problem(2, pendulum, pendulum_spherical),
}


@dataclass(frozen=True)
class Configuration:
    """`points` pairs from the cube [-1, 1]^dim, a tenth of them for the test; `paper` is the
    schedule of the published form, `schedule` that of the two others."""

    problem: str
    paper: Schedule
    schedule: Schedule
    points: int = 1000
    step: float = 0.05
    width: int = 40
    hidden: int = 40


PAPER = Schedule(epochs=200, batch=64, rate=1e-1, every=100)
SCHEDULE = Schedule(epochs=200, batch=64, rate=1e-2, every=80)
CUBIC = Configuration("cubic", PAPER, SCHEDULE)
PENDULUM = Configuration("pendulum", PAPER, SCHEDULE)


def data(configuration: Configuration) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training states and where they are after one step, then those of the test."""
    problem = PROBLEMS[configuration.problem]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(configuration.points, problem.dim, generator=generator, dtype=torch.float64)
    x = 2 * x - 1
    y = flow(problem.field, x, [configuration.step])[0]
    cut = configuration.points * 9 // 10
    return x[:cut], y[:cut], x[cut:], y[cut:]


class _Shaped(nn.Module):
    """x (B, n) -> the values (B,) of a network with one output."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.Sigmoid()]
    return parts


def published_field(dim: int) -> SumField:
    """grad U + Λ(x) x with the paper's networks: U by n-10-10-1, Λ by n-60-60-60-n(n-1)/2."""
    energy = _Shaped(nn.Sequential(*_layers([dim, 10, 10]), nn.Linear(10, 1)))
    potential = PotentialField(FunctionPotential(energy))
    entries = SkewEntries(dim, 60, "sigmoid")
    entries.inner = nn.Sequential(*_layers([dim, 60, 60, 60]))
    return SumField(potential, SphereField(SkewMatrix(entries)))


class PublishedPrediction(nn.Module):
    """(x, target) side by side -> the prediction that the paper's code compares with the target:
    z = relaxed Heun of Λ(x) x, then z + h gbar(z, target) [T15]."""

    def __init__(self, dim: int, step: float):
        super().__init__()
        self.field, self.step = published_field(dim), step

    def forward(self, pair: Tensor) -> Tensor:
        x, target = pair.chunk(2, 1)
        h = torch.tensor(self.step, dtype=x.dtype)
        z = RelaxedHeun().advance(self.field.second, x, h)
        potential = self.field.first
        assert isinstance(potential, PotentialField)
        return z + h * gonzalez(potential, z, target)


def free_field(dim: int, width: int, hidden: int) -> FreeField:
    """A free field with as many parameters as `presnov_field`."""
    wanted = size(presnov_field(dim, width, hidden))
    return FreeField(dim, round((wanted - dim) / (2 * dim + 1)))


class Prediction(nn.Module):
    """x -> one step of `method` on the field, of a time that is not learned."""

    def __init__(self, field: VectorField, method: Integrator, step: float):
        super().__init__()
        self.field, self.method, self.step = field, method, step

    def forward(self, x: Tensor) -> Tensor:
        return self.method.advance(self.field, x, torch.tensor(self.step, dtype=x.dtype))


def _given(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """The loss of the published form, which gives the network the target as well."""
    return nn.functional.mse_loss(model(torch.cat([x, y], 1)), y)


def _kinds(c: Configuration) -> dict[str, tuple[Callable[[], nn.Module], Schedule, Loss]]:
    dim = PROBLEMS[c.problem].dim

    def corrected() -> nn.Module:
        field = spread(presnov_field(dim, c.width, c.hidden))
        return Prediction(field, Strang(Heun(), RelaxedHeun()), c.step)

    def free() -> nn.Module:
        return Prediction(spread(free_field(dim, c.width, c.hidden)), Heun(), c.step)

    return {
        "published": (lambda: PublishedPrediction(dim, c.step), c.paper, _given),
        "corrected": (corrected, c.schedule, mean_square),
        "unconstrained": (free, c.schedule, mean_square),
    }


def grid(dim: int, side: int) -> Tensor:
    """side² points of [-1, 1]² in the first two coordinates, the others 0: (side², dim)."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    return nn.functional.pad(torch.cartesian_prod(line, line), (0, dim - 2))


@torch.no_grad()
def _field_errors(net: nn.Module, problem: Problem, x: Tensor) -> tuple[float, float]:
    """|learned - true| / |true| of the field over the states x, root mean squares, and of its
    spherical part relative to the whole field; NaN where the network has none."""
    field = cast(VectorField, net.field)
    true = problem.field(x)
    whole = float((field(x) - true).norm() / true.norm())
    if not isinstance(field, SumField):
        return whole, math.nan
    part = field.second(x) - problem.spherical(x)
    return whole, float(part.norm() / true.norm())


def run(configuration: Configuration, seeds: Sequence[int]) -> Result:
    """Errors of the learned fields and of one step along them, and what the quiver plot shows."""
    problem = PROBLEMS[configuration.problem]
    x, y, test, after = data(configuration)
    points = grid(problem.dim, 11)
    rows, seconds = [], {}
    shown = {"true": problem.field(points)}
    for name, (make, schedule, loss) in _kinds(configuration).items():
        start = time.process_time()
        nets = train_ensemble(make, seeds, x, y, schedule, loss=loss).networks
        seconds[name] = time.process_time() - start
        fields = [cast(VectorField, net.field) for net in nets]
        with torch.no_grad():
            shown[name] = fields[0](points)
            ends = [flow(field, test, [configuration.step])[0] for field in fields]
        errors = [_field_errors(net, problem, test) for net in nets]
        rows.append(
            {
                "network": name,
                "parameters": size(nets[0]),
                "error of the field, relative": over_seeds(whole for whole, _ in errors),
                "error of the spherical part": over_seeds(part for _, part in errors)
                if isinstance(fields[0], SumField)
                else None,
                "MSE of one step along the field": over_seeds(
                    mean_square_error(end, after) for end in ends
                ),
            }
        )
    columns = [points[:, :2], *(field[:, :2] for field in shown.values())]
    names = [f"{name} {c}" for name in shown for c in ("v1", "v2")]
    table = Table(("x1", "x2", *names), tuple(map(tuple, torch.cat(columns, 1).tolist())))
    return Result(asdict(configuration), rows, (), {"curves": table}, seconds)
