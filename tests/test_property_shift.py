"""equivariant:shift in one and two dimensions: circular networks, and what breaks them."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import ConvolutionGradient, Function, judged
from torch import Tensor, nn

from dsnn.operators.linear import Convolution


def _circular(inputs: int, outputs: int, **options) -> nn.Conv2d:
    size = options.pop("kernel_size", 3)
    return nn.Conv2d(inputs, outputs, size, padding="same", padding_mode="circular", **options)


def _field(x: Tensor, a: nn.Module, b: Tensor, h: Tensor) -> Tensor:
    """x - h Aᵀ ReLU(Ax + b) with the operators of this package."""
    assert isinstance(a, Convolution)
    return x - a.adjoint(torch.relu(a(x, b)), h)


def _gated(x: Tensor) -> Tensor:
    """A global mean, broadcast back, keeps the equivariance."""
    return x * torch.sigmoid(x.mean((-1, -2), keepdim=True)) + x.softmax(1)


def _circulant(x: Tensor) -> Tensor:
    row = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.25], dtype=x.dtype)
    return torch.tanh(F.linear(x, torch.stack([row.roll(k) for k in range(5)])))


def _sorted_channels(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, 2)).sort(2)[0].flatten(1, 2)


def _by_the_least(x: Tensor) -> Tensor:
    """Of each row and of each column, found by sorting it."""
    return x * x.sort(-1)[0][..., :1] + x * x.sort(-2)[0][..., :1, :]


def _rows(x: Tensor, kernel: nn.Module) -> Tensor:
    """The rows of an image of one channel are taken for the channels of a sequence."""
    return kernel(x.squeeze(1)).unsqueeze(1)


def _standardised(x: Tensor, kernel: nn.Module, mean: Tensor, std: Tensor) -> Tensor:
    return kernel((x - mean) / std)


def _true() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    circular = Convolution(2, 3, 3, circular=True)
    nn.init.normal_(circular.weight)
    net = nn.Sequential(_circular(2, 4), nn.PReLU(4), _circular(4, 4, dilation=2, groups=2))
    norm = nn.Sequential(_circular(2, 4), nn.BatchNorm2d(4), nn.GELU(), nn.GroupNorm(2, 4))
    line = nn.Conv1d(2, 2, 5, padding="same", padding_mode="circular")
    return {
        "convolutions": (net, (2, 6, 5)),
        "normalised": (norm, (2, 5, 5)),
        "standardised": (
            Function(_standardised, _circular(2, 3), torch.randn(2, 1, 1), torch.ones(2, 1, 1) / 3),
            (2, 5, 5),
        ),
        "pointwise": (nn.Conv2d(2, 3, 1), (2, 4, 4)),
        "own adjoint": (Function(_field, circular, torch.randn(3), torch.tensor(0.3)), (2, 5, 5)),
        "torch adjoint": (ConvolutionGradient(2, 3, circular=True), (2, 5, 5)),
        "gate": (Function(_gated), (2, 4, 4)),
        "one dimension": (nn.Sequential(line, nn.Tanh(), line), (2, 7)),
        "circulant": (Function(_circulant), (5,)),
        "sorted channels": (Function(_sorted_channels), (4, 3, 3)),
        "scaled by the least": (Function(_by_the_least), (2, 3, 3)),
        "roll": (Function(lambda x: x.roll(2, -1)[:, :1]), (3, 4, 4)),
    }


@pytest.mark.parametrize("name", _true())
def test_proved(name: str):
    module, shape = _true()[name]
    judgement = judged("equivariant:shift", module, *shape)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)
    assert judgement.evidence["theorem"] == "T16"
    x, f = torch.randn(2, *shape, dtype=torch.float64), module.double().eval()
    for dim in (-1, -2)[: 1 + (len(shape) >= 3)]:
        assert torch.allclose(f(x.roll(1, dim)), f(x).roll(1, dim), atol=1e-12)


def _false() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return {
        "zero padding": (nn.Conv2d(2, 2, 3, padding=1), (2, 5, 5)),
        "zero adjoint": (ConvolutionGradient(2, 3), (2, 5, 5)),
        "a bias per pixel": (Function(lambda x, b: x + b, torch.randn(4) * 1e-3), (1, 4, 4)),
        "a scale per row": (Function(lambda x, s: x * s, torch.rand(4, 1)), (1, 4, 4)),
        "flip": (Function(lambda x: x.flip(-1)), (1, 4, 4)),
        "a flip of rows": (Function(lambda x: x.flip(-2)), (1, 4, 4)),
        "pool and enlarge": (
            nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2)),
            (1, 4, 4),
        ),
        "dense": (nn.Linear(5, 5), (5,)),
        "a scale per row of a film": (Function(lambda x, s: x * s, torch.rand(3, 1)), (2, 1, 3, 4)),
        "rows as channels": (
            Function(_rows, nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular")),
            (1, 4, 5),
        ),
        "half circular": (
            Function(lambda x: F.avg_pool2d(F.pad(x, (0, 0, 1, 1), mode="circular"), 3, 1, (0, 1))),
            (1, 4, 4),
        ),
    }


@pytest.mark.parametrize("name", _false())
def test_refuted(name: str):
    module, shape = _false()[name]
    judgement = judged("equivariant:shift", module, *shape)
    assert judgement.outcome == "refuted"
    x, f = judgement.point, module.double()
    assert x is not None
    assert judgement.lower is not None
    gaps = [
        float((f(x.roll(1, dim)[None]) - f(x[None]).roll(1, dim)).norm() / f(x[None]).norm())
        for dim in (-1, -2)[: 1 + (len(shape) >= 3)]
    ]
    assert 1e-5 < judgement.lower <= max(gaps) * (1 + 1e-6)


def test_one_weight_of_a_circulant_matrix():
    """A planted 2^-20 in one entry is no circulant matrix any more; its defect decides."""

    def planted(x: Tensor) -> Tensor:
        row = torch.tensor([0.5, -1.0, 0.0])
        matrix = torch.stack([row.roll(k) for k in range(3)])
        matrix[2, 1] += 2.0**-20
        return F.linear(x, matrix)

    judgement = judged("equivariant:shift", Function(planted), 3)
    assert judgement.outcome == "unknown"
    assert judged("equivariant:shift~1e-8", Function(planted), 3).outcome == "refuted"
