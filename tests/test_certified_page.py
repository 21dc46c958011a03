"""The table of certified networks: what it says is what was kept, and only of the same weights."""

import json
from pathlib import Path

import pytest

from dsnn.errors import UserError
from paper_repro import certified_page, keep, models


def test_every_kept_network_has_a_proved_constant_and_falling_shares() -> None:
    kept = certified_page.kept()
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
    found = certified_page.kept()[0]
    files = {name: tmp_path / f"{name}.json" for name in found}
    for name, path in files.items():
        path.write_text(json.dumps(found[name]))
    model = keep.keep(files["run"], files["evaluation"], tmp_path / "kept")
    assert models.models()[model.id] == model
    assert certified_page.kept(tmp_path / "kept") == [found]
    asked = found["run"]["configuration"]["scale"]
    for find, name in ((models.run, "run"), (models.evaluation, "evaluation")):
        assert json.loads(find(model, tmp_path, asked).read_text()) == found[name]
