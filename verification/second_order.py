"""What a margin loses around an image: its gradient there, and a bound on all that is beyond.

For networks of smooth non-expansive steps x - h Aᵀσ(Ax + b), σ(x) = log(1 + exp(βx)) / β, with
maps of norm at most 1 between them and rows w of a head. At an image x0 let z = Ax + b be what a
step sees, and backwards from g = w_y - w_j, through the adjoints of the maps between the steps,

    g <- g - h Aᵀσ'(z) A g,    c = h A g with the g before the arrow.

At distance r from x0 every state has moved by at most r [T8], and Ax + b by some d with
|d| <= |A| r. As σ is convex and its second derivative is at most β / 4,

    σ(z + d) = σ(z) + σ'(z) d + e,    0 <= e_i <= (β / 8) d_i^2,

and the sum over the steps telescopes: with G the last g,

    margin(x) - margin(x0) = G (x - x0) - sum of c e over the steps
                          >= -|G| r - (r^2 / 2) sum of (β / 4) |A|^2 max(c, 0).

Rows a of A bound single entries too, |d_i| <= |a_i| r, so of a step that last product is at most
λ |A|^2 + sum of max(c_i - λ, 0) |a_i|^2 for every λ >= 0, times β / 4; the least of some is taken.

At a given r that is too pessimistic, as few steps bend along G. With u = G / |G| let
x - x0 = y - s u, y orthogonal to u, so that |y|^2 <= r^2 - s^2, and let p be what Ax + b at a step
gains from x0 to x0 - s' u. Then d = p + A v with |v|^2 <= |y|^2 + (s - s')^2, again because the
steps are non-expansive, and the margin has lost at most

    s |G| + (1/2) sum over the steps of (|W^(1/2) p| + m^(1/2) |v|)^2,

W diagonal with the entries (β / 4) max(c, 0), m the bound on W above. `Margins.stays` covers [0, r]
by intervals of s, with some s' for each, and takes the most that is lost anywhere.

Second-order certificates: Singla and Feizi 2020; that the c are those of the image, and σ convex,
makes the sum small where a product of curvatures would be large. It holds for any vectors g if
|G| is raised by what the recursion, as computed, fails to satisfy: so only the roundings of single
steps count, and those are bounded below by the constants of `dsnn.operators.rounding`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.fields import GradientField
from dsnn.integrators import Euler
from dsnn.models import CertifiedNet
from dsnn.models.certified import BLOCK, SIDE
from dsnn.operators import Convolution
from dsnn.operators.bounds import geometry_of, norm_upper
from dsnn.operators.rounding import TINY, UNIT, gamma, up
from verification.running_error_graph import ELEMENTARY

SLACK = 1 + 2.0**-40
"""Covers the scalar operations that combine a bound."""
CENTRES, PIECES = 8, 4
"""Of [0, r]: values of s', and intervals of s around each."""
WIDER = 1 + 2.0**-30
"""Covers that u, as computed, is slightly shorter than 1, and the rounding of long sums."""
LARGEST = 64
"""The λ that are tried are this many largest entries of c."""


@dataclass(frozen=True)
class Fall:
    """At distance r from an image its margin over another class is at least that at the image,
    less slope r + curvature r^2 / 2."""

    slope: float
    curvature: float


