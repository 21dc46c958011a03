"""Learned time-0.1 maps of the pendulum over 10,000 steps: what structure buys, and strupnet."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import VectorField, separable_hamiltonian
from dsnn.integrators import NumericalStep, RungeKutta4, StormerVerlet
from experiments.reference import pendulum, pendulum_energy

STEP, STEPS, ITERATIONS, POINTS = 0.1, 10_000, 1_500, 400
LAYERS, WIDTH = 4, 16
SEEDS = (0, 1, 2)


def run() -> list[dict[str, object]]:
    """A row per model: trained on the same pairs with the same optimiser, in float64, one seed
    each; the drift is that of the true energy, the largest over eight trajectories."""
    rows = []
    for name, make in _models().items():
        for seed in SEEDS:
            torch.manual_seed(seed)
            rows.append({"model": name, "seed": seed, **_measured(make().double())})
    return rows


@torch.no_grad()
def exact(x: Tensor) -> Tensor:
    """The time-0.1 map by 20 steps of Runge-Kutta: an error below 1e-12."""
    field, h = _Pendulum(), torch.tensor(STEP / 20, dtype=torch.float64)
    for _ in range(20):
        x = RungeKutta4().advance(field, x, h)
    return x


class _Pendulum(VectorField):
    def forward(self, x: Tensor) -> Tensor:
        return pendulum(x)


class _Free(nn.Module):
    """x + MLP(x): the unconstrained network of about the same size."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + STEP * self.net(x)


def _verlet() -> nn.Module:
    return nn.Sequential(
        *(
            NumericalStep(separable_hamiltonian(2, WIDTH), StormerVerlet(), STEP / LAYERS)
            for _ in range(LAYERS)
        )
    )


class _Strupnet(nn.Module):
    """A SympNet of twice as many layers, each of which is one shear."""

    def __init__(self, method: str):
        super().__init__()
        before = torch.get_default_dtype()
        try:
            # It sets the default type to float64, and needs it so.
            from strupnet import SympNet  # pyright: ignore[reportMissingImports]

            torch.set_default_dtype(torch.float64)
            self.net = SympNet(dim=1, layers=2 * LAYERS, width=WIDTH, method=method)
        except ImportError as error:
            raise UserError("strupnet is missing: pip install -e '.[bench]'") from error
        finally:
            torch.set_default_dtype(before)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, STEP)


def _models() -> dict[str, Callable[[], nn.Module]]:
    return {
        "free": _Free,
        "Störmer-Verlet": _verlet,
        **{f"strupnet {m}": lambda m=m: _Strupnet(m) for m in ("G", "LA", "P")},
    }


def _measured(net: nn.Module) -> dict[str, object]:
    generator = torch.Generator().manual_seed(7)

    def states(count: int) -> Tensor:
        return 2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1

    x, test = states(POINTS), states(POINTS)
    y = exact(x)
    start = time.perf_counter()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
        decay.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        error = (net(test) - exact(test)).square().mean().sqrt()
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "training [s]": round(seconds, 1),
        "error of a step": f"{float(error):.1e}",
        "energy drift": f"{_drift(net, states(8)):.1e}",
        "symplectic defect": f"{_defect(net, states(8)):.1e}",
    }


@torch.no_grad()
def _drift(net: nn.Module, x: Tensor) -> float:
    start, largest = pendulum_energy(x), 0.0
    for _ in range(STEPS):
        x = net(x)
        change = float((pendulum_energy(x) - start).abs().max())
        if not math.isfinite(change):
            return math.inf
        largest = max(largest, change)
    return largest


def _defect(net: nn.Module, states: Tensor) -> float:
    """In the plane, symplectic is det = 1."""
    jacobians = [torch.autograd.functional.jacobian(lambda s: net(s[None])[0], x) for x in states]
    return max(abs(float(torch.linalg.det(J)) - 1) for J in jacobians if isinstance(J, Tensor))
