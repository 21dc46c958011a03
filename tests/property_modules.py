"""Modules with a structure, and how they are judged, for the tests of properties."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verification.capture import capture
from verification.claims import parse
from verification.judgement import Judgement
from verification.properties import judge

Map = Callable[[Tensor], Tensor]


class Function(nn.Module):
    """A function of x and of the parameters given."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module | Tensor):
        super().__init__()
        self.function = function
        self.modules_ = nn.ModuleList([p for p in parts if isinstance(p, nn.Module)])
        self.numbers = nn.ParameterList([nn.Parameter(p) for p in parts if isinstance(p, Tensor)])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.modules_, *self.numbers)


class Buffered(nn.Module):
    """A function of x and of constants, which are buffers."""

    def __init__(self, function: Callable[..., Tensor], *constants: Tensor):
        super().__init__()
        self.function = function
        for k, constant in enumerate(constants):
            self.register_buffer(f"c{k}", constant)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.buffers())


def judged(claim: str, module: nn.Module, *shape: int) -> Judgement:
    """The judgement of a claim about a module of float32 or float64 parameters."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    module.requires_grad_(False)
    return judge(parse(claim), capture(module, shape), dtype=dtype, budget_seconds=2.0)


def dense(n: int, m: int) -> nn.Linear:
    return nn.Linear(n, m)


def gradient(x: Tensor, a: nn.Linear, alpha: Tensor | float = 1.0) -> Tensor:
    """Aᵀ diag(alpha) tanh(Ax + b)."""
    return F.linear(alpha * torch.tanh(a(x)), a.weight.T)


class ConvolutionGradient(nn.Module):
    """Aᵀ tanh(Ax + b) with A a convolution, its adjoint written with torch's transposed one."""

    def __init__(self, channels: int, hidden: int, *, circular: bool = False, stride: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden, channels, 3, 3) * 0.3)
        self.bias = nn.Parameter(torch.randn(hidden))
        self.circular, self.stride = circular, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.circular:
            y = F.conv2d(F.pad(x, (1,) * 4, mode="circular"), self.weight, self.bias)
            y = F.pad(torch.tanh(y), (1,) * 4, mode="circular")
            return F.conv_transpose2d(y, self.weight, padding=2)
        y = torch.tanh(F.conv2d(x, self.weight, self.bias, self.stride, 1))
        out = self.stride - 1
        return F.conv_transpose2d(y, self.weight, None, self.stride, 1, out)


def split_step(x: Tensor, first: Map, second: Map, dim: int = -1, h: float = 0.2) -> Tensor:
    """q+ = q + h f(p), p+ = p - h g(q+): symplectic Euler when f and g are gradients."""
    q, p = x.chunk(2, dim)
    q = q + h * first(p)
    p = p - h * second(q)
    return torch.cat([q, p], dim)


def skew_field(x: Tensor, a: nn.Linear) -> Tensor:
    """Λ(x) x with Λ = M - Mᵀ, M = tanh(Ax + b)."""
    n = x.shape[-1]
    m = torch.tanh(a(x)).reshape(-1, n, n)
    return torch.bmm(m - m.transpose(1, 2), x[:, :, None])[:, :, 0]


def relaxed(x: Tensor, phi: Tensor) -> Tensor:
    """(1 - l) φ + l x on the sphere of x, l = (|φ|² - |x|²) / |φ - x|²."""
    gap = (phi**2).sum(-1, keepdim=True) - (x**2).sum(-1, keepdim=True)
    l = gap / ((phi - x) ** 2).sum(-1, keepdim=True)
    return (1 - l) * phi + l * x


def heun(x: Tensor, field: Map, h: float = 0.2) -> Tensor:
    first = field(x)
    return x + h / 2 * (first + field(x + h * first))


def symplectic_euler(x: Tensor, a: nn.Linear, b: nn.Linear) -> Tensor:
    return split_step(x, lambda p: gradient(p, a), lambda q: gradient(q, b))


def explicit_euler(x: Tensor, a: nn.Linear, b: nn.Linear) -> Tensor:
    """No symplectic step, nor one that keeps the volume."""
    q, p = x.chunk(2, -1)
    return torch.cat([q + 0.2 * gradient(p, a), p - 0.2 * gradient(q, b)], -1)
