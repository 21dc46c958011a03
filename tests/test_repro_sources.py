"""Figures and tables of evaluated and retrained networks, from what `dsnn train` and `dsnn
evaluate` write; each published number with its verdict."""

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dsnn.cli import run
from dsnn.errors import UserError
from paper_repro import compared, models, published, registry, robustness_table
from paper_repro.artefact import Comparison
from paper_repro.evaluated import Evaluated, evaluated
from paper_repro.models import Model, Source
from paper_repro.reproduce import Place

SIZES = ("0", "8/255", "16/255", "36/255", "0.3", "0.5", "0.6", "0.8", "1.0")
FIGURES = {
    "1": [f"contractivity-{name}" for name in ("s1", "s2", "half-step", "rectangle")],
    "2": ["auc-cifar10", *(f"robustness-cifar10-{margin}" for margin in published.MARGINS)],
    "3": ["auc-cifar100", *(f"robustness-cifar100-{margin}" for margin in published.MARGINS)],
    "4": [
        f"steps-switch-flexible-{dataset}-{margin}"
        for dataset in published.DATASETS
        for margin in published.MARGINS
    ],
    "5": ["sir-components", "sir-trajectory"],
    "6": ["regression-1d", "regression-2d", "ode-field", "ode-field-pendulum"],
    "7": ["robustness-v1"],
}
"""The paper's figures."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke-trained network in `run`, and its evaluation in `evaluation.json`."""
    folder = tmp_path_factory.mktemp("trained")

    def dsnn(*arguments: object) -> None:
        assert run([str(argument) for argument in arguments]) == 0

    asked = ["--regime", "switch-flexible", "--dataset", "generated", "--scale", "smoke"]
    dsnn("train", *asked, "--out", folder / "run")
    attacks = ["--attack", "clean", "--attack", "pgd-paper", "--limit", 8]
    sizes = [part for size in SIZES for part in ("--eps", size)]
    where = ["--out", folder / "evaluate", "--json", folder / "evaluation.json"]
    dsnn("evaluate", folder / "run" / "weights.safetensors", *attacks, *sizes, *where)
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Callable[[str], Place]:
    """An artefact where every network of the registry has the evaluation of the trained one, and
    every run its weights."""
    for artefact in registry.registry().values():
        for name in artefact.evaluations:
            target = tmp_path / "smoke" / "evaluations" / f"{name}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(trained / "evaluation.json", target)
        for name in artefact.runs:
            if "switch-flexible" in name:
                shutil.copytree(trained / "run", tmp_path / "smoke" / "models" / name)
    known = registry.registry()
    return lambda name: Place(known[name], tmp_path, tmp_path / "no data", "smoke")


