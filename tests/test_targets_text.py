"""TARGET as text: what each form resolves to, and what is none of them."""

from pathlib import Path

import pytest
import torch

from dsnn.data.statistics import TRAINING
from dsnn.errors import UserError
from dsnn.models import build
from dsnn.weights import Card, save
from verification import sandbox
from verification.claims import parse
from verification.parts import Live, Seen
from verification.sandbox import Captured, Limits
from verification.targets import parse_shape, resolve

MEAN, STD = TRAINING["cifar10"]


def stored(path: Path) -> Path:
    net = build("non-expansive", channels=(4, 4, 5))
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, net, Card("non-expansive", "cifar10", None, MEAN, STD))
    return path


def test_a_weights_file(tmp_path: Path):
    found = resolve(str(stored(tmp_path / "net.safetensors")), arch="non-expansive")
    assert isinstance(found.parts, Live)
    assert found.parts.shape("stages.1.flow") == (4, 16, 16)
    assert found.statistics == (MEAN, STD)
    assert found.about["card"]["arch"] == "non-expansive"
    assert found.architecture is None


def test_an_architecture():
    found = resolve("arch:naive?channels=4,4,4", [parse("lipschitz<=3")])
    assert found.architecture is not None
    assert found.architecture.name == "naive"
    starts = found.parts.starts("stages.0.flow")
    assert starts is not None
    assert starts.shape == (8, 4, 32, 32)


def test_a_factory_is_handed_to_the_sandbox(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple] = []

    def capture(*arguments: object) -> Captured:
        asked.append(arguments)
        return Captured(("",), {"": (2,)}, {}, {"w": torch.ones(2).double()}, ("seccomp",))

    monkeypatch.setattr(sandbox, "capture_factory", capture)
    claims = [parse("body.*:contractive"), parse("lipschitz<=1"), parse("body.*:orthogonal")]
    found = resolve("package.module:Net.small", claims, shape=(2,), budget=1000.0)
    assert asked == [("package.module:Net.small", (2,), ("body.*",), Limits(seconds=1000.0))]
    assert isinstance(found.parts, Seen)
    assert found.parts.dtype("") == torch.float64
    assert found.about == {"isolation": ["seccomp"]}
    resolve("package:small", claims, shape=(2,), budget=1.0)
    assert asked[1][3] == Limits()  # a budget for searching is no reason to stop a capture early


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("nothing", {}, "is no file"),
        ("a b:c", {}, "is no file"),
        ("x" * 5000, {}, "is no file"),
        ("bad\x1b[2J", {}, r"'bad \[2J' is no file"),
        ("gone.safetensors", {}, "cannot read weights"),
        (".", {}, "weights are .safetensors"),
        ("package.module:factory", {}, "--input-shape"),
        ("package.module:factory", {"arch": "naive", "shape": (2,)}, "--arch naive is for weights"),
        ("arch:naive", {"arch": "naive"}, "leave it out"),
        ("arch:naive", {"shape": (1, 28, 28)}, "takes 3,32,32"),
        ("arch:resnet", {}, "unknown architecture"),
        ("zoo:", {}, "is not in the zoo"),
        ("zoo:", {"arch": "naive"}, "leave it out"),
    ],
)
def test_what_is_no_target(text: str, options: dict, expected: str):
    with pytest.raises(UserError, match=expected):
        resolve(text, **options)


def test_shapes():
    assert parse_shape("3, 32,32") == (3, 32, 32)
    assert parse_shape("7") == (7,)
    for wrong in ("", "3,", "0", "-1", "3x3", "1e3", "99999,99999", "1,1,1,1,1,1,1,1,1", "٣"):
        with pytest.raises(UserError, match="--input-shape"):
            parse_shape(wrong)
