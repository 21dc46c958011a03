"""AutoAttack on classifiers whose distances are known, what it refuses, and its place in a run."""

import csv
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from experiments import autoattack, counts, pieces, table
from experiments.autoattack import STANDARD, Outcome, check
from experiments.autoattack import autoattack as attack

Dsnn = Callable[..., tuple[int, str, str]]
EPSILON = 0.3


class Linear(nn.Module):
    """Scores W (x - 1/2), for images (B, 3, 8, 8); `through` comes first."""

    def __init__(self, classes: int = 10, through: Callable[[Tensor], Tensor] = lambda x: x):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.w = torch.randn((classes, 3 * 8 * 8), generator=generator)
        self.through = through

    def forward(self, x: Tensor) -> Tensor:
        return (self.through(x) - 0.5).flatten(1) @ self.w.T

    def distances(self, images: Tensor, labels: Tensor) -> Tensor:
        """To the nearest other class, (B,), float64."""
        w = self.w.double()
        scores = (images.double() - 0.5).flatten(1) @ w.T
        rows = w[labels][:, None] - w[None]
        margins = scores.gather(1, labels[:, None]) - scores
        return (margins / rows.norm(dim=2)).nan_to_num(torch.inf).amin(1)


def at_distances(model: Linear, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Images at these distances from the nearest other class, far from the pixels' ends, and their
    labels, which run through the classes."""
    labels = torch.arange(len(distances)) % len(model.w)
    generator = torch.Generator().manual_seed(5)
    rows = model.w[labels].double()
    start = rows / rows.norm(dim=1)[:, None]
    start += 0.02 * torch.randn(start.shape, generator=generator)
    start = start.reshape(-1, 3, 8, 8)
    factor = distances / model.distances(0.5 + start, labels)
    images = (0.5 + factor[:, None, None, None] * start).float()
    assert images.min() > 0.2
    assert images.max() < 0.8
    return images, labels


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four attacks with few steps."""
    honest = autoattack._standard

    def short(*arguments: Any) -> Any:
        made = honest(*arguments)
        made.apgd.n_iter = made.apgd_targeted.n_iter = made.fab.n_iter = 8
        made.apgd_targeted.n_target_classes = made.fab.n_target_classes = 3
        made.square.n_queries = 8
        return made

    monkeypatch.setattr(autoattack, "_standard", short)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What each of the attacks hands to the judge, in order."""
    honest, seen = autoattack.judge, []

    def judge(model: nn.Module, x: Tensor, y: Tensor, adversarial: Tensor, epsilon: float) -> Any:
        seen.append(adversarial)
        return honest(model, x, y, adversarial, epsilon)

    monkeypatch.setattr(autoattack, "judge", judge)
    return seen


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("classes", [4, 10])
def test_what_is_near_is_broken_and_what_is_far_is_not(classes: int):
    model = Linear(classes)
    images, labels = at_distances(model, torch.linspace(0.1, 2, 40).double() * EPSILON)
    true = model.distances(images, labels)
    outcome = attack(model, images, labels, EPSILON, 0)
    broken = torch.tensor([name is not None for name in outcome.by])
    assert not (broken & (true > EPSILON)).any()
    assert broken[true < 0.9 * EPSILON].all()
    assert set(outcome.by) <= {None, *STANDARD}
    assert not any(outcome.zero_gradient)


@pytest.mark.slow
def test_at_full_length_only_what_is_at_the_edge_is_left():
    model = Linear()
    images, labels = at_distances(model, torch.linspace(0.9, 1.1, 21).double() * EPSILON)
    true = model.distances(images, labels)
    broken = torch.tensor(
        [name is not None for name in attack(model, images, labels, EPSILON, 0).by]
    )
    assert not (broken & (true > EPSILON)).any()
    assert broken[true < 0.999 * EPSILON].all()


@pytest.mark.usefixtures("quick")
def test_the_seed_decides_and_nothing_else_changes(
    found: list[Tensor], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    model = Linear()
    images, labels = at_distances(model, torch.linspace(0.9, 1.5, 6).double() * EPSILON)
    caplog.set_level(logging.DEBUG)
    state, trace = torch.get_rng_state(), sys.gettrace()
    runs = []
    for seed in (1, 1, 2):
        attack(model, images, labels, EPSILON, seed)
        runs.append(list(found))
        found.clear()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(99)
        state = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))
    assert sys.gettrace() is trace
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert not caplog.records
    assert not logging.getLogger("auto-attack").disabled


@pytest.mark.usefixtures("quick")
def test_a_find_a_rounding_outside_the_ball_goes_on_to_the_next_attack(
    monkeypatch: pytest.MonkeyPatch,
):
    calls: list[str] = []

    def never(running: Any, images: Tensor, labels: Tensor) -> Tensor:
        calls.append(running.attacks_to_run[0])
        return images + 10 * torch.ones_like(images) * torch.nan

    monkeypatch.setattr(autoattack, "_found", never)
    model = Linear()
    images, labels = at_distances(model, torch.tensor([0.1, 0.2]).double())
    assert attack(model, images, labels, EPSILON, 0).by == (None, None)
    assert calls == list(STANDARD)


@pytest.mark.usefixtures("quick")
def test_zero_gradients_are_told_and_nan_is_no_example():
    """FAB divides by the gradient and returns NaN, which the package itself counts as broken."""
    model = Linear(through=lambda x: (4 * x).round() / 4)
    images = torch.rand((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images).argmax(1)
    outcome = attack(model, images, labels, EPSILON, 0)
    assert all(outcome.zero_gradient)
    assert "fab-t" not in outcome.by


@pytest.mark.usefixtures("quick")
def test_ties_everywhere_are_no_failure():
    model = Linear(through=lambda x: 0 * x + 0.5)
    images = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    outcome = attack(model, images, torch.zeros(3, dtype=torch.int64), EPSILON, 0)
    assert outcome == Outcome((None,) * 3, (True,) * 3)


class Noisy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-4 * torch.randn(len(x), 1)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Linear(3), "the network has 3: use --attack pgd-paper"),
        (Noisy(), "two calls on the same images gave different scores"),
        (Linear(through=lambda x: x.detach()), "none with respect to its input"),
        (Linear(through=lambda x: torch.full_like(x, 0.5)), "none with respect to its input"),
    ],
)
def test_networks_it_does_not_apply_to(model: nn.Module, expected: str):
    with pytest.raises(UserError, match=expected):
        check(model, torch.rand(2, 3, 8, 8))


def test_an_error_of_the_network_is_not_hidden():
    def broken(x: Tensor) -> Tensor:
        if x.requires_grad:
            raise RuntimeError("the network's own")
        return x

    with pytest.raises(RuntimeError, match="the network's own"):
        check(Linear(through=broken), torch.rand(2, 3, 8, 8))


def arguments(weights: Path, out: Path, *more: object) -> list[object]:
    attacks = [part for name in ("clean", "pgd-paper", "autoattack") for part in ("--attack", name)]
    epsilons = ["--eps", "1e-7", "--eps", "0.3"]
    return [
        "evaluate", weights, *attacks, *epsilons, "--limit", "30", "--out", out,
        "--json", out / "result.json", *more,
    ]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_a_run_holds_the_chain_and_goes_on_where_it_stopped(
    dsnn: Dsnn, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(pieces.AUTOATTACK_SHARD, "cpu", 15)
    honest, calls = pieces.run_autoattack, []

    def stopping(subject: Any, piece: Any, key: Any) -> Any:
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(subject, piece, key)

    monkeypatch.setattr(pieces, "run_autoattack", stopping)
    assert dsnn(*arguments(weights, tmp_path))[0] == 130
    kept = {path: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    code, _, error = dsnn(*arguments(weights, tmp_path))
    assert code == 0, error
    assert len(calls) == 3 + 2 * 2 - 2  # two epsilons, two shards each, two of the four kept
    assert all(path.read_bytes() == before for path, before in kept.items())
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {(row["attack"], row["epsilon"]): row for row in result["results"]}
    with Path(result["table"]).open(newline="") as file:
        images = list(csv.DictReader(file))
    for epsilon in (1e-7, 0.3):
        counted = rows["autoattack", epsilon]
        names = [f"autoattack@{epsilon!r}", f"pgd-paper@{epsilon!r}", "clean"]
        for image in images:
            chain = [float(image["radius"]) > epsilon, *(int(image[name]) for name in names)]
            assert chain == sorted(chain)
        clean = rows["clean", 0.0]["correct"]
        assert counted["attacked"] == clean - counted["certified"]
        assert counted["correct_alone"] == clean - sum(counted["broken_by"].values())
        alone = counted["correct_alone"] - counted["broken_by_pgd_paper_only"]
        assert counted["correct"] <= alone <= rows["pgd-paper", epsilon]["correct_alone"]
        low, high = counted["interval"]
        assert low < counted["accuracy"] < high or counted["correct"] == 0
    assert rows["autoattack", 1e-7]["attacked"] < rows["clean", 0.0]["correct"]


def test_a_certified_image_that_is_broken_fails_the_run(
    dsnn: Dsnn, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An attack that claims all it is given: what is certified it is given by mistake only."""
    plan = pieces.autoattack_key

    def careless(piece: Any, whole: table.Table, *rest: Any) -> Any:
        return plan(piece, replace(whole, radius=0 * whole.radius), *rest)

    def thorough(model: Any, images: Tensor, *_: Any) -> Outcome:
        return Outcome(("apgd-ce",) * len(images), (False,) * len(images))

    monkeypatch.setattr(autoattack, "autoattack", thorough)
    assert dsnn(*arguments(weights, tmp_path))[0] == 0
    monkeypatch.setattr(pieces, "autoattack_key", careless)
    code, _, error = dsnn(*arguments(weights, tmp_path))
    assert code == 1
    assert "autoattack found an adversarial example within 1e-07" in error


def test_counting_without_the_weaker_attack_fails_the_run(
    dsnn: Dsnn, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An AutoAttack that finds nothing would count more survivors than the paper's attack."""

    def blind(model: Any, images: Tensor, *_: Any) -> Outcome:
        return Outcome((None,) * len(images), (True,) * len(images))

    monkeypatch.setattr(autoattack, "autoattack", blind)
    code, _, error = dsnn(*arguments(weights, tmp_path))
    assert code == 0
    assert "have an all-zero gradient" in error
    result = json.loads((tmp_path / "result.json").read_text())
    counted = {row["epsilon"]: row for row in result["results"] if row["attack"] == "autoattack"}
    assert counted[0.3]["broken_by_pgd_paper_only"] > 0
    assert counted[0.3]["correct"] < counted[0.3]["correct_alone"]
    monkeypatch.setattr(table, "COUNTED_WITH", {})
    code, _, error = dsnn(*arguments(weights, tmp_path))
    assert code == 1
    assert "counts as right under autoattack at 0.3 but not under pgd-paper" in error


def test_the_missing_package_is_named(
    refused: Callable[..., str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(autoattack.util, "find_spec", lambda name: None)
    line = refused(*arguments(weights, tmp_path / "out"))
    assert "dsnn[attacks]" in line
    assert not (tmp_path / "out").exists()


def test_square_alone_finding_something_is_a_warning():
    row = {"epsilon": 0.5, "attacked": 9, "zero_gradient": 0, "broken_by": {"square": 2}}
    (line,) = counts.warnings([row, {"epsilon": 0.5}, row])
    assert "broke 2 images" in line
    assert counts.warnings([{**row, "broken_by": {"square": 0, "apgd-ce": 5}}]) == []