class Smooth:
    """The bounds of one network of smooth steps, in float64 on the processor."""

    def __init__(self, net: CertifiedNet):
        self.stages = [
            [_Step(step, SIDE // BLOCK ** (k + 1)) for step in _euler(stage.flow)]
            for k, stage in enumerate(net.body.stages)
        ]
        self.widths = [stage.widen for stage in net.body.stages]
        self.rows = net.head.weight.detach().double().cpu()

    def around(self, x: Tensor, label: int) -> "Margins":
        """Of one image less its mean, x (3, 32, 32) float64, and its class."""
        return Margins(self, x, label)

    def _forward(self, x: Tensor) -> "list[_Seen]":
        """What each step sees. The state is off by `error`, in l2."""
        seen, error = [], 4 * UNIT * _length(x)
        for stage, widen in zip(self.stages, self.widths, strict=True):
            x = widen(F.pixel_unshuffle(x, BLOCK))
            for step in stage:
                x, found, error = step.forward(x, error)
                seen.append(found)
        return seen

    def _backward(self, g: Tensor, seen: "list[_Seen]") -> "_Back":
        side = SIDE // BLOCK ** (len(self.stages) + 1)
        missed, bends, remaining = UNIT * _length(g), [], list(seen)
        g = g.reshape(len(g), -1, side, side) / BLOCK  # the pool's adjoint
        g = g.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
        for stage, widen in zip(reversed(self.stages), reversed(self.widths), strict=True):
            for step in reversed(stage):
                g, residual, bend = step.backward(g, remaining.pop())
                missed, bends = missed + residual, [bend, *bends]
            g = F.pixel_shuffle(g[:, : widen.inputs], BLOCK)
        return _Back(g, missed * SLACK, bends)


class Margins:
    """What the margins of one image lose around it; each is bounded when it is asked for."""

    @torch.no_grad()
    def __init__(self, bounds: Smooth, x: Tensor, label: int):
        self._bounds, self._x, self._label = bounds, x[None], label
        self._seen = bounds._forward(self._x)
        self._backs: dict[int, _Back] = {}

    def fall(self, other: int) -> Fall:
        """Of the margin over another class."""
        back = self._back(other)
        return Fall(float(back.slope), float(back.curvature))

    def stays(self, gap: float, other: int, r: float) -> bool:
        """Whether a margin of `gap` over another class, or more, is proved to stay positive within
        r."""
        fall = self.fall(other)
        if gap > (fall.slope * r + fall.curvature * r**2 / 2) * SLACK:
            return True
        return gap > fall.slope * r and gap > self._lost(other, r)

    @torch.no_grad()
    def _back(self, other: int) -> "_Back":
        if other not in self._backs:
            rows = self._bounds.rows
            g = (rows[self._label] - rows[other])[None]
            self._backs[other] = self._bounds._backward(g, self._seen)
        return self._backs[other]

    @torch.no_grad()
    def _lost(self, other: int, r: float) -> float:
        """The most that the margin loses within r. Centres are rows, pieces columns."""
        back = self._back(other)
        if not float(back.length) > 0:
            return math.inf
        half = r / (2 * CENTRES)
        centres = (2 * torch.arange(CENTRES, dtype=torch.float64) + 1) * half
        moved = self._bounds._forward(
            self._x - centres[:, None, None, None] * (back.g / back.length)
        )
        low = centres[:, None] - half + 2 * half * torch.arange(PIECES) / PIECES
        high = low + 2 * half / PIECES
        away = torch.maximum(high - centres[:, None], centres[:, None] - low).square()
        away = (away + (r**2 - low.square()).clamp(min=0)) * WIDER
        bent = torch.zeros_like(away)
        for bend, a, b in zip(back.bends, self._seen, moved, strict=True):
            known = (bend.weights * (b.z - a.z).square()).flatten(1).sum(1).sqrt() * WIDER
            known = known + bend.weights.max().sqrt() * (a.off + b.off)
            bent = bent + (known[:, None] + (bend.most * away).sqrt()).square()
        most = float((high * float(back.length) + bent / 2).max())
        behind = float(back.curvature) * r**2 / 2  # s <= 0
        return (max(most, behind) + float(back.missed) * r) * SLACK + TINY


@dataclass(frozen=True)
class _Bend:
    """The entries of W at a step, and the bound m on the sum of W_i d_i^2 over all d with
    |d| <= |A| and |d_i| <= |a_i|."""

    weights: Tensor
    most: Tensor


@dataclass(frozen=True)
class _Back:
    """G, by how much the recursion was missed in all, and what bends in the order of the steps."""

    g: Tensor
    missed: Tensor
    bends: list[_Bend]

    @property
    def length(self) -> Tensor:
        return _length(self.g)

    @property
    def slope(self) -> Tensor:
        return (self.length + self.missed) * SLACK

    @property
    def curvature(self) -> Tensor:
        return torch.stack([bend.most for bend in self.bends]).sum(0) * SLACK


@dataclass(frozen=True)
class _Seen:
    """z at a step and σ'(z), by image; `off` is how far z may be from the exact one in l2, `error`
    an entry of σ'(z)."""

    z: Tensor
    slopes: Tensor
    off: Tensor
    error: Tensor


class _Step:
    """h, A, b and β of a step, with a proved |A| and a bound on the norm of A's absolute values.

    Raises ValueError where h |A|^2 <= 2 is not proved."""

    def __init__(self, step: Euler, side: int):
        field = _smooth(step)
        operator = field.operator
        assert isinstance(operator, Convolution)
        self.kernel = operator.weight.detach().double().cpu()
        self.bias = field.bias.detach().double().cpu()
        self.padding, self.time = operator.padding, float(step.u.detach())
        self.sharpness, self.side = float(field.sharpness or 0.0), side
        self.norm = norm_upper(operator.weight, geometry_of(operator, (side, side)))
        if not 0 <= up(up(self.time * self.norm) * self.norm) <= 2:
            raise ValueError(f"a step of time {self.time} with |A| up to {self.norm} may expand")
        self.rows = self.kernel.square().sum((1, 2, 3)) * SLACK
        size = self.kernel.abs()
        sums = float(size.sum((1, 2, 3)).max()), float(size.sum((0, 2, 3)).max())
        self.absolute = up(up(sums[0] * sums[1]) ** 0.5)
        length = max(self.kernel.shape[:2]) * self.kernel[0, 0].numel()
        self.gamma = gamma(length + 16)

    def apply(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=self.padding)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, self.kernel, padding=self.padding)

    def forward(self, x: Tensor, error: Tensor) -> tuple[Tensor, _Seen, Tensor]:
        """The next state, what the step saw, and the next error: the exact step does not enlarge
        that of x, and adds its own roundings."""
        h, beta = self.time, self.sharpness
        z = self.apply(x) + self.bias[:, None, None]
        rounding = self.gamma * (self.absolute * _length(x) + self.side * self.bias.norm())
        slopes = torch.sigmoid(beta * z)
        off = (self.norm * error + rounding) * SLACK
        moved = F.softplus(z, beta, threshold=600.0)
        elementary = 4 * ELEMENTARY * (_length(z) + z[0].numel() ** 0.5 / beta)
        after = x - h * self.adjoint(moved)
        carried = self.absolute * _length(moved)
        own = h * (self.norm * (rounding + elementary) + self.gamma * carried)
        size = _length(x) + h * carried
        seen = _Seen(z, slopes, off, (beta / 4 * off + 8 * ELEMENTARY) * SLACK)
        return after, seen, (error + own + 8 * UNIT * size) * SLACK

    def backward(self, g: Tensor, seen: _Seen) -> tuple[Tensor, Tensor, _Bend]:
        """The next g, by how much it misses the recursion, and what bends."""
        h, size = self.time, _length(g)
        c = self.apply(g)
        after = g - h * self.adjoint(seen.slopes * c)
        rounded = self.gamma * self.absolute
        missed = h * (seen.error * self.norm**2 + rounded * (2 * self.norm + rounded))
        missed = (missed + 8 * UNIT * (1 + h * self.absolute**2)) * size
        above = c.clamp(min=0) + (rounded * size)[:, None, None, None]
        weights = (self.sharpness / 4 * h * SLACK) * above + TINY
        return after, missed * SLACK, _Bend(weights, self._most(weights))

    def _most(self, weights: Tensor) -> Tensor:
        largest, where = weights.flatten(1).topk(LARGEST)
        rows = self.rows[where // weights[0, 0].numel()]
        above, below = (largest * rows).cumsum(1), largest * rows.cumsum(1)
        found = largest * self.norm**2 + (above - below).clamp(min=0)
        return (found + above * (1 - 1 / SLACK)).amin(1) * SLACK


def smooth(net: nn.Module) -> Smooth | None:
    """The bounds of a network whose steps are smooth and proved not to expand; None of others."""
    if not isinstance(net, CertifiedNet):
        return None
    if not all(_is_smooth(step) for stage in net.body.stages for step in stage.flow):
        return None
    try:
        return Smooth(net)
    except (ValueError, ArithmeticError):
        return None


def _euler(flow: nn.Sequential) -> Iterator[Euler]:
    for step in flow:
        assert isinstance(step, Euler)
        yield step


def _smooth(step: Euler) -> GradientField:
    assert isinstance(step.field, GradientField)
    return step.field


def _is_smooth(step: nn.Module) -> bool:
    if not (isinstance(step, Euler) and isinstance(step.field, GradientField)):
        return False
    operator = step.field.operator
    if not isinstance(operator, Convolution) or operator.circular:
        return False
    plain = operator.stride == operator.groups == 1
    same = 2 * operator.padding + 1 == operator.weight.shape[-1]
    return plain and same and step.field.sharpness is not None and step.field.sharpness > 0


def _length(x: Tensor) -> Tensor:
    """The l2 norms of a batch, rounded up."""
    flat = x.flatten(1)
    return flat.norm(dim=1) * (1 + gamma(flat.shape[1] + 4)) + TINY
