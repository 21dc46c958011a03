"""Invariants of trained networks: kept to round-off, audited, and refuted on the wrong forms.

One small network per property learns a map that has it: the SIR flow (mass), the rigid body (norm),
a divergence-free flow in R^8 (volume), Hénon-Heiles (symplectic), and the pendulum's Hamiltonian,
along which discrete gradients then move. The published forms learn the same maps.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dsnn.fields import (
    HamiltonianField,
    LayerPotential,
    PotentialField,
    hamiltonian,
    sphere_field,
)
from dsnn.integrators import ExplicitEuler, Gonzalez, Heun, NumericalStep
from dsnn.models import mass_network, norm_network, symplectic_network, volume_network
from dsnn.operators import Dense
from dsnn.structure import GRADIENT, MASS, NORM, SYMPLECTIC, VOLUME
from dsnn.training.ensemble import Schedule, train_ensemble
from experiments.free import size, spread
from experiments.kept import Bar, Result, over_seeds
from experiments.measures import (
    along,
    audited,
    drift,
    inverse_defect,
    length,
    mean_square_error,
    total,
)
from experiments.published_forms import PublishedGradient
from experiments.reference import (
    Field,
    cubic,
    divergence_free,
    flow,
    henon_heiles,
    pendulum,
    rigid_body,
    sir,
)
from verification.defects import symplectic_defect, volume_defect

ITERATIONS = 10_000
LIMITS = {
    MASS: 1e-12,
    NORM: 1e-12,
    VOLUME: 1e-10,
    SYMPLECTIC: 1e-10,
    "energy": 1e-11,
    "inverse": 1e-12,
}


FOLLOWED = 5
"""States whose trajectories are followed, to measure the defects of a step along them."""


@dataclass(frozen=True)
class Configuration:
    """`points` training states, `tests` states where invariants are measured."""

    schedule: Schedule
    points: int = 500
    tests: int = 20
    iterations: int = ITERATIONS
    audit_seconds: float = 5.0


CPU = Configuration(Schedule(epochs=100, batch=50, rate=1e-2, every=40))


@dataclass(frozen=True)
class Case:
    """A map to learn, the time-`step` flow of a field, or with step 0 the field itself; the network
    that keeps `claim`, by `theorem`, and the published form that does not, if there is one."""

    claim: str
    theorem: str
    name: str
    field: Field
    dim: int
    step: float
    make: Callable[[], nn.Module]
    wrong: Callable[[], nn.Module] | None = None
    wrong_name: str = ""

    def states(self, count: int, seed: int) -> Tensor:
        """Uniform in [-1, 1]^dim; of the SIR model, shares that add up to 1; of Hénon-Heiles, where
        orbits stay."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(count, self.dim, generator=generator, dtype=torch.float64)
        if self.claim == MASS:
            return x / x.sum(1, keepdim=True)
        return (2 * x - 1) * (0.4 if self.claim == SYMPLECTIC else 1.0)

    def follow(self, x: Tensor) -> Tensor:
        return flow(self.field, x, [self.step])[0] if self.step else self.field(x)


def _euler_on_spheres() -> nn.Module:
    """The published form of the norm-preserving network: explicit Euler steps of Λ(x) x."""
    fields = (spread(sphere_field(3, 16)) for _ in range(3))
    return nn.Sequential(*(NumericalStep(field, ExplicitEuler(), 0.1) for field in fields))


def _gradient() -> nn.Module:
    return spread(PotentialField(LayerPotential(Dense(4, 16), weighted=True)))


CASES = (
    Case(
        MASS, "T14", "SIR, time 1", sir, 3, 1.0,
        lambda: mass_network((3, 6, 3), 3, 16, "relu", "relu"),
    ),
    Case(
        NORM, "T15", "rigid body, time 1/2", rigid_body, 3, 0.5,
        lambda: spread(norm_network(3, 3, 16)), _euler_on_spheres, "explicit Euler on Λ(x) x",
    ),
    Case(
        VOLUME, "T12", "divergence-free flow in R^8, time 1/5", divergence_free, 8, 0.2,
        lambda: spread(volume_network(8, 6)),
    ),
    Case(
        SYMPLECTIC, "T13", "Hénon-Heiles, time 1/10", henon_heiles, 4, 0.1,
        lambda: spread(symplectic_network(4, 4, 16, time=0.025)),
    ),
    Case(
        GRADIENT, "T2'", "the field sin³x + x³", cubic, 4, 0.0,
        _gradient, lambda: spread(PublishedGradient(4, "tanh")), "D Aᵀ Σ(Ax + b)",
    ),
)  # fmt: skip


