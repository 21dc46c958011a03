"""Networks by name: what there is, what is checked before one is read, and one resolver for all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fitted_networks import fitted

import dsnn as package
from dsnn.data.folder import data_folder as resolve_folder
from dsnn.data.generated import generated
from dsnn.data.statistics import training
from dsnn.errors import UserError
from dsnn.weights import load as read
from dsnn.zoo import Model, add, find, index, load, load_target, models
from verification.targets import resolve

FLEXIBLE = "Celledoni2023Dynamical_switch-flexible"
CARD = {"proved": "1", "arithmetic": "real", "accuracy": "0.5", "trained": "here"}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A network of ours in a zoo of its own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "index.json").write_text("[]")
    monkeypatch.setattr(index, "FOLDER", folder)
    file = fitted("non-expansive", 10, "generated", tmp_path / "net.safetensors")
    return add(file, "Planted2026Test_narrow", "generated", 0.15, CARD)


def test_the_package_is_light_and_finds_load():
    program = (
        "import sys, dsnn, dsnn.zoo\n"
        "dsnn.zoo.models()\n"
        "assert 'torch' not in sys.modules\n"
        "from dsnn import load\n"
        "assert 'torch' in sys.modules and load is dsnn.zoo.load\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_what_comes_with_the_package_is_whole():
    ours = [model for model in models() if not model.published]
    folder = resolve_folder()
    assert all(model.checked(folder).is_file() for model in ours)
    assert {model.path(folder) for model in ours} == set(index.FOLDER.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in index.FOLDER.rglob("*")) <= index.LARGEST
    assert len({model.name for model in models()}) == len(models())


@pytest.mark.parametrize("regime", ["non-expansive", "switch-flexible", "switch-prescribed"])
def test_published_networks_take_pixels(data_folder: Path, regime: str):
    net = load(f"Celledoni2023Dynamical_{regime}", "cifar10", 0.15, data=data_folder)
    path = data_folder / "published" / f"cifar10_{regime.replace('-', '_')}_0.15.pt"
    bare = read(path, regime).net
    mean, std = (torch.tensor(s)[:, None, None] for s in training("cifar10"))
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert not any(module.training for module in net.modules())
    with torch.no_grad():
        assert torch.equal(net(images), bare((images - mean) / std))


def test_a_network_of_ours_is_found_by_every_door(
    planted: Model, dsnn: Callable[..., tuple[int, str, str]], tmp_path: Path
):
    assert find("Planted2026Test_narrow") == planted
    assert models()[-1] == planted
    net = load("Planted2026Test_narrow")
    images, labels = generated("test", 60)
    with torch.no_grad():
        right = (net(images).argmax(1) == labels).sum().item()
    target = "zoo:Planted2026Test_narrow/generated/0.15"
    code, out, _ = dsnn("evaluate", target, "--limit", 60, "--out", tmp_path, "--json", "-")
    assert code == 0
    result = json.loads(out)
    assert result["target"] == target
    assert result["dataset"] == "generated"
    assert result["results"][0]["correct"] == right
    parts = resolve(target)
    assert parts.about["file_sha256"] == planted.sha256
    assert parts.about["file"] == str(planted.path(resolve_folder()))
    assert "stages.0.flow" in parts.parts.names
    audit = ("audit", target, "--claim", "stages.*.pool:lipschitz<=1")
    certificate = tmp_path / "certificate.json"
    code, out, _ = dsnn(*audit, "--json", "-", "--certificate", certificate)
    assert code == 0
    assert json.loads(out)["target"] == target
    assert json.loads(certificate.read_text())["source"]["file"] == planted.file
    code, out, _ = dsnn("zoo")
    assert code == 0
    facts = "proved: 1; arithmetic: real; accuracy: 0.5; trained: here"
    assert f"{target}\n    {facts}\n" in out
    code, out, _ = dsnn("zoo", "--json", "-")
    listed = json.loads(out)["models"][-1]
    assert (listed["target"], listed["there"], listed["published"]) == (target, True, False)


def test_a_changed_or_missing_file_is_not_read(
    planted: Model, dsnn: Callable[..., tuple[int, str, str]], tmp_path: Path
):
    path = index.FOLDER / planted.file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(UserError, match="is not the file of zoo:Planted2026Test_narrow"):
        load(planted.id)
    path.unlink()
    with pytest.raises(UserError, match="missing; reinstall"):
        load(planted.id)
    code, out, _ = dsnn("zoo", "--data", tmp_path)
    assert code == 0
    assert "trained: here; its file is missing: reinstall" in out
    assert "its file is missing: run `dsnn data weights`" in out


def test_a_missing_published_file_says_what_to_put_where(
    refused: Callable[..., str], tmp_path: Path
):
    target = f"zoo:{FLEXIBLE}/cifar10/0.15"
    line = refused("evaluate", target, "--data", tmp_path, "--out", tmp_path / "out")
    assert str(tmp_path / "published" / "cifar10_switch_flexible_0.15.pt") in line
    assert "dsnn data weights" in line
    assert not (tmp_path / "out").exists()
    wrong = tmp_path / "published" / "cifar10_switch_flexible_0.15.pt"
    wrong.parent.mkdir()
    wrong.write_bytes(b"other")
    assert "is not the file of" in refused("evaluate", target, "--data", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "zoo:",
        "zoo:nobody",
        "zoo:nobody/cifar10/0.15",
        f"zoo:{FLEXIBLE}",
        f"zoo:{FLEXIBLE}/cifar10/0.3",
        f"zoo:{FLEXIBLE}/cifar10/nan",
        f"zoo:{FLEXIBLE}/cifar100/0.15",
        f"zoo:{FLEXIBLE}/cifar10/0.15/more",
        "zoo:../published/x/0.15",
        "zoo:\x1b[2J",
    ],
)
def test_unknown_names_list_what_there_is(refused: Callable[..., str], text: str):
    for command in (("evaluate", text), ("audit", text, "--claim", "contractive")):
        line = refused(*command)
        assert "is not in the zoo; there are: " in line
        assert f"zoo:{FLEXIBLE}/cifar10/0.15" in line
        assert "\x1b" not in line


def test_an_ambiguous_name_lists_its_meanings():
    with pytest.raises(UserError, match=r"several .*cifar10/0\.07, .*cifar10/0\.15$"):
        find(FLEXIBLE)
    assert find(FLEXIBLE, margin=0.07).file == "published/cifar10_switch_flexible_0.07.pt"


def test_the_regime_is_not_asked_for_twice():
    with pytest.raises(UserError, match="leave it out"):
        load_target(f"zoo:{FLEXIBLE}/cifar10/0.15", "switch-flexible")


def test_what_may_not_be_added(planted: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = fitted("naive", 10, "generated", tmp_path / "other.safetensors")
    before = (index.FOLDER / "index.json").read_text()
    for id, card, expected in (
        (planted.id, CARD, "choose another name"),
        ("../up", CARD, "letters, digits"),
        ("Another2026", {"proved": "1"}, "expected proved, arithmetic, accuracy, trained"),
    ):
        with pytest.raises(UserError, match=expected):
            add(file, id, "generated", 0.15, card)
    there = index.FOLDER / planted.file
    room = there.stat().st_size + file.stat().st_size
    monkeypatch.setattr(index, "LARGEST", room - 1)
    with pytest.raises(UserError, match="at most"):
        add(file, "Another2026", "generated", 0.15, CARD)
    assert (index.FOLDER / "index.json").read_text() == before
    assert len(list(index.FOLDER.glob("*.safetensors"))) == 1


def test_a_file_that_is_there_gets_a_new_card(planted: Model, tmp_path: Path):
    card = CARD | {"accuracy": "0.6"}
    again = add(tmp_path / "net.safetensors", planted.id, "generated", 0.15, card)
    assert (again.sha256, again.card["accuracy"]) == (planted.sha256, "0.6")
    assert [model for model in index.models() if not model.published] == [again]
