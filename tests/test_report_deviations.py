"""The chapter on the published code: numbers are those that are kept, and can be made again."""

import copy
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dsnn.data.folder import DataFolder
from paper_repro import deviations, deviations_code, deviations_operators, deviations_protocol
from paper_repro import deviations_steps as steps
from paper_repro.deviation import STATUSES, Deviation, Number, sentence, shown
from paper_repro.material import Material
from paper_repro.script import answer

KEPT = deviations.read()
CATALOGUE = {deviation.number: deviation for deviation in deviations.catalogue()}


@pytest.fixture(scope="module")
def material(data_folder: Path) -> Material:
    material = Material(DataFolder(data_folder, "the tests"))
    material.images = 8
    return material


def _kept(number: int) -> dict[str, dict[str, Any]]:
    (entry,) = (e for e in KEPT["deviations"] if e["number"] == number)
    return {found["name"]: found for found in entry["numbers"]}


def test_all_of_the_notes_are_there_once_and_say_how_they_are_known() -> None:
    assert [d.number for d in deviations.catalogue()] == list(range(1, 26))
    assert [e["number"] for e in KEPT["deviations"]] == list(range(1, 26))
    for entry in KEPT["deviations"]:
        deviation = CATALOGUE[entry["number"]]
        assert entry["status"] == deviation.status
        assert deviation.status in STATUSES
        assert (deviation.status == "not measured here") == (not entry["numbers"])
        assert bool(entry["module"]) == bool(entry["numbers"])
        if entry["module"]:
            assert callable(getattr(import_module(entry["module"]), deviation.measure.__name__))  # type: ignore[union-attr]
            assert re.fullmatch(r"[0-9a-f]{12}", entry["commit"]), "measured on a clean checkout"


def test_every_number_shown_is_one_that_is_kept() -> None:
    """Another value in the JSON is another value on the page, in sentences and in tables."""
    changed = copy.deepcopy(KEPT)
    for entry in changed["deviations"]:
        for number in entry["numbers"]:
            number["value"] = 4321 if number["sense"] == "count" else 0.98765
    before, after = deviations.records(KEPT), deviations.records(changed)
    for old, new in zip(before, after, strict=True):
        named = re.findall(r"\{(\w+)\}", CATALOGUE[new["number"]].consequence)
        other = re.findall(r"4321|(?:≤ |≥ |≈ )?0\.9876\d*|0\.9877", new["consequence"])
        assert len(other) == len(named), new["consequence"]
        assert all(re.search(r"4321|0\.987", value) for _, value in new["rows"])
        if new["rows"]:
            assert named, f"deviation {new['number']} says nothing of what was measured"
            assert old["consequence"] != new["consequence"]
    assert deviations.page(changed) != deviations.page(KEPT)


def test_a_sentence_about_a_number_that_is_not_kept_fails() -> None:
    with pytest.raises(KeyError):
        sentence("{lost}", [vars(Number("found", "", 1.0))])


@pytest.mark.parametrize("value", [0.99996, 1.00004, 150.0, 1.3969994, 7e-7, 123456.7])
def test_bounds_are_shown_rounded_outwards(value: float) -> None:
    upper = shown(vars(Number("n", "", value, "at most")))
    lower = shown(vars(Number("n", "", value, "at least")))
    assert upper.startswith("≤ ")
    assert lower.startswith("≥ ")
    assert float(lower[2:]) <= value <= float(upper[2:])
    assert float(upper[2:]) - float(lower[2:]) <= 2e-3 * value


def test_a_value_is_exact_or_marked_as_rounded() -> None:
    assert shown(vars(Number("n", "", 0.5))) == "0.5"
    assert shown(vars(Number("n", "", 1 / 3))) == "≈ 0.3333"
    assert shown(vars(Number("n", "", 98765, "count"))) == "98765"


@pytest.mark.parametrize("number", [3, 11, 12, 16, 17, 18, 21])
def test_what_needs_no_search_is_measured_again_and_the_same(
    number: int, material: Material
) -> None:
    measure = CATALOGUE[number].measure
    assert measure is not None
    for found in measure(material):
        known = _kept(number)[found.name]
        assert (known["what"], known["sense"]) == (found.what, found.sense)
        assert found.value == pytest.approx(known["value"], rel=1e-9, abs=1e-15)


def test_kept_bounds_fit_together() -> None:
    for deviation in (4, 10):
        numbers = _kept(deviation)
        for name, number in numbers.items():
            if name.startswith("low_"):
                assert number["value"] <= numbers[name.replace("low_", "high_", 1)]["value"]
            if name.startswith("executed_"):
                other = numbers[name.replace("executed_", "estimated_", 1)]
                assert number["value"] < other["value"], "the norm is smaller where it runs"
    five = _kept(5)
    for name in filter(lambda name: name.startswith("padded_"), five):
        assert five[name]["value"] < five[name.replace("padded_", "circular_", 1)]["value"]
    fifteen = {name: number["value"] for name, number in _kept(15).items()}
    assert fifteen["certain"] <= fifteen["strong"] <= fifteen["weak"] <= fifteen["clean"]


def test_the_shift_is_lost_and_costs_no_penalty(material: Material) -> None:
    found = deviations_operators.zero_padding(material)
    assert [next(found).value, next(found).value] == [0, 0]


def test_the_power_method_squares(material: Material) -> None:
    found = deviations_operators.power_method(material)
    returned, after = next(found), next(found)
    assert returned.value == pytest.approx(1.5**2)
    assert after.value == pytest.approx(1.5 / 1.5**2)


def test_the_published_bars_are_shifted_by_the_first_total() -> None:
    times = [[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]
    drawn = steps._published_edges(times)
    assert drawn == [1, 3, 3 + 4, 3 + 12, 3 + 15 + 16, 3 + 15 + 48]
    lengths = [end - start for start, end in pairwise([0.0, *drawn])]
    assert lengths[4] == times[2][0] + sum(times[0]), "only the third stage's first bar is wrong"


def test_the_appendix_layers_are_refuted_with_a_rigorous_bound(material: Material) -> None:
    found = {n.name: n for n in deviations_code.appendix_layers(material)}
    assert found["asymmetry"].value > 0.1
    assert found["growth"].value > 1e-3
    assert found["asymmetry"].sense == found["growth"].sense == "at least"


def test_the_hinge_counts_classes(material: Material) -> None:
    assert [n.value for n in deviations_protocol.hinge(material)] == [9, 99]


def test_what_cannot_be_measured_is_not_kept_as_a_number() -> None:
    broken = Deviation(1, "", "", "", "", "", "measured", lambda _: [Number("n", "", float("nan"))])
    with pytest.raises(ValueError, match="not finite"):
        deviations.measured(broken, None)  # type: ignore[arg-type]


def test_an_unknown_number_and_a_folder_without_weights_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(deviations.main, ["26"]) == 2
    assert answer(deviations.main, ["3", "--data", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no deviation 26" in lines[0]
    assert "dsnn data weights" in lines[1]
