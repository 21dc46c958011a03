"""`dsnn reproduce`: the JSON, freshness by content, and bad input."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dsnn.errors import UserError
from paper_repro import freshness, published, registry
from paper_repro.artefact import compare
from paper_repro.reproduce import Place

Dsnn = Callable[..., tuple[int, str, str]]
ID = "auc-cifar10"
WAITING = "steps-switch-flexible-cifar100-0.15"


def _entry(dsnn: Dsnn, *arguments: object) -> dict:
    code, out, error = dsnn("reproduce", *arguments, "--json", "-")
    assert (code, error) == (0, "")
    artefacts = json.loads(out)["artefacts"]
    return next(entry for entry in artefacts if entry["id"] == ID)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the published accuracies that the registry reads instead."""
    copy = shutil.copy(published.ROBUSTNESS, tmp_path / "robustness.csv")
    monkeypatch.setattr(published, "ROBUSTNESS", copy)
    return Path(copy)


def test_json_has_the_promised_form(dsnn: Dsnn, tmp_path: Path) -> None:
    entry = _entry(dsnn, ID, "--out", tmp_path, "--scale", "smoke")
    assert set(entry) == {"id", "kind", "scale", "status", "files", "compared"}
    assert (entry["kind"], entry["scale"], entry["status"]) == ("figure", "smoke", "fresh")
    assert sorted(Path(file).suffix for file in entry["files"]) == [".csv", ".pdf", ".png"]
    assert all(Path(file).stat().st_size > 0 for file in entry["files"])
    printed = [row for row in entry["compared"] if row["verdict"] != "not run"]
    assert len(printed) == len(entry["compared"]) - len(printed) == 15, "the areas, and of networks"
    for row in printed:
        assert set(row) == {"what", "published", "ours", "tolerance", "verdict"}
        assert row["verdict"] == "agrees"
        assert abs(row["ours"] - row["published"]) <= row["tolerance"] <= 5e-5
    for row in entry["compared"]:
        assert row in printed or (row["ours"] is None and row["reason"])


