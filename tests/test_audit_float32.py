"""`dsnn audit --arithmetic float32` on networks of the paper."""

import json
from pathlib import Path

import pytest
import torch

from dsnn.data.statistics import TRAINING
from dsnn.models import build
from dsnn.weights import Card, load, save
from verification.pixel_input import PixelInput
from verification.running_error import evaluate, norm

MEAN, STD = TRAINING["cifar10"]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = build("switch-flexible", channels=(4, 5, 6))
    for parameter in net.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    path = tmp_path / "net.safetensors"
    save(path, net, Card(net.arch, "cifar10", None, MEAN, STD, net.signed_steps))
    return path


def test_the_remainder_covers_images_in_pixels(target: Path, dsnn):
    claims = ["--claim", "lipschitz[pixel]<=1e6", "--claim", "head:lipschitz<=1e6"]
    arguments = ["--arithmetic", "float32", "--json", "out.json", "--certificate", "c.json"]
    code, _, error = dsnn("audit", target, *claims, *arguments)
    assert code == 0
    assert "leaves out 2" in error
    assert "float32-execution" in error
    whole, head = json.loads(Path("out.json").read_text())["claims"]
    assert {whole["arithmetic"], head["arithmetic"]} == {"float32-execution"}
    assert whole["evidence"]["radius"] >= 3072**0.5
    assert head["evidence"]["radius"] == 1.0

    net = PixelInput(load(target).net, MEAN, STD)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[0] = 1.0
    exact = evaluate(net, images)
    with torch.no_grad():
        computed = net.float()(images).double()
    measured = float((norm(computed - exact.value, True) - exact.error).max())
    assert 0 < 2 * measured <= whole["evidence"]["delta"]


def test_architectures_stay_open(target: Path, dsnn):
    code, text, _ = dsnn(
        "audit", "arch:non-expansive?channels=4,5,6", "--claim", "head:lipschitz<=1",
        "--arithmetic", "float32",
    )  # fmt: skip
    assert code == 3
    assert "all networks of an" in text


@pytest.mark.parametrize(
    "wrong",
    [["--arithmetic", "half"], ["--radius", "2"], ["--arithmetic", "float32", "--radius", "nan"]],
)
def test_what_makes_no_sense_is_said_in_a_line(target: Path, dsnn, wrong: list[str]):
    code, _, error = dsnn("audit", target, "--claim", "lipschitz<=1", *wrong)
    assert code == 2
    assert wrong[-2] in error
    assert error.count("\n") == 1
