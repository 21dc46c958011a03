"""Ball arithmetic on graphs: values and Jacobians enclose what higher precision gives."""

import math
from fractions import Fraction
from typing import Any

import flint
import pytest
import torch
from torch import Tensor, nn

from verification.activations import FUNCTIONS, SLOPES
from verification.balls import Ball, point
from verification.balls_activations import activation
from verification.balls_graph import NotEnclosed, enclose
from verification.capture import capture
from verification.graph import Graph, Node

PARAMETERS = {
    "leaky_relu": {"negative_slope": Fraction(0.1)},
    "clamp": {"low": Fraction(-1), "high": Fraction(1, 3)},
    "elu": {"alpha": Fraction(3, 2)},
    "celu": {"alpha": Fraction(1, 3)},
    "softplus": {"beta": Fraction(2)},
    "softshrink": {"lambd": Fraction(1, 2)},
}  # fmt: skip
EXACT: dict[str, Any] = {
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "gelu": lambda x: x * (1 + (x / flint.arb(2).sqrt()).erf()) / 2,
    "silu": lambda x: x / (1 + (-x).exp()),
    "softsign": lambda x: x / (1 + abs(x)),
    "sin": lambda x: x.sin(),
    "leaky_relu": lambda x: x if x > 0 else x * flint.arb(0.1),
}


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_activations_and_their_derivatives(name: str):
    """Against torch in float64, up to its own error; the derivative against autograd, which has
    some constants in float32."""
    x = torch.linspace(-4.03, 4.01, 41, dtype=torch.float64).requires_grad_()
    parameters = PARAMETERS.get(name, {})
    expected = FUNCTIONS[name](x, **parameters)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    value, derivative = activation(name, parameters, point(x))
    for ball, number, error in ((value, expected.detach(), 1e-12), (derivative, slope, 1e-7)):
        assert bool(((ball.mid - number).abs() <= ball.rad + error).all())
        assert float(ball.rad.max()) < 1e-12
    low, high = SLOPES[name](**parameters)
    assert float(derivative.low.min()) <= float(high)
    assert float(derivative.high.max()) >= float(low)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_values_enclose_higher_precision(name: str):
    x = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    value, _ = activation(name, PARAMETERS.get(name, {}), point(x))
    with flint.ctx.workprec(300):
        for number, mid, rad in zip(
            x.tolist(), value.mid.tolist(), value.rad.tolist(), strict=True
        ):
            gap = abs(EXACT[name](flint.arb(number)) - flint.arb(mid))
            assert gap <= flint.arb(rad)


@pytest.mark.parametrize("name", ["relu", "abs", "leaky_relu", "clamp", "hardswish", "softshrink"])
def test_a_kink_decides_nothing(name: str):
    """A ball over a kink gets every slope on both sides."""
    at = {"clamp": -1.0, "hardswish": 3.0, "softshrink": 0.5}.get(name, 0.0)
    x = Ball(torch.tensor([at], dtype=torch.float64), torch.tensor([1e-9], dtype=torch.float64))
    _, derivative = activation(name, PARAMETERS.get(name, {}), x)
    assert float(derivative.rad) > 0.2


def _module(seed: int) -> nn.Module:
    class Everything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
            self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 8)
            self.slope = nn.PReLU(4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.tanh(self.slope(self.conv(x)))
            y = torch.nn.functional.max_pool2d(y, 2) + torch.nn.functional.avg_pool2d(y, 2)
            y = torch.maximum(y, y.flip(-1) * 0.5).flatten(1)[:, :8]
            z = torch.nn.functional.silu(self.out(self.norm(y))).softmax(-1)
            z = z * y / (1.5 + torch.sin(y))
            return z / z.norm(dim=-1, keepdim=True)

    torch.manual_seed(seed)
    return Everything().double()


@pytest.mark.parametrize("seed", range(2))
def test_a_graph_and_its_jacobian(seed: int):
    module, shape = _module(seed), (2, 4, 4)
    graph = capture(module, shape)
    x = torch.randn(shape, dtype=torch.float64)
    jet = enclose(graph, x, torch.eye(32, dtype=torch.float64).reshape(32, *shape))
    value = module(x[None])
    assert bool(((jet.value.mid - value).abs() <= jet.value.rad + 1e-13).all())
    jacobian = torch.autograd.functional.jacobian(lambda t: module(t[None])[0], x)
    assert isinstance(jacobian, Tensor)
    expected = jacobian.reshape(8, 32).T
    assert bool(((jet.along.mid - expected).abs() <= jet.along.rad + 1e-12).all())
    assert float(jet.along.rad.max()) < 1e-10


def test_what_is_not_known_is_not_enclosed():
    nodes = (Node("x", "input", (), (2,)), Node("y", "unknown", ("x",), (2,), {"operator": "fft"}))
    with pytest.raises(NotEnclosed, match="fft"):
        enclose(Graph(nodes, "y"), torch.ones(2))
    quotient = Node("y", "quotient", ("x", "x"), (2,))
    with pytest.raises(NotEnclosed, match="finite"):
        enclose(Graph((nodes[0], quotient), "y"), torch.zeros(2))


def test_the_radius_covers_cancellation():
    """1e17 + 1 - 1e17 in float64 is 0: the ball around it must hold 1."""
    big, one = (point(torch.tensor([v], dtype=torch.float64)) for v in (1e17, 1.0))
    difference = (big + one) - big
    assert float(difference.low) <= 1 <= float(difference.high)
    assert math.isfinite(float(difference.rad))
