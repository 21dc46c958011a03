"""The table of certified networks: what it says is what was kept, and only of the same weights."""

import json
from functools import partial
from pathlib import Path

import pytest

from dsnn.errors import UserError
from experiments import certified
from experiments.settings import read_changes
from paper_repro import certified_page, keep, models


def test_every_kept_network_has_a_proved_constant_and_falling_shares() -> None:
    kept = certified_page.kept()["results"]
    assert kept
    for network in kept:
        found = network["evaluation"]
        shares = certified_page.certified_shares(found["certified_accuracy"])
        assert found["body_pixel"] <= 1
        assert found["images"] == 10_000
        assert shares == sorted(shares, reverse=True)
        assert found["violations"] == []


def test_results_of_other_weights_are_not_kept(tmp_path: Path) -> None:
    run, evaluation = tmp_path / "run.json", tmp_path / "evaluation.json"
    run.write_text(json.dumps({"sha256": "a", "configuration": {}}))
    evaluation.write_text(json.dumps({"sha256": "b", "results": []}))
    with pytest.raises(UserError, match="not about the weights"):
        keep.keep(run, evaluation, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_is_kept_is_found_by_the_network_s_id(tmp_path: Path) -> None:
    found = certified_page.kept()["results"][0]
    files = {name: tmp_path / f"{name}.json" for name in found}
    for name, path in files.items():
        path.write_text(json.dumps(found[name]))
    model = keep.keep(files["run"], files["evaluation"], tmp_path / "kept")
    assert models.models()[model.id] == model
    assert certified_page.kept(tmp_path / "kept")["results"] == [found]
    asked = found["run"]["configuration"]["scale"]
    for find, name in ((models.run, "run"), (models.evaluation, "evaluation")):
        assert json.loads(find(model, tmp_path, asked).read_text()) == found[name]


def test_autoattack_is_kept_beside_the_whole_evaluation(tmp_path: Path) -> None:
    """It saw fewer images: the evaluation of all of them stays, and the table counts its own."""
    found = certified_page.kept()["results"][0]
    run, evaluation = tmp_path / "run.json", tmp_path / "evaluation.json"
    run.write_text(json.dumps(found["run"]))
    evaluation.write_text(json.dumps(found["evaluation"]))
    model = keep.keep(run, evaluation, tmp_path)
    scale = found["run"]["configuration"]["scale"]
    rows = [
        {"attack": "clean", "correct": 7},
        {"attack": "autoattack", "correct": 5, "certified": 4},
    ]
    fewer = {**found["evaluation"], "results": rows, "images": 8}
    evaluation.write_text(json.dumps(fewer))
    keep.keep(run, evaluation, tmp_path)
    folder = tmp_path / scale
    assert json.loads(models.evaluation(model, folder, scale).read_text()) == found["evaluation"]
    path = models.autoattack(model, folder, scale)
    assert certified_page.attacked_row(path) == [model.regime, str(model.seed), "8", "7", "5", "4"]


def test_short_runs_have_settings_that_training_takes() -> None:
    assert models.short()
    for model in models.short():
        changes = read_changes(models.DATA / f"short-{model.construction}.toml")
        asked = certified.configuration(model.regime, model.dataset, None, "cpu", changes)
        assert asked.construction == model.construction


def test_a_short_run_is_known_by_its_settings(tmp_path: Path) -> None:
    """In any folder: it was kept in the place of a network that was trained for longer."""
    compared = certified_page.kept()["constructions"]
    assert compared
    run, evaluation = tmp_path / "run.json", tmp_path / "evaluation.json"
    for found in compared:
        run.write_text(json.dumps(found["run"]))
        evaluation.write_text(json.dumps(found["evaluation"]))
        assert keep.keep(run, evaluation, tmp_path / "kept") in models.short()
    kept = certified_page.kept(tmp_path / "kept")
    assert kept == {"results": [], "constructions": compared}


def test_a_short_run_is_put_on_the_page_and_not_into_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, *_ = certified_page.kept()["constructions"]
    evaluation = tmp_path / "evaluation.json"
    (tmp_path / "run.json").write_text(json.dumps(found["run"]))
    evaluation.write_text(json.dumps(found["evaluation"]))
    written: list[str] = []
    monkeypatch.setattr(certified_page, "main", lambda: written.append("page"))
    monkeypatch.setattr(keep, "keep", partial(keep.keep, folder=tmp_path / "kept"))
    keep.main(tmp_path, evaluation)
    assert written == ["page"]
