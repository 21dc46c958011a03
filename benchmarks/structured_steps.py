"""Processor time of structured steps over that of a free one, x + h (B tanh(Ax + b) + d)."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dsnn.fields import (
    MassField,
    RingMassField,
    mass_field,
    separable_hamiltonian,
    sphere_field,
    volume_field,
)
from dsnn.integrators import (
    ExplicitEuler,
    NumericalStep,
    RelaxedHeun,
    StormerVerlet,
    SymplecticEuler,
)
from experiments.free import FreeField

BATCH, REPEATS, INNER = 256, 9, 30
SIZES = ((10, 50), (32, 128))
"""Entries of the state and rows of a hidden layer; the first is the paper's for SIR. A symplectic
step has two such layers, of half the state each."""


STEPS: dict[str, Callable[[int, int], NumericalStep]] = {
    "symplectic Euler": lambda n, w: NumericalStep(
        separable_hamiltonian(n, w), SymplecticEuler(), 0.1
    ),
    "symplectic Euler, half the rows in each shear": lambda n, w: NumericalStep(
        separable_hamiltonian(n, w // 2), SymplecticEuler(), 0.1
    ),
    "Störmer-Verlet": lambda n, w: NumericalStep(separable_hamiltonian(n, w), StormerVerlet(), 0.1),
    "mass, ring": lambda n, w: NumericalStep(RingMassField(n, w), ExplicitEuler(), 0.1),
    "mass, triangle": lambda n, w: NumericalStep(mass_field(n, w), ExplicitEuler(), 0.1),
    "mass, full matrix": lambda n, w: NumericalStep(MassField(n), ExplicitEuler(), 0.1),
    "volume": lambda n, w: NumericalStep(volume_field(n), SymplecticEuler(), 0.1),
    "norm, relaxed Heun": lambda n, w: NumericalStep(sphere_field(n, w), RelaxedHeun(), 0.1),
}


def run() -> list[dict[str, object]]:
    """A row per step and size: processor time of a forward and a backward pass in float64. All
    steps take turns, so that a change of the machine's load meets all of them."""
    return [row for dim, width in SIZES for row in _compare(dim, width)]


def _compare(dim: int, width: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    free = NumericalStep(FreeField(dim, width), ExplicitEuler(), 0.1)
    steps = {"free": free, **{name: make(dim, width) for name, make in STEPS.items()}}
    x = torch.randn(BATCH, dim, dtype=torch.float64)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        _once(step.double(), x)
    for _ in range(REPEATS):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(INNER):
                _once(step, x)
            seconds[name].append((time.process_time() - start) / INNER)
    rows = []
    for name in STEPS:
        ratios = [own / other for own, other in zip(seconds[name], seconds["free"], strict=True)]
        rows.append(
            {
                "step": name,
                "state": dim,
                "width": width,
                "time / free step": {
                    "median": round(statistics.median(ratios), 2),
                    "low": round(min(ratios), 2),
                    "high": round(max(ratios), 2),
                },
                "median [ms]": round(1e3 * statistics.median(seconds[name]), 3),
            }
        )
    return rows


def _once(step: NumericalStep, x: Tensor) -> None:
    step.zero_grad(set_to_none=True)
    step(x).square().sum().backward()
