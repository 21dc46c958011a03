"""T2 and T3 in numbers: the error of structured flows against how many there are, and its order.

Bounds and distances of `verification.reach`, and the library's own Hamiltonian lift of the pendulum
beside them. N steps are a step size of 1/N, so one table shows depth and step.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from dsnn.fields import VectorField
from dsnn.models import HamiltonianLift
from experiments.kept import Bar, Result, Table
from experiments.reference import flow, pendulum
from verification import reach

ORDER_BAR = 0.1


@dataclass(frozen=True)
class Configuration:
    """Numbers of steps a flow, ascending; the order is fitted over all but the first."""

    steps: tuple[int, ...]


APPROXIMATION = Configuration((8, 16, 32, 64))
WAYS: dict[str, tuple[int, Callable[[reach.Target, Sequence[int]], list[reach.Row]]]] = {
    "Lie-Trotter, T2": (1, lambda target, steps: reach.by_presnov_flows(target, steps, "lie")),
    "Strang, T2": (2, lambda target, steps: reach.by_presnov_flows(target, steps, "strang")),
    "Hamiltonian lift, T3": (1, reach.by_hamiltonian_steps),
}
"""With the order of the theory."""


def polynomial_pendulum() -> reach.Target:
    """The pendulum with the sine replaced by its polynomial of degree 5, and nothing else meant:
    what the replacement costs, 1e-6, would hide the order of the symmetric splitting."""
    target = reach.pendulum()
    field = reach.Piece(target.pieces[0].field, target.pieces[0].time)
    return reach.Target("pendulum, sine to degree 5", (field,), target.radius)


class Pendulum(VectorField):
    """(p, -sin q)."""

    def forward(self, x: Tensor) -> Tensor:
        return pendulum(x)


def slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """p of the least squares line through log error = c - p log N."""
    x, y = [math.log(n) for n in steps], [math.log(e) for e in errors]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return -top / sum((a - mean_x) ** 2 for a in x)


def lifted_pendulum(steps: Sequence[int]) -> list[float]:
    """Largest distance of `HamiltonianLift` from the time-1 flow of the pendulum, on the disc
    |x| <= 1/2, for each number of its symplectic steps."""
    angles = torch.linspace(0, 2 * math.pi, 25, dtype=torch.float64)[:-1]
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    x = torch.cat([0.5 * r * circle for r in torch.linspace(0.25, 1, 4).double()])
    true = flow(pendulum, x, [1.0])[0]
    errors = []
    for count in steps:
        net = HamiltonianLift([Pendulum() for _ in range(count)], 1 / count).double()
        with torch.no_grad():
            errors.append(float((net(x) - true).norm(dim=1).max()))
    return errors


def run(configuration: Configuration, seeds: Sequence[int]) -> Result:
    """Bounds and measured distances of the targets of `reach`, with fitted orders; there is nothing
    random in it."""
    steps, rows, curve, seconds = configuration.steps, [], [], {}
    bars = []

    def add(target: str, way: str, order: int, depths: list[int], bounds, errors) -> None:
        fitted = slope(steps[1:], errors[1:])
        rows.append(
            {
                "target": target,
                "way": way,
                "order of the theory": order,
                "measured order": round(fitted, 4),
                "flows": depths[-1],
                "bound": bounds[-1] if bounds else None,
                "error": errors[-1],
            }
        )
        bars.append(
            Bar(f"|measured order - {order}|, {target}, {way}", ORDER_BAR, abs(fitted - order))
        )
        for k, count in enumerate(steps):
            curve.append(
                (target, way, count, depths[k], bounds[k] if bounds else math.nan, errors[k])
            )

    for target in (polynomial_pendulum(), reach.twisted_shear()):
        for way, (order, made) in WAYS.items():
            start = time.process_time()
            found = made(target, steps)
            seconds[f"{target.name}, {way}"] = time.process_time() - start
            bounds, errors = [row.bound for row in found], [row.measured for row in found]
            add(target.name, way, order, [row.depth for row in found], bounds, errors)
    add("pendulum", "HamiltonianLift, as a network", 1, list(steps), [], lifted_pendulum(steps))
    columns = ("target", "way", "steps", "flows", "bound", "error")
    tables = {"curves": Table(columns, tuple(curve))}
    return Result(asdict(configuration), rows, bars, tables, seconds)
