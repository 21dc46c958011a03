"""Converted networks compute what the published code computes, by a forward pass written from the
formulae alone: notes on the paper, sections 5.1 and 8."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import REGIMES

from dsnn.integrators import FlexiblePair, Step
from dsnn.models import ARCHITECTURES, build
from dsnn.weights import load

FILES = [f"cifar10_{regime}_{margin}.pt" for regime in REGIMES for margin in ("0.07", "0.15")]


def published_forward(regime, state, x):
    """|u| throughout, two substeps, LeakyReLU(1/2) in the switching regimes."""
    for k in range(3):
        get = {key.removeprefix(f"seq.{k}."): t for key, t in state.items() if f"seq.{k}." in key}
        u, r = get["u"].abs(), get["rescalings"]
        weights = [get[f"convs.{i}.weight"] for i in range(4)]
        biases = [get[f"convs.{i}.bias"] for i in range(4)]

        def down(x, i, h, slope, weights=weights, biases=biases):
            z = F.leaky_relu(F.conv2d(x, weights[i], biases[i], padding=1), slope)
            return h * F.conv_transpose2d(z, weights[i], padding=1)

        x = F.relu(r[-1] * F.conv2d(x, get["conv1.0.weight"], padding=1))
        for i in range(4):
            if regime == "non_expansive":
                x = x - down(x, i, u[i], 0.0)
            elif regime == "switch_prescribed" and i % 2 == 0:
                for _ in range(2):
                    push = F.leaky_relu(F.conv2d(x, weights[i], biases[i], padding=1), 0.5)
                    x = x + u[i] / 2 * r[i // 2] * push
                    x = x - down(x, i + 1, u[i + 1] / 2, 0.5)
            elif regime == "switch_flexible" and i % 2 == 0:
                for _ in range(2):
                    x = x - down(x, i, u[i] / 2, 0.5)
                x = x + down(x, i, u[i + 1], 0.0)
        x = F.max_pool2d(x, 2)
    return F.linear(x.flatten(1), state["FC.1.weight"], state["FC.1.bias"])


@pytest.mark.parametrize("name", FILES)
def test_same_outputs(data_folder: Path, name: str, tmp_path: Path, dsnn):
    regime = next(r for r in REGIMES if r in name)
    source, out = data_folder / "published" / name, tmp_path / "net.safetensors"
    code, said, error = dsnn(
        "convert", source, "--arch", REGIMES[regime], "--out", out, "--json", "-"
    )
    assert (code, error) == (0, "")
    result = json.loads(said)
    assert (result["file"], result["sha256"]) == (str(out), load(out).sha256)
    assert result["parameters"] == sum(p.numel() for p in load(out).net.parameters())
    assert (result["arch"], result["signed_steps"]) == (REGIMES[regime], False)
    state = torch.load(source, map_location="cpu", weights_only=True)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = published_forward(regime, state, x)
        ours = load(out).net(x)
    assert (ours - expected).abs().max() <= 1e-5
    assert sum(tensor.numel() for tensor in state.values()) == (
        888569 if regime == "switch_flexible" else 888575
    )


@pytest.mark.parametrize("name", FILES)
def test_the_authors_files_are_of_one_regime(data_folder: Path, name: str, tmp_path: Path, refused):
    """Those of two regimes have the same names and shapes."""
    regime = next(REGIMES[r] for r in REGIMES if r in name)
    source, out = data_folder / "published" / name, tmp_path / "net.safetensors"
    for other in set(REGIMES.values()) - {regime}:
        line = refused("convert", source, "--arch", other, "--out", out)
        assert f"holds the authors' {regime} weights" in line
    assert not out.exists()


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_parameter_counts_of_the_paper(arch: str, classes: int):
    count = sum(p.numel() for p in build(arch, classes).parameters())
    head = 2049 * (classes - 10)
    expected = {"unconstrained": 1662922, "naive": 1662922, "switch-prescribed": 888575}
    assert count - head == expected.get(arch, 888569)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shapes_and_indexing(arch: str):
    net = build(arch, channels=(4, 6, 8))
    x = torch.randn(2, 3, 32, 32)
    for k, stage in enumerate(net.stages):
        x = stage.lift(x)
        y = stage.flow(x)
        assert y.shape == x.shape == (2, (4, 6, 8)[k], 32 >> k, 32 >> k)
        torch.testing.assert_close(stage.flow[1:](stage.flow[0](x)), y)
        x = stage.pool(y)
    assert net.head(x.flatten(1)).shape == (2, 10)


def test_absolute_steps_are_an_option_that_changes_the_sign_only_when_negative():
    x = torch.randn(2, 3, 32, 32)
    state = build("non-expansive", channels=(4, 4, 4)).state_dict()
    for sign, same in ((1, True), (-1, False)):
        outputs = []
        for signed in (True, False):
            net = build("non-expansive", channels=(4, 4, 4), signed_steps=signed)
            net.load_state_dict(state)
            for stage in net.stages:
                for step in stage.flow:
                    assert isinstance(step, Step)
                    step.u.data.fill_(0.7 * sign)
            outputs.append(net(x))
        assert torch.equal(*outputs) is same


def test_published_flexible_networks_are_tied_and_new_ones_are_not():
    x = torch.randn(1, 3, 32, 32)
    for signed, tied in ((False, True), (True, False)):
        net = build("switch-flexible", channels=(4, 4, 4), signed_steps=signed)
        before = net(x)
        for stage in net.stages:
            for pair in stage.flow:
                assert isinstance(pair, FlexiblePair)
                pair.expansive.operator.weight.data.mul_(2)
        assert torch.equal(net(x), before) is tied
