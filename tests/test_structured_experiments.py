"""The experiments with structured networks: problems, measures, runs, and what is kept of them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import PotentialField
from dsnn.integrators import ExplicitEuler, NumericalStep, RelaxedHeun
from experiments import approximation, measures, ode_fields, reference, sir, structured
from experiments.free import hidden_rows, residual_network, size
from experiments.hamiltonian import PROBLEMS
from experiments.kept import Bar, Result, Table, over_seeds
from experiments.measures import (
    audited,
    drift,
    inverse_defect,
    length,
    total,
)
from experiments.provenance import short_commit
from experiments.published_forms import PublishedGradient
from paper_repro import kept_results, structured_figures, structured_page
from paper_repro.registry import registry
from paper_repro.reproduce import Place
from theory.presnov import presnov
from verification.defects import jacobian, symplectic_defect, volume_defect

# Problems. ---------------------------------------------------------------------------------


def states(count: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 2 * torch.rand(count, dim, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize(
    ("field", "invariant", "dim"),
    [
        (reference.sir, total, 3),
        (reference.pendulum, reference.pendulum_energy, 2),
        (reference.henon_heiles, reference.henon_heiles_energy, 4),
        (reference.rigid_body, length, 3),
        (reference.pendulum_spherical, length, 2),
    ],
)
def test_reference_flows_keep_their_invariants(field, invariant, dim: int):
    x = states(5, dim).abs() / 3
    after = reference.flow(field, x, [0.5, 1.0])
    assert after.shape == (2, 5, dim)
    assert float((after[1] - x).abs().max()) > 1e-2
    assert float((invariant(after[1]) - invariant(x)).abs().max()) <= 1e-11


def test_the_divergence_vanishes():
    for x in states(3, 8):
        assert abs(float(jacobian(reference.divergence_free, x).trace())) <= 1e-15


def test_spherical_part_of_the_pendulum_is_that_of_the_theory():
    """Away from q = 0 and near it, where the quotients are series."""
    q, p = sympy.symbols("q p")
    part = presnov([p, -sympy.sin(q)], [q, p]).tangential
    x = states(6, 2)
    x[3:, 0] = torch.tensor([1e-2, -3e-3, 1e-5])
    ours = reference.pendulum_spherical(x)
    for state, found in zip(x.tolist(), ours.tolist(), strict=True):
        point = dict(zip((q, p), map(sympy.Float, state), strict=True))
        exact = [float(sympy.N(entry.subs(point), 30)) for entry in part]
        assert np.allclose(found, exact, rtol=0, atol=1e-10)


def test_free_networks_have_the_size_asked_for():
    net = residual_network(3, 15, 3, 9, hidden_rows(35_544, 3, 15, 3, 9), "relu")
    assert abs(size(net) - 35_544) <= 9 * 31 / 2
    with pytest.raises(UserError, match="too few"):
        hidden_rows(100, 3, 15, 3, 9)


def test_states_of_long_runs_stay_below_the_energy():
    for problem in PROBLEMS.values():
        from experiments.hamiltonian import states as drawn

        x = drawn(problem, 50, 0)
        assert x.shape == (50, problem.dim)
        assert float(problem.energy(x).max()) <= problem.highest


# Measures that must be able to fail. -----------------------------------------------------------


def test_drift_sees_explicit_euler_and_blow_up():
    torch.manual_seed(0)
    from dsnn.fields import sphere_field

    field, x = sphere_field(3, 8).double(), states(4, 3)
    kept = drift(NumericalStep(field, RelaxedHeun(), 0.1).double(), x, length, 200)
    lost = drift(NumericalStep(field, ExplicitEuler(), 0.1).double(), x, length, 200)
    assert kept.largest <= 1e-13 < 1e-3 < lost.largest
    assert kept.steps[0] == 0
    assert kept.steps[-1] == 200
    assert len(kept.steps) == len(kept.values)
    assert drift(lambda s: s * torch.inf, x, length, 5).largest == math.inf


def test_defects_see_a_stretch():
    stretch: Callable[[Tensor], Tensor] = lambda x: x * torch.tensor([2.0, 1.0])  # noqa: E731
    shear: Callable[[Tensor], Tensor] = lambda x: x + x.flip(1) * torch.tensor([0.3, 0.0])  # noqa: E731
    x = states(2, 2)
    assert volume_defect(stretch, x) == pytest.approx(1)
    assert symplectic_defect(stretch, x) == pytest.approx(1)
    assert volume_defect(shear, x) <= 1e-15
    assert symplectic_defect(shear, x) <= 1e-15


class _Lost(nn.Identity):
    """Its inverse is no number anywhere."""

    def inverse(self, y: Tensor) -> Tensor:
        return y * torch.nan


def test_an_inverse_that_is_no_number_is_no_small_one():
    x = states(2, 2)
    assert max((0.0, inverse_defect(_Lost(), x))) == math.inf, "of the second of two seeds"


def test_the_published_gradient_is_refuted_and_the_right_one_proved():
    torch.manual_seed(1)
    wrong = PublishedGradient(3, "tanh")
    nn.init.uniform_(wrong.alpha)
    assert audited("gradient-field", [wrong.double()], 3, 1.0)["audit"] == "refuted"
    right = ode_fields.presnov_field(3, 4, 4).first
    assert isinstance(right, PotentialField)
    found = audited("gradient-field", [right.double()], 3, 1.0)
    assert (found["audit"], found["theorem"]) == ("proved", "T2'")


@pytest.mark.parametrize(("by", "named"), [(("T14", "T15"), "T14, T15"), (("", "T14"), "T14")])
def test_the_theorems_of_all_networks_are_named(
    by: tuple[str, str], named: str, monkeypatch: pytest.MonkeyPatch
):
    theorems = iter(by)

    def audit(*_: object, **__: object) -> SimpleNamespace:
        evidence = {"theorem": next(theorems), "text": "so"}
        return SimpleNamespace(verdicts=[SimpleNamespace(outcome="proved", evidence=evidence)])

    monkeypatch.setattr(measures, "audit", audit)
    found = audited("mass-preserving", [nn.Identity(), nn.Identity()], 3, 1.0)
    assert found == {"audit": "proved", "theorem": named, "evidence": "so"}


def test_published_prediction_uses_its_target():
    """With the true end point given, it is no map of x alone."""
    torch.manual_seed(0)
    net, x, y = ode_fields.PublishedPrediction(2, 0.05).double(), states(3, 2), states(3, 2).flip(0)
    assert not torch.allclose(net(torch.cat([x, y], 1)), net(torch.cat([x, x], 1)), atol=1e-6)


def test_intervals_over_seeds():
    found = over_seeds([1.0, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["high"] - 2 == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert "low" not in over_seeds([1.0])
    assert over_seeds([1.0, math.inf]) == {"values": [1.0, "infinite"], "mean": None}
    assert over_seeds([math.nan])["values"] == [None]


def test_orders_are_slopes():
    steps = [4, 8, 16]
    assert approximation.slope(steps, [3 / n**2 for n in steps]) == pytest.approx(2)
    lifted = approximation.lifted_pendulum([8, 16, 32])
    assert abs(approximation.slope([8, 16, 32], lifted) - 1) <= approximation.ORDER_BAR


def test_sweeps_take_as_many_updates_for_any_number_of_points():
    for count in sir.SWEEP.counts:
        schedule = sir.SWEEP.at(count).schedule
        updates = schedule.epochs * math.ceil(count / schedule.batch)
        assert 0.9 * sir.SWEEP.updates <= updates <= sir.SWEEP.updates


# Runs, at smoke scale. -----------------------------------------------------------------------

SLOW = ("approximation",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in structured.experiments()
    ],
)
def test_every_experiment_runs(name: str, tmp_path: Path):
    result, path = structured.run(name, "smoke", 1, tmp_path)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["experiment"] == name
    assert (kept["scale"], kept["seeds"]) == ("smoke", [0])
    assert kept["commit"] == short_commit()
    assert {"python", "torch"} <= kept["environment"].keys()
    assert len(kept["rows"]) == len(result.rows) >= 2
    for table in result.tables:
        rows = kept_results.table(tmp_path / f"{name}-{table}.csv")
        assert len(rows) >= 2
        assert None not in rows[-1].values()
    exact = [bar for bar in result.bars if "MSE" not in bar.what and "order" not in bar.what]
    assert all(bar.holds for bar in exact), [bar for bar in exact if not bar.holds]


def test_the_command(dsnn, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code, out, _ = dsnn("experiment")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(structured.experiments())
    code, out, _ = dsnn("experiment", "--json", "-")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)["experiments"]] == list(
        structured.experiments()
    )
    assert "unknown experiment 'sirr'" in refused("experiment", "sirr")
    assert refused("experiment", "sir-map", "--out", Path(__file__) / "in")

    def run(name: str, scale: str, seeds: int, folder: Path) -> tuple[Result, Path]:
        bars = [Bar("low enough", 1.0, 0.5), Bar("too high", 1.0, measured)]
        return Result({}, [], bars, {"t": Table(("a",), ((1.0,),))}), folder / f"{name}.json"

    monkeypatch.setattr(structured, "run", run)
    measured = 1.5
    code, out, _ = dsnn("experiment", "sir-map", "--out", tmp_path)
    assert code == 1
    assert "FAILS  too high: 1.5 (at most 1)" in out
    code, out, _ = dsnn("experiment", "sir-map", "--out", tmp_path, "--json", "-")
    assert code == 1
    (entry,) = json.loads(out)["experiments"]
    assert entry["file"] == str(tmp_path / "sir-map.json")
    assert [bar["holds"] for bar in entry["bars"]] == [True, False]
    assert dsnn("experiment", "sir-map", "--out", tmp_path, "--scale", "smoke")[0] == 0
    measured = math.nan
    assert dsnn("experiment", "sir-map", "--out", tmp_path)[0] == 1


# What is kept. -------------------------------------------------------------------------------


def test_the_page_has_all_its_parts():
    assert "{{" not in structured_page.page(structured_page.results())


@pytest.mark.parametrize("name", structured_page.ORDER)
def test_kept_results_are_those_of_real_runs(name: str):
    kept = kept_results.numbers(kept_results.FOLDER / f"{name}.json")
    assert (kept["scale"], kept["seeds"]) == ("cpu", [0, 1, 2])
    assert len(kept["commit"]) == 12, "run from a commit, without changes since"
    assert max(kept["seconds"].values()) <= 300
    for bar in kept["bars"]:
        assert bar["holds"] == (
            isinstance(bar["measured"], float) and bar["measured"] <= bar["limit"]
        )


@pytest.mark.parametrize("name", ["sir-components", "sir-trajectory"])
def test_published_errors_are_compared(name: str, tmp_path: Path):
    place = Place(registry()[name], tmp_path, tmp_path)
    place.make()
    (row,) = place.to_json()["compared"]
    assert row["verdict"] == ("agrees" if row["ours"] <= row["published"] else "differs")


def test_a_field_is_drawn_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of sin³x + x³ as published: 4.09 %, where the mean over the seeds is 9.81 %."""
    titles: list[str] = []

    def written(figure: Figure, stem: Path) -> None:
        titles.extend(axes.get_title() for axes in figure.axes)

    monkeypatch.setattr(structured_figures, "write_figure", written)
    artefact = registry()["ode-field"]
    assert artefact.make is not None
    artefact.make(artefact.packaged, tmp_path / artefact.id)
    kept = kept_results.row(artefact.packaged["numbers"], network="published")
    first, *_ = kept["error of the field, relative"]["values"]
    assert titles[0] == f"as published: error {100 * first:.3g} %"