def _rows(place: Place) -> list[dict[str, str]]:
    with (place.folder / "figures" / f"{place.artefact.id}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_figure_of_the_paper_is_made_with_rows(place: Callable[[str], Place]) -> None:
    for name in (name for names in FIGURES.values() for name in names):
        one = place(name)
        one.make()
        assert {file.suffix for file in one.files} >= {".pdf", ".png", ".csv"}
        assert all(file.stat().st_size > 0 for file in one.files), name
        assert _rows(one), name
        assert one.status() == "fresh"


def test_a_new_evaluation_makes_a_figure_stale(place: Callable[[str], Place]) -> None:
    one = place("robustness-cifar10-0.15")
    one.make()
    before = {row["network"] for row in _rows(one)}
    file = one.folder / "evaluations" / "retrained-naive-cifar10-0.15-0.json"
    content = file.read_text()
    file.unlink()
    assert one.status() == "stale"
    one.make()
    assert before - {row["network"] for row in _rows(one)} == {"retrained-naive-cifar10-0.15-0"}
    file.write_text(content)
    assert one.status() == "stale"


def test_evaluations_are_drawn_as_they_are(place: Callable[[str], Place], trained: Path) -> None:
    one = place("robustness-cifar10-0.15")
    one.make()
    found = json.loads((trained / "evaluation.json").read_text())
    name = "retrained-naive-cifar10-0.15-0"
    drawn = [row for row in _rows(one) if row["network"] == name]
    assert {row["dataset"] for row in drawn} == {"generated"}
    attacked = [(float(r["epsilon"]), float(r["robust_accuracy"])) for r in drawn
                if r["attack"] in ("clean", "pgd-paper")]  # fmt: skip
    rows = [r for r in found["results"] if r["attack"] == "pgd-paper"]
    assert attacked == [(r["epsilon"], r["accuracy"]) for r in rows]
    steps = [(float(r["epsilon"]), float(r["robust_accuracy"])) for r in drawn
             if r["attack"] == "certified"]  # fmt: skip
    curve = found["certified_curve"]
    assert steps == list(zip(curve["epsilon"], curve["accuracy"], strict=True))
    assert {c["verdict"] for c in one.to_json()["compared"]} == {"not run"}
    assert all("generated" in c["reason"] for c in one.to_json()["compared"])


def test_broken_evaluations_are_refused(place: Callable[[str], Place]) -> None:
    one = place("robustness-cifar10-0.15")
    file = one.folder / "evaluations" / "retrained-naive-cifar10-0.15-0.json"
    content = json.loads(file.read_text())
    for broken in ("{", "[]", json.dumps({**content, "results": None})):
        file.write_text(broken)
        with pytest.raises(UserError, match="evaluate retrained-naive"):
            one.make()
    file.write_text(json.dumps({**content, "violations": ["image 3"]}))
    with pytest.raises(UserError, match="certifies more than attacks leave"):
        one.make()
    assert not one.record.exists()


def _evaluated(tmp_path: Path, base: dict[str, Any], model: Model, counts: Iterable[int],
               **changes: Any) -> dict[str, Evaluated]:  # fmt: skip
    """An evaluation of `model` with these counts of 1024 at the paper's sizes."""
    curve = published.curves(model.dataset)[model.regime, model.margin]
    results = [
        {"attack": "pgd-paper" if e > 0 else "clean", "epsilon": e, "correct": count,
         "interval": [0, 1]}
        for e, count in zip(curve.epsilons, counts, strict=True)
    ]  # fmt: skip
    content = base | {"dataset": model.dataset, "images": 1024, "results": results} | changes
    path = tmp_path / f"{model.id}.json"
    path.write_text(json.dumps(content))
    return evaluated({f"evaluation:{model.id}": path})


def test_autoattack_of_other_weights_is_not_drawn(tmp_path: Path, trained: Path) -> None:
    """As where a kept network was trained again and evaluated, but not attacked again."""
    base = json.loads((trained / "evaluation.json").read_text())
    row = {"attack": "autoattack", "epsilon": 36 / 255, "correct": 3, "interval": [0, 1]}
    model = Model(Source.certified, "certified-smooth", "cifar10")
    whole, fewer = tmp_path / "whole.json", tmp_path / "fewer.json"
    whole.write_text(json.dumps(base))
    inputs = {f"evaluation:{model.id}": whole, f"autoattack:{model.id}": fewer}
    for sha256, points in ((base["sha256"], 1), ("0" * 64, 0)):
        fewer.write_text(json.dumps(base | {"sha256": sha256, "results": [row]}))
        assert len(evaluated(inputs)[model.id].autoattack) == points


THEIRS = Model(Source.published, "switch-prescribed", "cifar10", "0.15")


def _counts(model: Model) -> list[int]:
    curve = published.curves(model.dataset)[model.regime, model.margin]
    return [round(share * published.IMAGES) for share in curve.accuracies]


def _compared(found: dict[str, Evaluated], model: Model) -> list[Comparison]:
    inputs = {"robustness": published.ROBUSTNESS}
    rows = compared.accuracies(model.dataset, model.margin, inputs, found)
    words = {Source.published: "published weights", Source.retrained: "retrained"}[model.source]
    return [row for row in rows
            if row.what.startswith(model.regime) and row.what.endswith(words)]  # fmt: skip


@pytest.mark.parametrize(("off", "verdict"), [(12, "agrees"), (13, "differs")])
def test_attacked_counts_agree_within_twelve_images(
    tmp_path: Path, trained: Path, off: int, verdict: str
) -> None:
    base = json.loads((trained / "evaluation.json").read_text())
    clean, *attacked = _counts(THEIRS)
    counts = [clean, *(count - off for count in attacked)]
    found = _evaluated(tmp_path, base, THEIRS, counts)
    rows = _compared(found, THEIRS)
    assert [row.verdict for row in rows] == ["agrees"] + 8 * [verdict]
    assert all(row.reason for row in rows if row.verdict == "differs")


@pytest.mark.parametrize(
    ("protocol", "word"), [("published", "boundary"), ("consistent", "statis")]
)
def test_clean_counts_agree_to_the_image(
    tmp_path: Path, trained: Path, protocol: str, word: str
) -> None:
    base = json.loads((trained / "evaluation.json").read_text())
    clean, *attacked = _counts(THEIRS)
    found = _evaluated(tmp_path, base, THEIRS, [clean - 1, *attacked], protocol=protocol)
    first, *rows = _compared(found, THEIRS)
    assert first.verdict == "differs"
    assert word in first.reason
    assert {row.verdict for row in rows} == {"agrees"}


def test_other_numbers_of_images_are_not_compared(tmp_path: Path, trained: Path) -> None:
    base = json.loads((trained / "evaluation.json").read_text())
    found = _evaluated(tmp_path, base, THEIRS, _counts(THEIRS), images=1023)
    assert {row.verdict for row in _compared(found, THEIRS)} == {"not run"}


def test_every_published_number_has_a_verdict() -> None:
    inputs = {"robustness": published.ROBUSTNESS, "auc": published.AUC}
    for dataset in published.DATASETS:
        for margin in published.MARGINS:
            rows = compared.accuracies(dataset, margin, inputs, {})
            assert len(rows) == len({row.what for row in rows}) == 45
            assert all(row.verdict == "not run" and row.reason for row in rows)
        assert len(compared.areas(dataset, inputs, {})) == 30


def test_retrained_networks_stand_beside_the_authors(tmp_path: Path, trained: Path) -> None:
    base = json.loads((trained / "evaluation.json").read_text())
    ours = Model(Source.retrained, THEIRS.regime, "cifar10", "0.15")
    found = _evaluated(tmp_path, base, ours, [count - 45 for count in _counts(ours)])
    rows = compared.accuracies("cifar10", "0.15", {"robustness": published.ROBUSTNESS}, found)
    assert len(rows) == 45 + 9
    differs = [row for row in rows if row.verdict == "differs"]
    assert len(differs) == 9
    assert all("our training" in row.reason for row in differs)


REGIMES = dict.fromkeys(regime for regime, _ in published.curves("cifar10"))


@pytest.mark.parametrize(
    ("regime", "added", "verdicts"),
    [
        ("unconstrained", 0, "AAAAA"),
        ("switch-flexible", 200, "DAAAA"),
        ("naive", -300, "ADDDA"),
        ("naive", -378, "ADDDD"),
    ],
)
def test_the_paper_s_picture_is_held_to_the_networks_of_ours(
    tmp_path: Path, trained: Path, regime: str, added: int, verdicts: str
) -> None:
    """The published counts as ours, those of one regime all changed."""
    base = json.loads((trained / "evaluation.json").read_text())
    models = [Model(Source.retrained, one, "cifar10", "0.15") for one in REGIMES]
    found: dict[str, Evaluated] = {}
    for model in models:
        change = added if model.regime == regime else 0
        counts = [max(count + change, 0) for count in _counts(model)]
        found |= _evaluated(tmp_path, base, model, counts)
    inputs = {"robustness": published.ROBUSTNESS}
    rows = compared.picture("cifar10", "0.15", inputs, found)
    assert "".join(row.verdict[0].upper() for row in rows) == verdicts
    assert [row.published > 0 for row in rows] == [True, False, False, False, False]
    del found[models[2].id]
    rows = compared.picture("cifar10", "0.15", inputs, found)
    assert {row.verdict for row in rows} == {"not run"}


def test_tables_mark_the_best_of_each_row_as_the_paper_does(tmp_path: Path) -> None:
    """Bold in the paper's CIFAR-10 table at margin 0.07."""
    table = robustness_table.groups("cifar10", "0.07", published.ROBUSTNESS, {})
    (group,) = table
    best = [
        next((c.head for c in group.columns if c.values[row] == group.best(row)), "")
        for row in robustness_table.rows_of(table)
    ]
    assert best == ["U", "U", "U", "NE", "SF", "SF", "SF", "SF", "SP", ""]
    artefact = registry.registry()["table-cifar10-0.07"]
    assert artefact.make is not None
    artefact.make(artefact.packaged, tmp_path / artefact.id)
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".png", ".csv", ".md"}
    text = (tmp_path / "table-cifar10-0.07.md").read_text()
    assert "| 0.0000 | **88.18** | 82.62 | 83.89 | 82.23 | 80.76 |" in text
    assert "| AUC | 0.4506 | 0.5822 | 0.6621 | 0.6802 | 0.6719 |" in text
    with (tmp_path / "table-cifar10-0.07.csv").open(newline="") as lines:
        assert sum(row["best"] == "1" for row in csv.DictReader(lines)) == 9