def _measured(case: Case, nets: Sequence[nn.Module], c: Configuration) -> dict[str, list[float]]:
    """By name of the limit, what was measured of each network."""
    x = case.states(c.tests, 3)
    if case.claim in (MASS, NORM):
        measure, scale = (total, _one_norm) if case.claim == MASS else (length, length)
        drifts = [drift(net, x, measure, c.iterations, relative_to=scale) for net in nets]
        return {case.claim: [d.largest for d in drifts]}
    defects = {VOLUME: volume_defect, SYMPLECTIC: symplectic_defect}
    if case.claim not in defects:
        return {}
    counts = [0, *(c.iterations // 10**k for k in (4, 3, 2, 1, 0))]
    passed = [along(net, x[:FOLLOWED], counts) for net in nets]
    defect = defects[case.claim]
    found = [defect(net, torch.cat([x, states])) for net, states in zip(nets, passed, strict=True)]
    return {case.claim: found} | {"inverse": [inverse_defect(net, x) for net in nets]}


def _one_norm(x: Tensor) -> Tensor:
    return x.abs().sum(1)


def run(configuration: Configuration, seeds: Sequence[int]) -> Result:
    """Every property on its trained networks: measured, audited, and the wrong forms refuted."""
    c, rows, bars, seconds = configuration, [], [], {}
    for case in CASES:
        x, test = case.states(c.points, 0), case.states(c.points, 1)
        y, after = case.follow(x), case.follow(test)
        for right, make in ((True, case.make), (False, case.wrong)):
            if make is None:
                continue
            form = "ours" if right else case.wrong_name
            start = time.process_time()
            nets = train_ensemble(make, seeds, x, y, c.schedule).networks
            seconds[f"{case.claim}, {form}"] = time.process_time() - start
            with torch.no_grad():
                errors = over_seeds(mean_square_error(net(test), after) for net in nets)
            measured = _measured(case, nets, c)
            found = audited(case.claim, nets, case.dim, c.audit_seconds)
            rows.append(
                {
                    "property": case.claim,
                    "learns": case.name,
                    "form": form,
                    "parameters": size(nets[0]),
                    "test MSE": errors,
                    "measured": {name: max(values) for name, values in measured.items()},
                    **found,
                }
            )
            expected = "proved" if right else "refuted"
            named = found["theorem"] == case.theorem or not right
            bars.append(
                Bar(f"audits of {form}, {case.claim}, that are not {expected}"
                    + (f" by {case.theorem}" if right else ""), 0,
                    float(found["audit"] != expected or not named))
            )  # fmt: skip
            if right:
                bars += [
                    Bar(f"{case.claim}: {_WORDS[name]}", LIMITS[name], max(values))
                    for name, values in measured.items()
                ]
    row, more, seconds["energy"] = _energy(c, seeds)
    return Result(asdict(c), [*rows, row], [*bars, *more], {}, seconds)


_WORDS = {
    MASS: "drift of the sum over all steps, relative",
    NORM: "drift of the norm over all steps, relative",
    VOLUME: "||det J| - 1|",
    SYMPLECTIC: "|JᵀSJ - S|",
    "inverse": "|inverse(forward(x)) - x|",
}


def _energy(c: Configuration, seeds: Sequence[int]) -> tuple[dict[str, Any], list[Bar], float]:
    """A Hamiltonian learned from the pendulum, kept by Gonzalez' discrete gradient. The step is
    implicit, so the audit is of what T15 needs of the field: that it is J times a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(c.points + c.tests, 2, generator=generator, dtype=torch.float64) - 1
    y = flow(pendulum, x, [0.1])[0]

    def make() -> nn.Module:
        return NumericalStep(spread(hamiltonian(2, 16)), Heun(), 0.1)

    start = time.process_time()
    nets = train_ensemble(make, seeds, x[: c.points], y[: c.points], c.schedule).networks
    spent = time.process_time() - start
    worst, test = 0.0, x[c.points :]
    gradients = []
    for net in nets:
        assert isinstance(net, NumericalStep)
        field = net.field
        assert isinstance(field, HamiltonianField)
        gradients.append(PotentialField(field.energy))
        step = NumericalStep(field, Gonzalez(), 0.1).double()
        worst = max(worst, drift(step, test, field.integral, c.iterations).largest)
    with torch.no_grad():
        errors = over_seeds(mean_square_error(net(test), y[c.points :]) for net in nets)
    found = audited(GRADIENT, gradients, 2, c.audit_seconds)
    row = {
        "property": "energy",
        "learns": "the pendulum's Hamiltonian",
        "form": "Gonzalez, h = 0.1",
        "parameters": size(nets[0]),
        "test MSE": errors,
        "measured": {"energy": worst},
        **found,
        "evidence": f"of the gradient of H: {found['evidence']}; the rest is T15-discrete-gradient",
    }
    bars = [
        Bar(
            "audits of the gradient of the learned H that are not proved by T2'",
            0,
            float((found["audit"], found["theorem"]) != ("proved", "T2'")),
        ),
        Bar("energy: drift over all steps of the discrete gradient", LIMITS["energy"], worst),
    ]
    return row, bars, spent
