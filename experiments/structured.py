"""The experiments with structured networks, by name, each at two scales.

`smoke` takes seconds, to see that everything runs; `cpu` gives the numbers that are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsnn.errors import UserError
from dsnn.training.ensemble import Schedule
from experiments import (
    approximation,
    hamiltonian,
    ode_fields,
    regression,
    sir,
    trained_invariants,
)
from experiments.kept import Result, keep

SHORT = Schedule(epochs=2, batch=64, rate=1e-2)


@dataclass(frozen=True)
class Experiment:
    """`scales` by name: given the seeds, what was measured."""

    about: str
    scales: dict[str, Callable[[Sequence[int]], Result]]


def _experiment(about: str, run: Callable, cpu, smoke) -> Experiment:
    scales = {"cpu": cpu, "smoke": smoke}
    return Experiment(about, {k: lambda seeds, c=c: run(c, seeds) for k, c in scales.items()})


def _short_sir(configuration: sir.Configuration) -> sir.Configuration:
    return replace(configuration, schedule=SHORT, points=200, iterations=20)


def experiments() -> dict[str, Experiment]:
    """All of them, in the order of the paper."""
    found = {
        "sir-map": _experiment(
            "the SIR time-1 map", sir.run_map, sir.SIR_MAP, _short_sir(sir.SIR_MAP)
        ),
        "sir-rollout": _experiment(
            "rollouts of the SIR model", sir.run_rollout, sir.ROLLOUT, _short_sir(sir.ROLLOUT)
        ),
        "sir-data": _experiment(
            "error against the number of training points",
            sir.run_data,
            sir.SWEEP,
            replace(sir.SWEEP, base=_short_sir(sir.SWEEP.base), counts=(10, 40), updates=4),
        ),
    }
    for name, configuration in (("1d", regression.ONE), ("2d", regression.TWO)):
        found[f"regression-{name}"] = _experiment(
            f"regression of a function, {name}",
            regression.run,
            configuration,
            replace(configuration, schedule=SHORT, points=200),
        )
    for configuration in (ode_fields.CUBIC, ode_fields.PENDULUM):
        found[f"ode-{configuration.problem}"] = _experiment(
            f"a vector field from pairs, {configuration.problem}",
            ode_fields.run,
            configuration,
            replace(configuration, schedule=SHORT, paper=SHORT, points=100),
        )
    for configuration in (hamiltonian.PENDULUM, hamiltonian.HENON_HEILES):
        found[f"hamiltonian-{configuration.problem}"] = _experiment(
            f"a learned step over a long time, {configuration.problem}",
            hamiltonian.run,
            configuration,
            replace(configuration, schedule=SHORT, points=100, iterations=30),
        )
    found["approximation"] = _experiment(
        "orders of T2 and T3",
        approximation.run,
        approximation.APPROXIMATION,
        approximation.Configuration((8, 16, 32)),
    )
    found["invariants"] = _experiment(
        "what trained networks keep",
        trained_invariants.run,
        trained_invariants.CPU,
        replace(trained_invariants.CPU, schedule=SHORT, points=100, tests=3, iterations=30),
    )
    return found


def run(name: str, scale: str, seeds: int, folder: Path) -> tuple[Result, Path]:
    """What experiment `name` measured with the seeds 0, 1, ..., and the JSON it is kept in.

    Raises UserError on an unknown name or less than one seed.
    """
    known = experiments()
    if name not in known:
        raise UserError(f"unknown experiment {name!r}: one of {', '.join(known)}")
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: at least 1")
    result = known[name].scales[scale](range(seeds))
    return result, keep(folder, name, scale, range(seeds), result)
