"""mass-preserving: proved where the sum cancels, refuted where it almost does."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import Function, dense, judged
from torch import Tensor, nn


def _skew(x: Tensor, u: nn.Module, h: Tensor, factor: float = 1.0) -> Tensor:
    """x + h (M - Mᵀ) 1 with vec M = sigmoid(Ux + u) [T14]."""
    n = x.shape[-1]
    m = torch.sigmoid(u(x)).reshape(-1, n, n)
    return x + h * (m - factor * m.transpose(1, 2)).sum(-1)


def _lift(x: Tensor) -> Tensor:
    return F.pad(x, (0, 4))


def _project(x: Tensor, k: int, over: int) -> Tensor:
    return x[:, :k] + x[:, k:].sum(1, keepdim=True) / over


def _sir(y: Tensor, sign: float = 1.0) -> Tensor:
    a, b = y[:, 0], y[:, 1]
    return y + 0.1 * torch.stack([-a * b, sign * (a * b) - b, b], 1)


def _flux(x: Tensor, c: nn.Module) -> Tensor:
    g = torch.tanh(c(x))
    return x + 0.3 * (g - g.roll(1, -1))


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    h = torch.tensor(0.3)
    return nn.Sequential(
        Function(_lift),
        Function(_skew, dense(7, 49), h),
        Function(_skew, dense(7, 49), h * 0.7),
        Function(lambda x: _project(x, 3, 3)),
    )


CONV = nn.Conv2d(2, 2, 3, padding=1)
TRUE: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "network": (_network(0), (3,)),
    "network in float64": (_network(1).double(), (3,)),
    "sir": (Function(_sir), (3,)),
    "fluxes": (Function(_flux, CONV), (2, 6, 6)),
    "pooled fluxes": (Function(lambda x, c: 4 * F.avg_pool2d(_flux(x, c), 2), CONV), (2, 6, 6)),
    "permutation": (Function(lambda x: x.flip(-1)), (5,)),
}
FALSE: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "not skew": (Function(lambda *a: _skew(*a, factor=1.01), dense(3, 9), torch.tensor(0.3)), (3,)),
    "wrong projection": (Function(lambda x: _project(x, 3, 2)), (5,)),
    "wrong sign": (Function(lambda y: _sir(y, -1.0)), (3,)),
    "a bias": (Function(lambda x, b: x + b, torch.tensor([1e-3, 0.0])), (2,)),
    "a convolution": (nn.Conv2d(1, 1, 3, padding=1, bias=False), (1, 6, 6)),
    "a mean": (Function(lambda x: F.avg_pool2d(x, 2)), (1, 4, 4)),
}


@pytest.mark.parametrize("name", TRUE)
def test_proved_exactly(name: str):
    module, shape = TRUE[name]
    judgement = judged("mass-preserving", module, *shape)
    assert judgement.outcome == "proved"
    assert judgement.upper == 0
    assert judgement.evidence["theorem"] == "T14"


@pytest.mark.parametrize("name", FALSE)
def test_refuted_at_a_point(name: str):
    module, shape = FALSE[name]
    judgement = judged("mass-preserving", module, *shape)
    assert judgement.outcome == "refuted"
    x = judgement.point
    assert x is not None
    assert judgement.lower is not None
    y = module.double()(x[None])
    assert float((y.sum() - x.sum()).abs() / x.abs().sum()) >= judgement.lower * (1 - 1e-6) > 1e-5
    module.float()


def test_a_rounded_coefficient_is_a_defect():
    """1/3 in float32 is off by 1e-8: within 1e-5, not within 1e-9."""
    third = torch.full((3, 2), 1 / 3)

    def project(x: Tensor, weight: Tensor) -> Tensor:
        return x[:, :3] + F.linear(x[:, 3:], weight)

    proved = judged("mass-preserving", Function(project, third), 5)
    assert proved.outcome == "proved"
    assert proved.upper is not None
    assert 1e-8 < proved.upper < 1e-7
    strict = judged("mass-preserving~1e-9", Function(project, third), 5)
    assert strict.outcome == "refuted"
    assert strict.lower is not None
    assert strict.lower <= proved.upper


def test_growth_bounds_what_is_left_at_a_nonlinearity():
    """x + 1e-7 tanh(Wx): no cancellation, but at most 1e-7 |W|_1 |x|_1."""
    torch.manual_seed(0)
    module = Function(lambda x, w: x + 1e-7 * torch.tanh(w(x)), nn.Linear(4, 4, bias=False))
    judgement = judged("mass-preserving", module, 4)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert 0 < judgement.upper < 1e-5


def test_what_is_not_known_is_unknown():
    judgement = judged("mass-preserving", Function(lambda x: torch.fft.fft(x).real * 0 + x), 4)
    assert judgement.outcome == "unknown"
    assert judgement.upper is None
    assert "nothing is known of the operator" in judgement.evidence["text"]


def test_0_times_what_grows_in_an_unknown_way_is_0():
    """An infinity times 0 was no number, and the verdict a traceback."""
    step = Function(lambda x: x + torch.tanh(x + 0 * torch.sigmoid(x)) - torch.tanh(x))
    judgement = judged("mass-preserving", step, 4)
    assert judgement.outcome == "unknown"
    assert judgement.upper == pytest.approx(2)