def test_tables_hold_what_the_paper_does_not_have(place: Callable[[str], Place]) -> None:
    one = place("table-cifar10-0.15")
    found = json.loads(one.inputs()["evaluation:certified-switch-cifar10-1"].read_text())
    one.make()
    rows = [row for row in _rows(one) if row["network"] == "certified-switch-cifar10-1"]
    (certified,) = (row for row in rows if row["row"] == "certified")
    share = found["certified_accuracy"][0]
    assert (float(certified["epsilon"]), float(certified["value"])) == (36 / 255, share["accuracy"])
    assert share["epsilon"] == 36 / 255


def test_tables_say_how_many_images_autoattack_saw(tmp_path: Path) -> None:
    """66.41 % of 128 images do not belong beside 66.30 %, clean, of 10,000."""
    one = Place(registry.registry()["table-cifar10-0.15"], tmp_path, tmp_path, "cpu")
    named = {
        name: f"AutoAttack/{point.images}"
        for name, found in evaluated(one.inputs()).items()
        for point in found.autoattack
        if point.images != found.images
    }
    assert named, "of the kept ones"
    one.make()
    rows = [row for row in _rows(one) if row["row"].startswith("AutoAttack")]
    assert {row["network"]: row["row"] for row in rows} == named
    assert len(rows) > 1 or rows[0]["best"] == "0", "of one network"
    text = (one.folder / "figures" / f"{one.artefact.id}.md").read_text()
    assert all(f"| {name} 0.1412 |" in text for name in named.values())


def test_kept_certified_networks_are_drawn(tmp_path: Path) -> None:
    one = Place(registry.registry()["robustness-cifar10-0.15"], tmp_path, tmp_path, "cpu")
    kept = [name for name in one.inputs() if name.startswith("evaluation:certified")]
    assert kept
    assert set(one.artefact.evaluations) <= set(models.models())
    one.make()
    names = {row["network"] for row in _rows(one) if row["source"] == "certified"}
    assert names == {name.removeprefix("evaluation:") for name in kept}
