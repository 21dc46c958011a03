"""CIFAR networks that are 1-Lipschitz by construction, with radii from the rows of their head.

Every map is an isometry by structure or an Euler step whose constant is at most 1:

    pixels -> 2 x 2 blocks -> zero channels -> flow -> 2 x 2 blocks -> zero channels -> flow
           -> half of the sums over 2 x 2 blocks (constant 1) -> head

A step acts on the features of one 2 x 2 patch alone, by a dense square matrix that is held near
orthogonal; the patches of every second step are shifted by one pixel, round the border. So the
norm of a step is that of a dense matrix, whatever the size of the image, and an orthogonal matrix
makes an orthogonal operator, with no border that breaks it.

`certified-non-expansive`: x - h A'ReLU(Ax + b) with h = 2 / |A|^2 [T8]. With A orthogonal that is
x -> -A'|Ax + b| up to a constant: it keeps the norm of gradients.
`certified-switch`: x + h_E σ(Wx + v), which really expands, then x - h_C A'σ(Ax + b), whose
contraction pays for it [T9]; σ(x) = max(x, a x) with a = 1/10 while contracting, else a = 1/2. The
times are the largest that the law allows: h_C = 2 / (1 + a) and h_E = 2a / (1 - a) for orthogonal
matrices, so that every pair stretches by 1.22 and then shrinks by 0.82.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import GradientField, ResidualField
from dsnn.integrators import Alternation, Euler
from dsnn.operators import Dense

SIDE = 32
"""Height and width of the images."""
PATCH = 2
"""Side of a patch."""
SLOPE = {"expansive": 0.5, "contractive": 0.1}
"""Of the switch's activations, left of zero."""
CERTIFIED = ("certified-non-expansive", "certified-switch")


@dataclass(frozen=True)
class Plan:
    """Channels and number of steps of the flows, at 16 x 16 pixels and then at 8 x 8."""

    channels: tuple[int, int] = (48, 192)
    depth: tuple[int, int] = (4, 6)


class PixelsLast(nn.Module):
    """(B, C, H, W) -> (B, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Blocks(nn.Module):
    """(B, H, W, C) -> (B, H/2, W/2, 4C): the entries of 2 x 2 pixels become one pixel's."""

    def forward(self, x: Tensor) -> Tensor:
        return _gathered(x)


class Widen(nn.Module):
    """(B, H, W, C) -> (B, H, W, C'): zero channels behind. Raises UserError for C' < C."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        if not 0 < inputs <= outputs:
            raise UserError(f"{outputs} channels after {inputs}: a lift needs at least as many")
        self.inputs, self.outputs = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, self.outputs - self.inputs))


class Patches(nn.Module):
    """Apply `step` to the 4C features of each 2 x 2 patch of (B, H, W, C), and put them back; the
    patches begin at pixel `shift`, and go round the border."""

    def __init__(self, step: nn.Module, shift: int):
        super().__init__()
        self.step, self.shift = step, shift

    def forward(self, x: Tensor) -> Tensor:
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = _scattered(self.step(_gathered(x)))
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


class Pool(nn.Module):
    """(B, H, W, C) -> (B, C H/2 W/2): half of the sum over each 2 x 2 block, of constant 1."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        return PATCH * nn.functional.avg_pool2d(x, PATCH).flatten(1)


def _gathered(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H/2, W/2, 4C)."""
    x = x.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH))
    return x.transpose(2, 3).flatten(3)


def _scattered(x: Tensor) -> Tensor:
    """The inverse of `_gathered`."""
    x = x.unflatten(3, (PATCH, PATCH, -1)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


class Stage(nn.Module):
    """blocks, widen, flow."""

    def __init__(self, inputs: int, width: int, flow: nn.Sequential):
        super().__init__()
        self.blocks, self.widen, self.flow = Blocks(), Widen(PATCH**2 * inputs, width), flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self.widen(self.blocks(x)))


class Body(nn.Module):
    """Images (B, 3, 32, 32) -> features (B, n): all but the head."""

    def __init__(self, stages: list[Stage]):
        super().__init__()
        self.pixels, self.pool = PixelsLast(), Pool()
        self.stages = cast(Sequence[Stage], nn.ModuleList(stages))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pixels(x)
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

    def steps(self) -> list[Euler | Alternation]:
        """The steps of the flows in their order."""
        return [m for m in self.modules() if isinstance(m, Euler | Alternation)]


def _non_expansive(width: int) -> nn.Module:
    step = Euler(GradientField(_near_identity(width), width), 2.0)
    step.u.requires_grad_(False)
    return step


def _switch(width: int) -> nn.Module:
    expansive = ResidualField(_near_identity(width), width, slope=SLOPE["expansive"])
    contractive = GradientField(_near_identity(width), width, slope=SLOPE["contractive"])
    a = SLOPE["contractive"]
    step = Alternation(expansive, contractive, (2 * a / (1 - a), 2 / (1 + a)), substeps=1)
    step.rescaling.requires_grad_(False)
    step.u.requires_grad_(False)
    return step


_STEPS: dict[str, Callable[[int], nn.Module]] = dict(
    zip(CERTIFIED, (_non_expansive, _switch), strict=True)
)


def _near_identity(width: int) -> Dense:
    """The orthogonal polar factor of a disturbed identity."""
    operator = Dense(width, width)
    with torch.no_grad():
        disturbed = torch.eye(width) + 0.3 * torch.randn(width, width) / width**0.5
        left, _, right = torch.linalg.svd(disturbed)
        operator.weight.copy_(left @ right)
    return operator


def build_certified(arch: str, classes: int = 10, plan: Plan | None = None) -> CertifiedNet:
    """A freshly initialised network with orthogonal matrices near the identity.

    Raises UserError on an unknown architecture, and on a plan that drops channels.
    """
    if arch not in _STEPS:
        raise UserError(f"unknown architecture {arch!r}: one of {', '.join(CERTIFIED)}")
    plan, inputs, stages = plan or Plan(), 3, []
    for width, depth in zip(plan.channels, plan.depth, strict=True):
        steps = [_STEPS[arch](PATCH**2 * width) for _ in range(depth)]
        flow = nn.Sequential(*(Patches(step, i % PATCH) for i, step in enumerate(steps)))
        stages.append(Stage(inputs, width, flow))
        inputs = width
    side = SIDE // PATCH ** (len(stages) + 1)
    head = nn.Linear(inputs * side**2, classes)
    with torch.no_grad():
        head.weight.copy_(nn.functional.normalize(torch.randn_like(head.weight)))
    return CertifiedNet(arch, Body(stages), head)
