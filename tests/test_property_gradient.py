"""gradient-field: symmetric Jacobians, dense and convolutional, and the published wrong form."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import ConvolutionGradient, Function, dense, gradient, judged
from torch import Tensor, nn


def _wrong(x: Tensor, a: nn.Linear, alpha: Tensor) -> Tensor:
    """D Aᵀ Σ(Ax + b), as published (notes, 8.23)."""
    return alpha * F.linear(torch.tanh(a(x)), a.weight.T)


def _step(x: Tensor, a: nn.Linear, alpha: Tensor) -> Tensor:
    return x - 0.3 * gradient(x, a, alpha)


def _two_terms(x: Tensor, a: nn.Linear, b: nn.Linear, alpha: Tensor) -> Tensor:
    """Two terms, an entrywise function and a symmetric matrix."""
    s = b.weight + b.weight.T
    return gradient(x, a, alpha) - F.linear(torch.relu(b(x)), b.weight.T) + torch.sin(x) + x @ s


def _modules(seed: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(seed)
    alpha = torch.randn(7)
    return {
        "dense": (Function(gradient, dense(4, 7), alpha), (4,)),
        "float64": (Function(gradient, dense(4, 7), alpha).double(), (4,)),
        "step": (Function(_step, dense(4, 7), alpha), (4,)),
        "sum": (Function(_two_terms, dense(4, 7), dense(4, 4), alpha), (4,)),
        "convolution": (ConvolutionGradient(2, 3), (2, 5, 5)),
        "circular": (ConvolutionGradient(2, 3, circular=True), (2, 5, 5)),
        "strided": (ConvolutionGradient(2, 3, stride=2), (2, 6, 6)),
        "entrywise": (Function(lambda x: torch.sin(x) ** 1 + 2 * x), (3,)),
    }


@pytest.mark.parametrize("name", _modules(0))
def test_proved(name: str):
    module, shape = _modules(0)[name]
    judgement = judged("gradient-field", module, *shape)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert judgement.upper < 1e-12
    if name not in ("sum", "step"):  # there products have more bits than two float64 numbers
        assert judgement.evidence["exact"]


def test_refuted():
    torch.manual_seed(0)
    alpha, n = torch.rand(4) + 0.5, 4
    wrong: dict[str, nn.Module] = {
        "D AᵀΣ": Function(_wrong, dense(n, 7), alpha),
        "another matrix": Function(
            lambda x, a, b: F.linear(torch.tanh(a(x)), b.weight.T), dense(n, 7), dense(n, 7)
        ),
        "two steps": nn.Sequential(
            *(Function(_step, dense(n, 7), torch.ones(7)) for _ in range(2))
        ),
        "a rotation": Function(lambda x: torch.stack([x[:, 1], -x[:, 0], x[:, 2], x[:, 3]], 1)),
    }
    for name, module in wrong.items():
        judgement = judged("gradient-field", module, n)
        assert judgement.outcome == "refuted", name
        assert judgement.point is not None
        x = judgement.point
        jacobian = torch.func.jacrev(module.double())(x[None]).reshape(n, n)
        gap = torch.linalg.matrix_norm(jacobian - jacobian.T, 2)
        scale = max(1.0, float(torch.linalg.matrix_norm(jacobian, 2)))
        assert judgement.lower is not None
        assert 1e-5 < judgement.lower <= float(gap) / scale * (1 + 1e-6)


def test_one_changed_weight_is_seen():
    """A convolution and an adjoint that differ in one entry by 1e-3."""
    torch.manual_seed(0)
    module = ConvolutionGradient(2, 3)
    other = module.weight.detach().clone()
    other[0, 0, 0, 0] += 1e-3

    def planted(x: Tensor, a: nn.Module, weight: Tensor) -> Tensor:
        assert isinstance(a, ConvolutionGradient)
        y = torch.tanh(F.conv2d(x, a.weight, a.bias, 1, 1))
        return F.conv_transpose2d(y, weight, padding=1)

    assert judged("gradient-field", Function(planted, module, other), 2, 5, 5).outcome == "refuted"


def test_separately_rounded_weights_are_a_defect():
    torch.manual_seed(0)
    a = dense(4, 7)
    scaled = (0.3 * a.weight.double()).float().detach()

    def step(x: Tensor, a: nn.Module, weight: Tensor) -> Tensor:
        return x - F.linear(torch.tanh(a(x)), weight.T)

    judgement = judged("gradient-field", Function(step, a, scaled), 4)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert 0 < judgement.upper < 1e-6
    assert not judgement.evidence["exact"]


def test_a_deep_potential_is_unknown_at_best():
    """The gradient of a two-layer potential is one, but no theorem here says so."""
    torch.manual_seed(0)

    def deep(x: Tensor, a: nn.Linear, b: nn.Linear) -> Tensor:
        y = a(x)
        inner = F.linear(torch.sigmoid(b(torch.nn.functional.softplus(y))), b.weight.T)
        return F.linear(torch.sigmoid(y) * inner, a.weight.T)

    judgement = judged("gradient-field", Function(deep, dense(3, 5), dense(5, 4)).double(), 3)
    assert judgement.outcome == "unknown"
    assert judgement.upper is None
