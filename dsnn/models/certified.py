"""CIFAR networks that are 1-Lipschitz by construction, with radii from the rows of their head.

Every map is an isometry by structure or an Euler step, alone or in a pair, of constant at most 1:

    pixels -> 2 x 2 blocks -> zero channels -> flow -> 2 x 2 blocks -> zero channels -> flow
           -> half of the sums over 2 x 2 blocks (constant 1) -> head

`certified-non-expansive`: steps x - h A'ReLU(Ax + b), A a 3 x 3 convolution, h = 2 / |A|^2 [T8].
`certified-smooth`: the same with |A| = 1 and σ(x) = log(1 + exp(βx)) / β, of bounded second
derivative: a margin then falls by little more than its gradient says (`verification.second_order`).
`certified-switch`: each of those is followed by a pair: x + h_E σ(Wx + v), W a 3 x 3 convolution
with |W| = 1, which really expands, then x - h_C A'σ(Ax + b), whose contraction pays for it [T9].
Contraction needs a smallest singular value, which zero padding takes from a 3 x 3 kernel, so the A
that contracts is an orthogonal matrix at each pixel; of W only the norm counts. Here
σ(x) = a x + (1 - a) log(1 + exp(βx)) / β, with a = 1/20 while contracting and 1/2 while expanding.
The times are the largest that the law allows: with A orthogonal h_C = 2 / (1 + a) and
h_E |W| = 2a / (1 - a), so that a pair stretches by up to 1.105 and then shrinks by 0.905.
(a = 1/10 learned more slowly, and so did a random A for one that starts as the identity.)
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError
from dsnn.fields import GradientField, ResidualField, VectorField
from dsnn.integrators import Euler
from dsnn.models.layers import ZeroLift
from dsnn.operators import Convolution
from theory import projections

BLOCK = 2
"""Side of the blocks that become one pixel."""
SLOPES = {"expansive": 0.5, "contractive": 0.05}
"""Of the switch's activations, left of zero."""
NOISE = 0.3
"""Norm, about, of what is added to the identity in a new kernel."""
SHARPNESS = 64.0
"""β of the smooth networks: 1 / β is the width of a kink where |A| = 1."""
_measured = projections.measured.numeric("math")
CERTIFIED = ("certified-non-expansive", "certified-smooth", "certified-switch")


@dataclass(frozen=True)
class Sizes:
    """Channels, and steps (switch: steps each with a pair), at 16 x 16 pixels and at 8 x 8."""

    channels: tuple[int, int] = (48, 192)
    depth: tuple[int, int] = (3, 4)


class Pair(nn.Sequential):
    """An expansive Euler step, then the contractive one that pays for it [T9, S = 1]."""

    def __init__(self, expansive: Euler, contractive: Euler):
        super().__init__(expansive, contractive)

    @property
    def steps(self) -> tuple[Euler, Euler]:
        return cast(Euler, self[0]), cast(Euler, self[1])


class Pool(nn.Module):
    """(B, C, H, W) -> (B, C H/2 W/2): half of the sum over each 2 x 2 block, of constant 1."""

    def forward(self, x: Tensor) -> Tensor:
        return BLOCK * nn.functional.avg_pool2d(x, BLOCK).flatten(1)


class Stage(nn.Module):
    """blocks, widen, flow."""

    def __init__(self, inputs: int, width: int, flow: nn.Sequential):
        super().__init__()
        self.blocks = nn.PixelUnshuffle(BLOCK)
        self.widen = ZeroLift(BLOCK**2 * inputs, width, images=True)
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self.widen(self.blocks(x)))


class Body(nn.Module):
    """Images (B, 3, 32, 32) -> features (B, n): all but the head."""

    def __init__(self, stages: list[Stage]):
        super().__init__()
        self.stages = cast(Sequence[Stage], nn.ModuleList(stages))
        self.pool = Pool()

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.pool(x)


