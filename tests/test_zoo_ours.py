"""The networks that come with the package: what their cards say is what was measured and proved."""

import json

import pytest

from dsnn.data.folder import data_folder
from dsnn.zoo import load_target, models
from dsnn.zoo.index import PREFIX, Model
from paper_repro import keep
from paper_repro import models as networks
from verification.checker.verdicts import check, compare, read

OURS = [model for model in models() if not model.published]


def test_the_package_has_networks_of_its_own() -> None:
    assert OURS


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.name)
def test_its_certificate_is_derived_again(model: Model) -> None:
    path = model.checked(data_folder())
    found = read(keep.certificate_of(model.file))
    verdicts = check(found)
    assert [(v.claim, v.verdict) for v in verdicts] == [(c, "proved") for c in keep.CLAIMS]
    assert compare(found, path)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.name)
def test_its_card_says_what_was_kept(model: Model) -> None:
    sha256 = load_target(f"{PREFIX}{model.name}").sha256
    found = [
        (json.loads(run.read_text()), json.loads(evaluation.read_text()))
        for run in networks.KEPT.glob("*/models/certified-*/run.json")
        for evaluation in [run.parents[2] / "evaluations" / f"{run.parent.name}.json"]
    ]
    (card,) = [keep.card(*pair) for pair in found if pair[0]["sha256"] == sha256]
    assert dict(model.card) == card
