"""The configurations are the paper's table, and networks start as it says."""

import math
from pathlib import Path

import pytest
import torch

from dsnn.data.statistics import training
from dsnn.errors import UserError
from dsnn.models import ARCHITECTURES, build
from dsnn.weights import Card, save
from experiments.protocol import MARGINS, SCALES, configuration
from experiments.start import network

TABLE = {
    "unconstrained": ((1e-2, 0.1, 0.0), (1e-2, 0.1, 0.0)),
    "naive": ((1e-2, 0.1, 0.01), (1e-3, 0.1, 0.01)),
    "non-expansive": ((1e-2, 0.1, 0.1), (1e-4, 0.5, 1.0)),
    "switch-prescribed": ((1e-2, 0.1, 0.1), (1e-3, 0.1, 1.0)),
    "switch-flexible": ((1e-2, 0.1, 0.01), (1e-4, 0.5, 1.0)),
}
"""Notes on the paper, 5.1: rate, factor and gamma on CIFAR-10, and on CIFAR-100 from it."""


@pytest.mark.parametrize("regime", ARCHITECTURES)
def test_the_paper_scale_is_the_papers_table(regime: str):
    for transfer, row in zip((False, True), TABLE[regime], strict=True):
        dataset = "cifar100" if transfer else "cifar10"
        found = configuration(regime, dataset, 0.3, "paper", transfer=transfer)
        assert (found.rate, found.factor, found.gamma) == row
        assert (found.epochs, found.batch, found.momentum, found.drop) == (100, 128, 0.9, 30)
        assert found.channels == (32, 64, 128)
        assert found.augment
        assert (found.images, found.tested) == (None, None)
        assert found.reduction == (0.2 if regime == "switch-flexible" else 0.1)


@pytest.mark.parametrize("regime", ARCHITECTURES)
def test_only_learned_steps_take_another_rate_and_only_at_cpu(regime: str):
    for scale in SCALES:
        found = configuration(regime, "cifar10", 0.15, scale)
        faster = scale == "cpu" and regime in ("non-expansive", "switch-flexible")
        assert found.rate == (3e-2 if faster else 1e-2)
        from_weights = configuration(regime, "cifar100", 0.15, scale, transfer=True)
        assert from_weights.rate == TABLE[regime][1][0]


def test_every_cell_of_the_grid_has_a_configuration():
    cells = {
        configuration(regime, dataset, margin, scale)
        for regime in ARCHITECTURES
        for dataset in ("cifar10", "cifar100", "generated")
        for margin in MARGINS
        for scale in SCALES
    }
    assert len(cells) == 5 * 3 * 3 * 3


def test_changes_are_made_and_checked():
    changes = {"rate": 1, "channels": [1, 2, 3], "images": 7}
    found = configuration("naive", "cifar10", 0.3, "cpu", changes=changes)
    assert (found.rate, found.channels, found.images) == (1.0, (1, 2, 3), 7)
    with pytest.raises(UserError, match="unknown"):
        configuration("naive", "cifar10", 0.3, "cpu", changes={"rates": 1})


@pytest.fixture
def start(tmp_path: Path) -> dict[str, Path]:
    """Weights of every regime, away from where a network starts."""
    paths = {}
    for arch in ARCHITECTURES:
        torch.manual_seed(9)
        net = build(arch, channels=(2, 3, 4))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.5)
        paths[arch] = tmp_path / f"{arch}.safetensors"
        save(paths[arch], net, Card(arch, "cifar10", 0.15, *training("cifar10")))
    return paths


@pytest.mark.parametrize("regime", ARCHITECTURES)
def test_cifar100_goes_on_from_cifar10_weights(regime: str, start: dict[str, Path]):
    changes = {"channels": [2, 3, 4]}
    asked = configuration(regime, "cifar100", 0.15, "smoke", transfer=True, changes=changes)
    found = network(asked, start[regime]).state_dict()
    from safetensors.torch import load_file

    given = load_file(start[regime])
    assert found["head.weight"].shape == (100, 64)
    for name, value in given.items():
        if name.startswith("head."):
            assert float(found[name].abs().max()) < 0.2  # fresh, not 0.5 and more
        elif regime == "switch-flexible" and name.endswith(".u"):
            assert not torch.equal(found[name], value)
            assert found[name].min() >= 0
            assert found[name].max() < 1
        else:
            assert torch.equal(found[name], value)


def test_the_seed_decides_the_weights_and_nothing_else_does():
    def weights(seed: int) -> torch.Tensor:
        asked = configuration("naive", "generated", 0.15, "smoke", changes={"seed": seed})
        return network(asked).head.weight

    torch.manual_seed(1)
    first, noise = weights(4), torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(weights(4), first)
    assert not torch.equal(weights(5), first)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), noise)  # the global generator was not touched


def test_the_unconstrained_baseline_starts_as_torchs_convolutions_do():
    changes = {"channels": [8, 16, 32]}
    net = network(configuration("unconstrained", "cifar10", 0.15, "smoke", changes=changes))
    for name, parameter in net.named_parameters():
        if name.startswith("head"):
            continue
        kernel = name.replace("bias", "operator.weight" if ".lift." in name else "inner.weight")
        fan_in = net.get_parameter(kernel if name.endswith("bias") else name)[0].numel()
        limit = 1 / math.sqrt(fan_in)  # of nn.Conv2d's own initialisation, weights and biases
        assert 0.5 * limit < float(parameter.detach().abs().max()) <= limit
    scores = net(torch.randn(8, 3, 32, 32)).detach()
    assert float(scores.abs().max()) < 10  # orthogonal kernels would give thousands
