"""The demo's commands: which input it takes, and what ends it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from dsnn.data.folder import DataFolder
from dsnn.data.generated import generated
from dsnn.integrators import Step
from dsnn.operators import Convolution
from dsnn.weights import load
from paper_repro import demo, standin
from paper_repro.script import answer

BOXES = {"non-expansive": ((0.0, 1.9),), "switch-flexible": ((0.11, 1.89), (-1.9, 0.05))}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads, and lose much beside other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("regime", BOXES)
def test_standin_satisfies_its_constraints_as_stored(regime: str, tmp_path: Path) -> None:
    net = standin.train(regime, steps=3)
    standin.save_standin(tmp_path / "net.safetensors", net)
    loaded = load(tmp_path / "net.safetensors")
    assert (loaded.card.arch, loaded.card.dataset) == (regime, "generated")
    steps = [module for module in loaded.net.modules() if isinstance(module, Step)]
    assert steps
    for step in steps:
        for value, (low, high) in zip(step.u.tolist(), BOXES[regime], strict=True):
            assert low - 1e-7 <= value <= high + 1e-7, "rounded to float32"
    assert float(loaded.net.head.weight.detach().double().norm()) <= 1
    for module in loaded.net.modules():
        if isinstance(module, Convolution):
            assert _power_norm(module) <= 1


def _power_norm(operator: Convolution) -> float:
    """A lower estimate of the executed norm, in float64, by 50 power iterations."""
    weight = operator.weight.detach().double()
    x = torch.randn(1, weight.shape[1], 8, 8, dtype=torch.float64, generator=_seeded())
    y = x
    for _ in range(50):
        x = x / x.norm()
        y = torch.nn.functional.conv2d(x, weight, padding=1)
        x = torch.nn.functional.conv_transpose2d(y, weight, padding=1)
    return float(y.norm())


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.usefixtures("one_thread")
def test_training_learns() -> None:
    images, labels = generated("test", 200)
    net = standin.train("non-expansive", steps=40)
    with torch.no_grad():
        right = (net(standin.normalised(images)).argmax(1) == labels).float().mean()
    assert right > 0.2, "twice what guessing gives"


@pytest.mark.usefixtures("one_thread")
def test_training_is_repeatable() -> None:
    first, second = (standin.train("switch-flexible", steps=2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_published_input_needs_all_of_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, "--data")
    names = [f"published/cifar10_{r.replace('-', '_')}_0.15.pt" for r in demo.REGIMES]
    for name in [*names, "cifar-10-batches-py/test_batch"]:
        assert demo.published_input(folder) is None
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    given = demo.published_input(folder)
    assert given is not None
    assert [Path(network.target) for network in given.networks] == [tmp_path / n for n in names]
    assert str(tmp_path) in given.words
    assert "--data" in given.words


def test_a_named_folder_without_data_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert answer(demo.main, ["--out", str(out), "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert str(tmp_path) in error[0]
    assert not out.exists()


def test_unwritable_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert answer(demo.main, ["--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write" in capsys.readouterr().err


class _Recorded:
    """Stands for the command line: answers with the codes it was given, by command."""

    def __init__(self, **codes: int):
        self.codes, self.lines = codes, []

    def __call__(self, arguments: Sequence[str]) -> int:
        self.lines.append(list(arguments))
        return self.codes.get(arguments[0], 0)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_what_an_audit_answers_is_accepted(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = _Recorded(audit=code)
    monkeypatch.setattr(demo, "run", recorded)
    story = demo.Story(tmp_path)
    folder = DataFolder(Path("folder"), "--data")
    network = demo.Network("n", "switch-flexible", "n.pt", "cifar10", "0.15")
    demo.tell_all(story, demo.Input([network], "one", "words", "published", 9, 5), folder.path)
    kinds = [command["kind"] for command in story.commands]
    assert kinds == ["verify", "audit", "evaluate", "evaluate", "reproduce"]
    assert [command["exit"] for command in story.commands] == [0, code, 0, 0, 0]
    assert json.loads(json.dumps(story.commands)) == story.commands
    audit = recorded.lines[1]
    assert audit[:4] == ["audit", "n.pt", "--arch", "switch-flexible"]
    assert [audit[i + 1] for i, part in enumerate(audit) if part == "--claim"] == list(demo.CLAIMS)


@pytest.mark.parametrize(
    ("command", "code"), [("audit", 2), ("verify", 1), ("evaluate", 1), ("reproduce", 2)]
)
def test_any_other_failure_ends_the_demo(
    command: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "run", _Recorded(**{command: code}))
    network = demo.Network("n", "non-expansive", "n.safetensors", "generated", None)
    given = demo.Input([network], "one", "words", "consistent", 9, 5)
    monkeypatch.setattr(demo, "published_input", lambda folder: given)
    assert answer(demo.main, ["--out", str(tmp_path / "out")]) == code
    error = capsys.readouterr().err
    assert f"dsnn {command}" in error
    assert not (tmp_path / "out" / "index.html").exists()
