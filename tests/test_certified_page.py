"""The table of certified networks: what it says is what was kept, and only of the same weights."""

import json
from pathlib import Path

import pytest

from dsnn.errors import UserError
from paper_repro import certified_page


def test_every_kept_network_has_a_proved_constant_and_falling_shares() -> None:
    kept = sorted(certified_page.FOLDER.glob("*.json"))
    assert kept
    for path in kept:
        found = json.loads(path.read_text(encoding="utf-8"))["evaluation"]
        shares = certified_page.certified_shares(found["certified_accuracy"])
        assert found["body_pixel"] <= 1
        assert found["images"] == 10_000
        assert shares == sorted(shares, reverse=True)
        assert found["violations"] == []


def test_results_of_other_weights_are_not_kept(tmp_path: Path) -> None:
    run, evaluation = tmp_path / "run.json", tmp_path / "evaluation.json"
    run.write_text(json.dumps({"sha256": "a"}))
    evaluation.write_text(json.dumps({"sha256": "b"}))
    with pytest.raises(UserError, match="not about the weights"):
        certified_page.keep(run, evaluation, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