class CertifiedNet(nn.Module):
    """Images (B, 3, 32, 32) less their mean -> class scores (B, classes); 1-Lipschitz after
    `dsnn.training.certified.finalise`. The body is 1-Lipschitz of its own."""

    def __init__(self, arch: str, body: Body, head: nn.Linear):
        super().__init__()
        self.arch, self.body, self.head = arch, body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    @property
    def classes(self) -> int:
        return self.head.out_features

    def steps(self) -> Iterator[tuple[str, Euler | Pair, int]]:
        """Name, step or pair, and the side of the images it acts on."""
        for k, stage in enumerate(self.body.stages):
            for i, step in enumerate(stage.flow):
                side = SIDE // BLOCK ** (k + 1)
                yield f"body.stages.{k}.flow.{i}", cast(Euler | Pair, step), side


def _non_expansive(width: int) -> Iterator[nn.Module]:
    yield _fixed(GradientField(_near_identity(width), width), 1.0)


def _smooth(width: int) -> Iterator[nn.Module]:
    yield _fixed(GradientField(_near_identity(width), width, sharpness=SHARPNESS), 1.0)


def _switch(width: int) -> Iterator[nn.Module]:
    yield from _smooth(width)
    a = SLOPES["contractive"]
    expansive = ResidualField(_near_identity(width), width, SLOPES["expansive"], SHARPNESS)
    contractive = GradientField(Convolution(width, width, 1), width, a, SHARPNESS)
    with torch.no_grad():
        contractive.operator.weight.copy_(torch.eye(width)[:, :, None, None])
    up, down = pair_times()
    yield Pair(_fixed(expansive, up), _fixed(contractive, down))


def pair_times(s_min: float = 1.0, s_max: float = 1.0, w_max: float = 1.0) -> tuple[float, float]:
    """The largest expansive and contractive times that T9 allows for these spectra."""
    down, up = _measured(
        a=SLOPES["contractive"], h_C=math.inf, h_E=math.inf, s_min=s_min, s_max=s_max, w_max=w_max
    )
    return float(up), float(down)


def _fixed(field: VectorField, time: float) -> Euler:
    """A step whose time is stored with the weights, and set by a law instead of being learned."""
    step = Euler(field, time)
    step.u.requires_grad_(False)
    return step


_STEPS: dict[str, Callable[[int], Iterator[nn.Module]]] = dict(
    zip(CERTIFIED, (_non_expansive, _smooth, _switch), strict=True)
)


def _near_identity(width: int) -> Convolution:
    """The identity, and noise: steps start by telling each channel's signs apart."""
    operator = Convolution(width, width)
    with torch.no_grad():
        operator.weight.copy_(NOISE * torch.randn_like(operator.weight) / (9 * width) ** 0.5)
        operator.weight[:, :, 1, 1] += torch.eye(width)
    return operator


def build_certified(arch: str, classes: int = 10, sizes: Sizes | None = None) -> CertifiedNet:
    """A freshly initialised network. Raises UserError on an unknown architecture, and on
    sizes that drop channels."""
    if arch not in _STEPS:
        raise UserError(f"unknown architecture {arch!r}: one of {', '.join(CERTIFIED)}")
    sizes, inputs, stages = sizes or Sizes(), 3, []
    for width, depth in zip(sizes.channels, sizes.depth, strict=True):
        steps = [step for _ in range(depth) for step in _STEPS[arch](width)]
        stages.append(Stage(inputs, width, nn.Sequential(*steps)))
        inputs = width
    side = SIDE // BLOCK ** (len(stages) + 1)
    head = nn.Linear(inputs * side**2, classes)
    with torch.no_grad():
        head.weight.copy_(nn.functional.normalize(torch.randn_like(head.weight)))
    return CertifiedNet(arch, Body(stages), head)


def sizes_of(arch: str, state: Mapping[str, Tensor]) -> Sizes | None:
    """The sizes of a network with these weights, by names and shapes; None where they show none."""
    pattern = re.compile(r"body\.stages\.([01])\.flow\.(\d{1,3})\.field\.operator\.weight")
    widths: tuple[list[int], list[int]] = ([], [])
    for name, tensor in state.items():
        if (found := pattern.fullmatch(name)) and tensor.ndim == 4 and tensor.numel():
            widths[int(found[1])].append(tensor.shape[0])
    if not all(widths) or not 12 <= widths[0][0] <= widths[1][0] // BLOCK**2:
        return None
    return Sizes((widths[0][0], widths[1][0]), (len(widths[0]), len(widths[1])))
