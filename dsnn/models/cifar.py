"""The five CIFAR networks of the paper: three stages of lift, flow and pool, then a linear head.

A stage lifts 3 -> 32 -> 64 -> 128 channels, runs a flow of explicit Euler steps at constant
extent, and halves the extent; the head maps the flattened 4 x 4 features to the class scores.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError
from dsnn.fields import GradientField, ResidualField, TwoLayerField
from dsnn.integrators import Alternation, Euler, FixedEuler, FlexiblePair, Step
from dsnn.operators import Convolution

CHANNELS = (32, 64, 128)
DEPTH = 4
"""Fields per flow."""


class Lift(nn.Module):
    """x -> σ(r (Kx + b)): a convolution to more channels, a learned scale r, ReLU or identity."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, relu: bool):
        super().__init__()
        self.operator = Convolution(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = None if bias else nn.Parameter(torch.ones(()))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.operator(x, self.bias, self.scale)
        return F.relu(x) if self.relu else x


class Flow(nn.Sequential):
    """The dynamical block: an indexable sequence of steps at constant shape."""

    def signed_times(self) -> list[float]:
        """The learned times u of all steps in order, signs kept even where |u| is executed."""
        return [time for step in self if isinstance(step, Step) for time in step.u.tolist()]


class Stage(nn.Module):
    """lift, flow, pool."""

    def __init__(self, lift: Lift, flow: Flow):
        super().__init__()
        self.lift, self.flow, self.pool = lift, flow, nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.flow(self.lift(x)))


class CifarNet(nn.Module):
    """Normalised images (B, 3, 32, 32) -> class scores (B, classes)."""

    def __init__(self, arch: str, stages: list[Stage], head: nn.Linear, signed_steps: bool):
        super().__init__()
        self.arch, self.signed_steps = arch, signed_steps
        self.stages = cast(Sequence[Stage], nn.ModuleList(stages))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(x.flatten(1))

    @property
    def classes(self) -> int:
        return self.head.out_features


def _unconstrained(width: int, signed: bool) -> Iterator[nn.Module]:
    for _ in range(DEPTH):
        yield FixedEuler(
            TwoLayerField(Convolution(width, width), Convolution(width, width), width), 1.0
        )


def _naive(width: int, signed: bool) -> Iterator[nn.Module]:
    for _ in range(DEPTH):
        inner, outer = Convolution(width, width), Convolution(width, width)
        yield FixedEuler(TwoLayerField(inner, outer, width, damping=1.0), 0.5)


def _non_expansive(width: int, signed: bool) -> Iterator[nn.Module]:
    for _ in range(DEPTH):
        yield Euler(GradientField(Convolution(width, width), width), 1.0, signed=signed)


def _switch_prescribed(width: int, signed: bool) -> Iterator[nn.Module]:
    for _ in range(DEPTH // 2):
        expansive = ResidualField(Convolution(width, width), width, slope=0.5)
        contractive = GradientField(Convolution(width, width), width, slope=0.5)
        yield Alternation(expansive, contractive, (0.14, 0.3), signed=signed)


def _switch_flexible(width: int, signed: bool) -> Iterator[nn.Module]:
    for _ in range(DEPTH // 2):
        contractive = GradientField(Convolution(width, width), width, slope=0.5)
        expansive = GradientField(Convolution(width, width), width, slope=0.0)
        yield FlexiblePair(contractive, expansive, (1.0, 0.05), signed=signed)


_FLOWS: dict[str, Callable[[int, bool], Iterator[nn.Module]]] = {
    "unconstrained": _unconstrained,
    "naive": _naive,
    "non-expansive": _non_expansive,
    "switch-prescribed": _switch_prescribed,
    "switch-flexible": _switch_flexible,
}
ARCHITECTURES = tuple(_FLOWS)


def build(
    arch: str,
    classes: int = 10,
    *,
    channels: tuple[int, int, int] = CHANNELS,
    signed_steps: bool = True,
) -> CifarNet:
    """A freshly initialised network (delta-orthogonal kernels, admissible steps).

    `signed_steps=False` executes what the published code does: |u| for every learned step, and in
    the flexible regime the contractive kernel in the expansive step too. Raises UserError on an
    unknown architecture.
    """
    if arch not in _FLOWS:
        raise UserError(f"unknown architecture {arch!r}: one of {', '.join(ARCHITECTURES)}")
    baseline = arch in ("unconstrained", "naive")
    stages = []
    for inputs, width in zip((3, *channels), channels, strict=False):
        lift = Lift(inputs, width, bias=baseline, relu=not baseline)
        stages.append(Stage(lift, Flow(*_FLOWS[arch](width, signed_steps))))
    head = nn.Linear(channels[-1] * (SIDE // 2 ** len(channels)) ** 2, classes)
    return CifarNet(arch, stages, head, signed_steps)