def test_status_makes_nothing_and_lists_what_waits_for_training(dsnn: Dsnn, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = dsnn("reproduce", "--status", "--out", out, "--data", tmp_path, "--json", "-")
    assert code == 0
    assert not out.exists()
    status = {entry["id"]: entry["status"] for entry in json.loads(text)["artefacts"]}
    assert set(status) == set(registry.registry())
    assert status[ID] == "missing"
    assert status[WAITING] == "not run"
    assert status["steps-switch-flexible-cifar10-0.15"] == "not run", "no weights in this folder"
    _, text, _ = dsnn("reproduce", "--status", "--out", out, "--data", tmp_path)
    lines = {line.split()[2]: line for line in text.splitlines() if "published/cifar10" in line}
    for margin, by_hand in (("0.07", False), ("0.15", False), ("0.3", True)):
        line = lines[f"audit-published-switch-flexible-cifar10-{margin}"]
        assert f"published/cifar10_switch_flexible_{margin}.pt" in line
        assert ("by hand, `dsnn data` does not know it" in line) == by_hand


def test_touching_changes_nothing_and_changing_makes_stale(
    dsnn: Dsnn, tmp_path: Path, source: Path
) -> None:
    out = tmp_path / "out"
    made = _entry(dsnn, ID, "--out", out)
    before = {file: Path(file).stat().st_mtime_ns for file in made["files"]}
    os.utime(source, (1, 1))
    for file in made["files"]:
        os.utime(file, ns=(before[file], before[file]))
    assert _entry(dsnn, "--status", "--out", out)["status"] == "fresh"
    assert _entry(dsnn, ID, "--out", out)["status"] == "fresh"
    assert before == {file: Path(file).stat().st_mtime_ns for file in made["files"]}, "not remade"

    source.write_text(source.read_text().replace(",903\n", ",803\n", 1))
    stale = _entry(dsnn, "--status", "--out", out)
    assert (stale["status"], stale["compared"]) == ("stale", [])
    again = _entry(dsnn, ID, "--out", out)
    assert again["status"] == "fresh"
    differs = [row for row in again["compared"] if row["verdict"] == "differs"]
    differs = [row for row in differs if "retrained" not in row["what"]]
    assert len(differs) == 1, "the area of the changed curve, and of no other"
    assert "unconstrained" in differs[0]["what"]
    assert "0.07" in differs[0]["what"]
    assert differs[0]["reason"]


def test_changed_and_deleted_results_are_noticed(dsnn: Dsnn, tmp_path: Path) -> None:
    table = next(f for f in _entry(dsnn, ID, "--out", tmp_path)["files"] if f.endswith(".csv"))
    content = Path(table).read_text()
    Path(table).write_text(content.replace("0.4", "0.5"))
    assert _entry(dsnn, "--status", "--out", tmp_path)["status"] == "stale"
    Path(table).unlink()
    assert _entry(dsnn, "--status", "--out", tmp_path)["status"] == "missing"
    assert _entry(dsnn, ID, "--out", tmp_path)["status"] == "fresh"
    assert Path(table).read_text() == content


def test_a_record_that_cannot_be_read_is_stale(dsnn: Dsnn, tmp_path: Path) -> None:
    _entry(dsnn, ID, "--out", tmp_path)
    record = next(tmp_path.glob("cpu/figures/*.made.json"))
    for content in ("{", "[]", '{"from": 1}', "null"):
        record.write_text(content)
        assert _entry(dsnn, "--status", "--out", tmp_path)["status"] == "stale"


def test_code_is_part_of_what_an_artefact_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Place(registry.registry()["contractivity-s1"], Path("out"), Path("data"))
    code = region.origin()["code"]
    assert {"paper_repro.regions", "paper_repro.style", "theory.switching", "theory"} <= set(code)
    assert "paper_repro.robustness" not in code
    assert "dsnn.weights" not in code
    steps = registry.registry()["steps-non-expansive-cifar10-0.15"]
    assert steps.make is not None
    found = freshness.sources("paper_repro.alternation")
    assert {"dsnn.weights", "dsnn.models.cifar", "dsnn.integrators.euler"} <= set(found)
    hashes = freshness.content_hash
    monkeypatch.setattr(
        freshness, "content_hash", lambda p: "x" if p.name == "style.py" else hashes(p)
    )
    changed = region.origin()["code"]
    assert {name for name in code if code[name] != changed[name]} == {"paper_repro.style"}


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("evaluation", "foolbox"),
        ("evaluation", "sympy"),  # of the laws that certified radii come from
        ("evaluation", "python-flint"),
        ("autoattack", "pyautoattack"),
        ("audit", "python-flint"),
    ],
)
def test_libraries_are_part_of_what_a_result_comes_from(
    kind: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{kind}-published-switch-flexible-cifar10-0.15"
    place = Place(registry.registry("paper")[name], tmp_path / "out", tmp_path, "paper")
    for needed in place.artefact.needs.values():
        (tmp_path / needed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / needed).write_bytes(b"data")
    before, versions = place.origin()["libraries"], freshness.version

    def version(wanted: str) -> str:
        if wanted == library:
            raise freshness.PackageNotFoundError(wanted)
        return versions(wanted)

    monkeypatch.setattr(freshness, "version", version)
    assert place.origin()["libraries"] == {**before, library: "missing"} != before


def test_unknown_artefact(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("reproduce", "auc-cifar11", "--out", tmp_path / "out")
    assert "auc-cifar11" in line
    assert "--status" in line
    assert not (tmp_path / "out").exists()


def test_the_report_comes_from_more_than_the_records(tmp_path: Path) -> None:
    report = Place(registry.registry()["report"], tmp_path / "out", tmp_path / "data")
    before = report.origin()["data"]
    assert {"report.html", "report.js", "base.html", "deviations.json"} <= before.keys()
    name = "published-switch-flexible-cifar10-0.15"
    weights = tmp_path / "data" / "published" / "cifar10_switch_flexible_0.15.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights, whose witnesses it shows")
    assert report.origin()["data"].keys() - before.keys() == {name}


def test_artefact_that_waits_for_training(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("reproduce", ID, WAITING, "--out", tmp_path / "out")
    assert WAITING in line
    assert "training" in line
    assert not (tmp_path / "out").exists(), "nothing is half made"


def test_artefact_whose_weights_are_missing(refused: Callable[..., str], tmp_path: Path) -> None:
    name = "steps-non-expansive-cifar10-0.15"
    line = refused("reproduce", name, "--out", tmp_path / "out", "--data", tmp_path)
    assert "published/cifar10_non_expansive_0.15.pt" in line
    assert "retrained-non-expansive-cifar10-0.15-0" in line


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Of weights that only another user may read, say; a folder cannot be read as a file either."""
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory; make it readable"):
        freshness.content_hash(tmp_path)


def test_unwritable_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused("reproduce", ID, "--out", tmp_path / "file" / "out")
    assert "cannot write" in line


@pytest.mark.parametrize("arguments", [[], [ID, "--all"], [ID, "--scale", "huge"]])
def test_wrong_usage(refused: Callable[..., str], arguments: list[str]) -> None:
    assert refused("reproduce", *arguments)


def test_damaged_weights_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    weights = tmp_path / "published" / "cifar10_non_expansive_0.15.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"not weights")
    name = "steps-non-expansive-cifar10-0.15"
    assert str(weights) in refused("reproduce", name, "--out", tmp_path / "out", "--data", tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_compare_is_closed_at_the_tolerance() -> None:
    assert compare("x", 1.0, 1.25, 0.25).verdict == "agrees"
    differs = compare("x", 1.0, 1.2500001, 0.25, "because")
    assert (differs.verdict, differs.reason) == ("differs", "because")


def test_nothing_is_made_from_an_artefact_that_waits(tmp_path: Path) -> None:
    place = Place(registry.registry()[WAITING], tmp_path, tmp_path)
    with pytest.raises(UserError, match="training"):
        place.make()
