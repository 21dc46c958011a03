"""docs/integrators.md, made by `python -m verification.integrators_page`: what integrators keep.

All of it is measured, nothing copied from what the integrators say of themselves; a test compares
the two.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dsnn.fields import HasEnergy, SumField, VectorField
from dsnn.integrators import (
    AverageVectorField,
    ExplicitEuler,
    Gonzalez,
    Heun,
    ImplicitMidpoint,
    Integrator,
    LieTrotter,
    Projected,
    RelaxedHeun,
    RungeKutta4,
    StormerVerlet,
    Strang,
    SymplecticEuler,
)
from dsnn.structure import ENERGY, MASS, NORM, SYMPLECTIC, VOLUME
from verification import defects, markdown
from verification.integrators_problems import Cross, problems

PAGE = Path(__file__).parent.parent / "docs" / "integrators.md"
STEP, SHORT, LONG = 0.2, 5.0, 20.0
"""The larger of two steps, and the times over which a drift may grow."""
ROUND_OFF = 1e-11
INVARIANTS = {
    MASS: "sum of entries",
    NORM: "abs(x)²",
    ENERGY: "energy",
    VOLUME: "volume",
    SYMPLECTIC: "symplectic form",
}


@dataclass(frozen=True)
class Row:
    """A method, its name on the page, and which problems it takes."""

    name: str
    integrator: Integrator
    kind: str


ROWS = (
    Row("explicit Euler", ExplicitEuler(), "any"),
    Row("Heun", Heun(), "any"),
    Row("Runge-Kutta 4", RungeKutta4(), "any"),
    Row("implicit midpoint", ImplicitMidpoint(), "any"),
    Row("symplectic Euler", SymplecticEuler(), "shears"),
    Row("Störmer-Verlet", StormerVerlet(), "shears"),
    Row("Lie-Trotter of midpoints", LieTrotter(ImplicitMidpoint(), ImplicitMidpoint()), "split"),
    Row("Strang of midpoints", Strang(ImplicitMidpoint(), ImplicitMidpoint()), "split"),
    Row("relaxed Heun", RelaxedHeun(), "spheres"),
    Row("projected Heun", Projected(), "spheres"),
    Row("Gonzalez", Gonzalez(), "gradients"),
    Row("average vector field", AverageVectorField(), "gradients"),
)


@dataclass(frozen=True)
class Cell:
    """What a method does to an invariant: `exact`, `bounded` (an error that does not grow with
    time) or `no`; and the power of the step that the error falls with, None when exact."""

    kind: str
    power: float | None = None

    def __str__(self) -> str:
        if self.kind == "exact":
            return "exact"
        return f"order {self.power:.1f}" if self.kind == "bounded" else f"no (h^{self.power:.1f})"


def measured() -> dict[str, tuple[float, dict[str, Cell]]]:
    """By row, the order of the global error, and the cells by invariant."""
    known = problems()
    return {
        row.name: (
            order(row.integrator, known[row.kind][ENERGY]),
            {
                name: cell(row.integrator, known[row.kind][name], name)
                for name in INVARIANTS
            },
        )
        for row in ROWS
    }  # fmt: skip


def cell(integrator: Integrator, field: VectorField, invariant: str) -> Cell:
    """Drifts of numbers along trajectories; defects of the map over one step."""
    integrator.require(field)
    if invariant in (VOLUME, SYMPLECTIC):
        coarse, fine = (_defect(integrator, field, h, invariant) for h in (STEP, STEP / 2))
        return _judged(coarse, fine, grows=True)
    measure = _measure(field, invariant)
    coarse, _ = _drift(integrator, field, measure, STEP)
    fine, early = _drift(integrator, field, measure, STEP / 2)
    return _judged(coarse, fine, grows=fine > 2 * early)


def _judged(coarse: float, fine: float, *, grows: bool) -> Cell:
    if max(coarse, fine) <= ROUND_OFF:
        return Cell("exact")
    if math.isinf(max(coarse, fine)):
        return Cell("no", -math.inf)
    return Cell("no" if grows else "bounded", math.log2(coarse / fine))


def _states(field: VectorField) -> Tensor:
    """Three states, small enough for the wells of Hénon-Heiles."""
    x = torch.tensor([[0.3, 0.1, 0.2, -0.1], [-0.2, 0.25, 0.1, 0.15], [0.1, -0.2, 0.3, 0.2]])
    first = field.first if isinstance(field, SumField) else field
    return 2 * x.double()[:, :3] if isinstance(first, Cross) else x.double() / 4


def _measure(field: VectorField, invariant: str) -> Callable[[Tensor], Tensor]:
    if invariant == MASS:
        return lambda x: x.sum(1)
    if invariant == NORM:
        return lambda x: (x**2).sum(1)
    parts = [field.first, field.second] if isinstance(field, SumField) else [field]
    return lambda x: torch.stack([cast(HasEnergy, part).integral(x) for part in parts]).sum(0)


@torch.no_grad()
def _drift(
    integrator: Integrator, field: VectorField, measure: Callable[[Tensor], Tensor], h: float
) -> tuple[float, float]:
    """Largest change over the long time, and over the short one."""
    x, time = _states(field), torch.tensor(h, dtype=torch.float64)
    start, largest, early = measure(x), 0.0, 0.0
    for k in range(round(LONG / h)):
        x = integrator.advance(field, x, time)
        largest = defects.largest((largest, float((measure(x) - start).abs().max())))
        if (k + 1) * h <= SHORT:
            early = largest
    return largest, early


def _defect(integrator: Integrator, field: VectorField, h: float, invariant: str) -> float:
    """Of one step, over the states."""
    time = torch.tensor(h, dtype=torch.float64)
    measure = defects.volume_defect if invariant == VOLUME else defects.symplectic_defect
    return measure(lambda x: integrator.advance(field, x, time), _states(field))


@torch.no_grad()
def order(integrator: Integrator, field: VectorField) -> float:
    """log2 of the error ratio between 20 and 40 steps over a time of 1, against a fine solution."""

    def end(method: Integrator, steps: int) -> Tensor:
        x, h = _states(field), torch.tensor(1 / steps, dtype=torch.float64)
        for _ in range(steps):
            x = method.advance(field, x, h)
        return x

    exact = end(RungeKutta4(), 400)
    coarse, fine = (float((end(integrator, n) - exact).abs().max()) for n in (20, 40))
    return math.log2(coarse / fine)


def page() -> str:
    """The page with its table."""
    rows = [
        (name, f"{power:.1f}", *(str(cells[invariant]) for invariant in INVARIANTS))
        for name, (power, cells) in measured().items()
    ]
    lines = [
        "# What the integrators keep",
        "",
        "Made by `python -m verification.integrators_page`, which measures every entry: drifts of "
        f"the sum, of abs(x)² and of the energy over a time of {LONG:g}, defects of volume and of "
        f"the symplectic form over one step, each at h = {STEP:g} and at half of it.",
        "",
        "- **exact**: below 1e-11 at both steps.",
        "- **order p**: an error that falls like h^p and does not grow with time.",
        "- **no (h^p)**: an error that falls like h^p, and grows with time; for volume and the "
        "symplectic form p is that of one step.",
        "",
        markdown.table(("method", "order", *INVARIANTS.values()), rows),
        "",
        "Every field conserves the invariant of its column. Shears and splittings are given fields "
        "of their own form, relaxation and projection fields tangent to spheres, and energies are "
        "not quadratic: a quadratic one the midpoint rule keeps exactly. That discrete gradients "
        "keep the sum and abs(x)² here is due to the fields, whose S(x) maps every gradient to the "
        "plane or to the tangent of the sphere; the library does not claim it. What it does claim "
        "is `Integrator.preserves`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
