"""What a margin loses around an image: its gradient there, and a bound on all that is beyond.

For networks of smooth steps x + h Bσ(Ax + b), σ(x) = a x + (1 - a) log(1 + exp(βx)) / β, that do
not expand, or come in pairs that do not [T8, T9], with maps of norm at most 1 between them and rows
w of a head: B = -Aᵀ, or the identity. Let z = Ax + b be what a step sees at an image x0, and
backwards from g = w_y - w_j, through the adjoints of the maps between the steps,

    g <- g + h Aᵀσ'(z) Bᵀg,    c = -(1 - a) h Bᵀg with the g before the arrow.

At distance r from x0 every state has moved by at most ρr, with ρ = 1, but within a pair the
constant of its first step, and Ax + b by some d with |d| <= ρ|A| r. With κ of `theory.curvature`

    σ(z + d) = σ(z) + σ'(z) d + (1 - a) e,    0 <= e_i <= κ_i d_i^2 / 2,    κ_i <= β / 4,

and the sum over the steps telescopes: with G the last g, and W diagonal with κ max(c, 0),

    margin(x) - margin(x0) = G (x - x0) - sum of c e over the steps
                          >= -|G| r - (r^2 / 2) sum of ρ^2 |A|^2 max W.

Of a step that last product is at most m = ρ^2 (λ |A|^2 + |Aᵀ max(W - λ, 0) A|) for all λ >= 0. With
the rows α of A, the norm on the right is at most the sum of max(W_i - λ, 0) |α_i|^2, of which the
least for some λ is taken; and it is that of the Gram matrix of the rows max(W_i - λ, 0)^(1/2) α_i,
without the border, which only shortens them: where it counts, λ leaves some rows and a
factorisation proves the largest eigenvalue.

At a given r that is too pessimistic, as few steps bend along G. With u = G / |G| let
x - x0 = y - s u, y orthogonal to u, so that |y|^2 <= r^2 - s^2, and let p be what Ax + b at a step
gains from x0 to x0 - s' u. Then d = p + A v with |v|^2 <= ρ^2 (|y|^2 + (s - s')^2), again by the
constants of the steps, and the margin has lost at most

    s |G| + (1/2) sum over the steps of (|W^(1/2) p| + m^(1/2) |v|)^2,

now with the κ for |d_i| <= ρ|α_i| r only. `Margins.stays` covers [0, r] by intervals of s, with
some s' for each, and takes the most that is lost anywhere.

Second-order certificates: Singla and Feizi 2020; that the c are those of the image, and σ convex,
makes the sum small where a product of curvatures would be large. It holds for any vectors g if
|G| is raised by what the recursion, as computed, fails to satisfy: so only the roundings of single
steps count, and those are bounded below by the constants of `dsnn.operators.rounding`. Of torch's
elementary functions it is assumed, beyond that, that sigmoid is within 2^-43 and tanh within 2^-43
of its value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.data.statistics import SIDE
from dsnn.fields import GradientField, ResidualField
from dsnn.integrators import Euler
from dsnn.models import CertifiedNet
from dsnn.models.certified import BLOCK
from dsnn.operators import Convolution
from dsnn.operators.bounds import geometry_of, norm_upper, singular_values
from dsnn.operators.definite import largest_eigenvalue
from dsnn.operators.rounding import TINY, UNIT, gamma, up
from verification.constant import evaluate, product
from verification.recognise import CONTRACTIVE, EXPANSIVE, LAWS, NONEXPANSIVE
from verification.running_error_graph import ELEMENTARY

SLACK = 1 + 2.0**-40
"""Covers the scalar operations that combine a bound."""
CENTRES, PIECES = 8, 4
"""Of [0, r]: values of s', and intervals of s around each."""
WIDER = 1 + 2.0**-30
"""Covers that u, as computed, is slightly shorter than 1, and the rounding of long sums."""
ROWS = 256
"""Rows in a Gram matrix."""
SMALL = 1e-3
"""Multiples of 1 / β below this are not told apart."""
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
            [step for unit in stage.flow for step in _steps(unit, SIDE // BLOCK ** (k + 1))]
            for k, stage in enumerate(net.body.stages)
        ]
        self.steps = [step for stage in self.stages for step in stage]
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
        missed, costs, remaining = UNIT * _length(g), [], list(seen)
        g = g.reshape(len(g), -1, side, side) / BLOCK  # the pool's adjoint
        g = g.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
        for stage, widen in zip(reversed(self.stages), reversed(self.widths), strict=True):
            for step in reversed(stage):
                g, residual, cost = step.backward(g, remaining.pop())
                missed, costs = missed + residual, [cost, *costs]
            g = F.pixel_shuffle(g[:, : widen.inputs], BLOCK)
        return _Back(g, missed * SLACK, costs)


class Margins:
    """What the margins of one image lose around it; each is bounded when it is asked for."""

    @torch.no_grad()
    def __init__(self, bounds: Smooth, x: Tensor, label: int):
        self._bounds, self._x, self._label = bounds, x[None], label
        self._seen = bounds._forward(self._x)
        self._backs: dict[int, _Back] = {}

    @torch.no_grad()
    def fall(self, other: int) -> Fall:
        """Of the margin over another class."""
        return Fall(float(self._back(other).slope), _most(self._bends(other, math.inf)))

    @torch.no_grad()
    def stays(self, gap: float, other: int, r: float) -> bool:
        """Whether a margin of `gap` over another class, or more, is proved to stay positive within
        r."""
        steep = float(self._back(other).slope) * r
        if not gap > steep:
            return False
        bends = self._bends(other, r)
        if gap > (steep + _most(bends) * r**2 / 2) * SLACK:
            return True
        bends = [step.tightened(b) for step, b in zip(self._bounds.steps, bends, strict=True)]
        return gap > (steep + _most(bends) * r**2 / 2) * SLACK or gap > self._lost(other, bends, r)

    def _back(self, other: int) -> "_Back":
        if other not in self._backs:
            rows = self._bounds.rows
            g = (rows[self._label] - rows[other])[None]
            self._backs[other] = self._bounds._backward(g, self._seen)
        return self._backs[other]

    def _bends(self, other: int, r: float) -> "list[_Bend]":
        """Within r, in the order of the steps."""
        parts = zip(self._bounds.steps, self._seen, self._back(other).costs, strict=True)
        return [step.bend(seen, cost, r) for step, seen, cost in parts]

    def _lost(self, other: int, bends: "list[_Bend]", r: float) -> float:
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
        for bend, a, b in zip(bends, self._seen, moved, strict=True):
            known = (bend.weights * (b.z - a.z).square()).flatten(1).sum(1).sqrt() * WIDER
            known = known + bend.weights.max().sqrt() * (a.off + b.off)
            bent = bent + (known[:, None] + (bend.most * away).sqrt()).square()
        most = float((high * float(back.length) + bent / 2).max())
        behind = _most(bends) * r**2 / 2  # s <= 0
        return (max(most, behind) + float(back.missed) * r) * SLACK + TINY


@dataclass(frozen=True)
class _Bend:
    """The entries of W at a step, and the bound m on the sum of W_i d_i^2 over all d = ρAv with
    |v| <= 1."""

    weights: Tensor
    most: Tensor


@dataclass(frozen=True)
class _Back:
    """G, by how much the recursion was missed in all, and max(c, 0) in the order of the steps."""

    g: Tensor
    missed: Tensor
    costs: list[Tensor]

    @property
    def length(self) -> Tensor:
        return _length(self.g)

    @property
    def slope(self) -> Tensor:
        return (self.length + self.missed) * SLACK


@dataclass(frozen=True)
class _Seen:
    """z at a step and σ'(z), by image; `off` is how far z may be from the exact one in l2, `error`
    an entry of σ'(z)."""

    z: Tensor
    slopes: Tensor
    off: Tensor
    error: Tensor


class _Step:
    """h, A, B, b, a and β of a step, with proved norms of A and B, and bounds on those of their
    absolute values. `reach` is ρ, `constant` the step's own."""

    def __init__(self, step: Euler, side: int, reach: float):
        field = step.field
        assert isinstance(field, GradientField | ResidualField)
        operator = field.operator
        assert isinstance(operator, Convolution)
        self.kernel = operator.weight.detach().double().cpu()
        self.bias = field.bias.detach().double().cpu()
        self.padding, self.time = operator.padding, float(step.u.detach())
        self.slope, self.sharpness = field.slope, float(field.sharpness or 0.0)
        self.gradient, self.side, self.reach = isinstance(field, GradientField), side, reach
        self.norm = norm_upper(operator.weight, geometry_of(operator, (side, side)))
        self.constant = self._constant(operator)
        squares = self.kernel.square().sum((1, 2, 3))
        self.rows = squares * (1 + 2 * gamma(self.kernel[0].numel() + 4)) * SLACK
        # Inner products of two rows by their channels, and how far the second's pixel is behind.
        self.products = F.conv2d(self.kernel, self.kernel, padding=self.kernel.shape[-1] - 1)
        size = self.kernel.abs()
        sums = float(size.sum((1, 2, 3)).max()), float(size.sum((0, 2, 3)).max())
        self.absolute = up(up(sums[0] * sums[1]) ** 0.5)
        self.outer = (self.norm, self.absolute) if self.gradient else (1.0, 1.0)
        length = max(self.kernel.shape[:2]) * self.kernel[0, 0].numel()
        self.gamma = gamma(length + 16)

    def _constant(self, operator: Convolution) -> float:
        if not (0 <= self.time < math.inf and 0 <= self.slope <= 1):
            raise ValueError(f"no law for the time {self.time} and the slope {self.slope}")
        values = {"h": self.time, "a": self.slope, "s_max": self.norm}
        if not self.gradient:
            return evaluate(LAWS[EXPANSIVE].law, values)
        if self.slope == 0:
            return evaluate(LAWS[NONEXPANSIVE].law, values)
        smallest = singular_values(operator, (self.side, self.side)).smallest[0]
        return evaluate(LAWS[CONTRACTIVE].law, values | {"s_min": smallest})

    def apply(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=self.padding)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, self.kernel, padding=self.padding)

    def forward(self, x: Tensor, error: Tensor) -> tuple[Tensor, _Seen, Tensor]:
        """The next state, what the step saw, and the next error: the exact step enlarges that of x
        by at most its constant, and adds its own roundings."""
        h, beta, (norm, absolute) = self.time, self.sharpness, self.outer
        z = self.apply(x) + self.bias[:, None, None]
        rounding = self.gamma * (self.absolute * _length(x) + self.side * self.bias.norm())
        slopes = self.slope + (1 - self.slope) * torch.sigmoid(beta * z)
        off = (self.norm * error + rounding) * SLACK
        moved = self.slope * z + (1 - self.slope) * F.softplus(z, beta, threshold=600.0)
        elementary = 4 * ELEMENTARY * (_length(z) + z[0].numel() ** 0.5 / beta)
        after = x + h * (-self.adjoint(moved) if self.gradient else moved)
        carried = absolute * _length(moved)
        own = h * (norm * (rounding + elementary) + self.gamma * carried)
        size = _length(x) + h * carried
        seen = _Seen(z, slopes, off, (beta / 4 * off + 8 * ELEMENTARY) * SLACK)
        return after, seen, (self.constant * error + own + 8 * UNIT * size) * SLACK

    def backward(self, g: Tensor, seen: _Seen) -> tuple[Tensor, Tensor, Tensor]:
        """The next g, by how much it misses the recursion, which counts as often as the state that
        the step sees may have moved, and max(c, 0)."""
        h, size, (norm, absolute) = self.time, _length(g), self.outer
        pulled = -self.apply(g) if self.gradient else g
        after = g + h * self.adjoint(seen.slopes * pulled)
        rounded, outer = self.gamma * self.absolute, self.gamma * absolute
        missed = (seen.error * self.norm + rounded) * (norm + outer) + outer * self.norm
        missed = (h * missed + 8 * UNIT * (1 + h * self.absolute * absolute)) * size
        above = (-pulled).clamp(min=0) + (outer * size)[:, None, None, None]
        return after, missed * self.reach * SLACK, (1 - self.slope) * h * SLACK * above

    def bend(self, seen: _Seen, cost: Tensor, r: float) -> _Bend:
        """For the costs max(c, 0), and moves of at most r at the image."""
        weights = self._kappa(seen, r) * cost * SLACK + TINY
        return _Bend(weights, self._most(weights))

    def _kappa(self, seen: _Seen, r: float) -> Tensor:
        """κ of z as seen, by the least |z| that it may be, for |d_i| <= ρ|α_i| r."""
        beta = self.sharpness
        z = beta * (seen.z.abs() - seen.off[:, None, None, None]).clamp(min=0) * (1 - 2**-40)
        anywhere = torch.where(z > SMALL, torch.tanh(z / 2) / (2 * z.clamp(min=SMALL)), 0.25)
        if math.isinf(r):
            return beta * anywhere * (1 + 8 * ELEMENTARY)
        d = (beta * self.reach * r * self.rows.sqrt() * SLACK).clamp(min=SMALL)[:, None, None]
        near = 2 * (F.softplus(z - d, threshold=600.0) - F.softplus(z, threshold=600.0))
        near = (near + 2 * torch.sigmoid(z) * d + 16 * ELEMENTARY * (z + d + 1)) / d.square()
        kappa = torch.where(d <= 2 * z, torch.minimum(near, anywhere), anywhere)
        return beta * kappa * (1 + 8 * ELEMENTARY)

    def _most(self, weights: Tensor) -> Tensor:
        largest, where = weights.flatten(1).topk(LARGEST)
        rows = self.rows[where // weights[0, 0].numel()]
        above, below = (largest * rows).cumsum(1), largest * rows.cumsum(1)
        found = largest * self.norm**2 + (above - below).clamp(min=0)
        return (found + above * (1 - 1 / SLACK)).amin(1) * self.reach**2 * SLACK

    def tightened(self, bend: _Bend) -> _Bend:
        """With the m of one image by the Gram matrix of the rows with the largest weights."""
        largest, where = bend.weights.flatten().topk(ROWS + 1)
        roots = (largest[:-1] - largest[-1]).clamp(min=0).sqrt()
        channel, pixel = where[:-1] // self.side**2, where[:-1] % self.side**2
        reach = self.kernel.shape[-1] - 1
        down, right = (p[:, None] - p for p in (pixel // self.side, pixel % self.side))
        near = (down.abs() <= reach) & (right.abs() <= reach)
        place = (reach - down).clamp(0, 2 * reach), (reach - right).clamp(0, 2 * reach)
        gram = self.products[channel[:, None], channel, *place] * near
        proved = largest_eigenvalue(roots[:, None] * gram * roots)
        # Entries err by this share of |α_i| |α_j|, and differences of weights by one rounding.
        missed = gamma(self.kernel[0].numel() + 16) * float(
            (largest[:-1] * self.rows[channel]).sum()
        )
        most = (float(largest[-1]) * self.norm**2 + proved + missed) * self.reach**2 * SLACK
        return _Bend(bend.weights, bend.most.clamp(max=most))


def smooth(net: nn.Module) -> Smooth | None:
    """The bounds of a network of smooth steps that are proved not to expand, alone or in pairs;
    None of others."""
    if not isinstance(net, CertifiedNet):
        return None
    if not all(map(_is_smooth, (step for stage in net.body.stages for step in _euler(stage.flow)))):
        return None
    try:
        return Smooth(net)
    except (ValueError, ArithmeticError):
        return None


def _steps(unit: nn.Module, side: int) -> Iterator[_Step]:
    """Those of a single step or of a pair. Raises ValueError unless it is proved not to expand."""
    reach = 1.0
    for step in _euler(unit):
        assert isinstance(step, Euler)
        found = _Step(step, side, reach)
        reach = product([reach, found.constant])
        yield found
    if not reach <= 1:
        raise ValueError(f"a step or pair may expand by {reach}")


def _euler(unit: nn.Module) -> Iterator[nn.Module]:
    """The steps of a flow, a pair or a single step, in their order."""
    if not isinstance(unit, nn.Sequential):
        yield unit
        return
    for part in unit:
        yield from _euler(part)


def _is_smooth(step: nn.Module) -> TypeGuard[Euler]:
    if not (isinstance(step, Euler) and isinstance(step.field, GradientField | ResidualField)):
        return False
    field, operator = step.field, step.field.operator
    if not isinstance(operator, Convolution) or operator.circular:
        return False
    plain = operator.stride == operator.groups == 1
    same = 2 * operator.padding + 1 == operator.weight.shape[-1]
    return plain and same and field.sharpness is not None and field.sharpness > 0


def _most(bends: list[_Bend]) -> float:
    return float(torch.stack([bend.most for bend in bends]).sum()) * SLACK


def _length(x: Tensor) -> Tensor:
    """The l2 norms of a batch, rounded up."""
    flat = x.flatten(1)
    return flat.norm(dim=1) * (1 + gamma(flat.shape[1] + 4)) + TINY
