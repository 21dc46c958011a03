"""Damped oscillators q' = p - c q, p' = -sigma(q) - c p: a field that the paper does not have.

The restoring force sigma is any function with slopes in [0, 1], c the damping.
"""

import torch
from sympy import Rational, symbols
from torch import Tensor, nn

from dsnn.fields import VectorField
from dsnn.integrators import FixedEuler
from theory import Field, activation

q, p, c = symbols("q p c", real=True)
force = activation("sigma", 0, 1)

oscillator = Field(
    states=(q, p),
    velocity=(p - c * q, -force(q) - c * p),
    ranges={c: (Rational(3, 4), 2)},
    one_sided=Rational(-1, 4),
    id="damped-oscillator",
    words="A damped oscillator contracts where c exceeds half of |1 - slope| for every slope.",
    source="the tutorial on new fields",
)


class Oscillators(VectorField):
    """The same with sigma = tanh, any number of them side by side: states (q, p) of even size."""

    one_sided = 0.0

    def __init__(self, damping: float = 1.5):
        super().__init__()
        self.damping = damping

    def forward(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, dim=-1)
        return torch.cat([p, -torch.tanh(q)], dim=-1) - self.damping * x


def network() -> nn.Module:
    """Three Euler steps on three oscillators: states of size 6."""
    return nn.Sequential(*(FixedEuler(Oscillators(), 1 / 16) for _ in range(3)))
