"""Arrays of balls: float64 midpoints and radii, every operation rounded outwards [Rump 1999].

The exact value lies within the radius of the midpoint, entry by entry, in the arithmetic of
`dsnn.operators.rounding`. What is not a sum of products goes through python-flint, entry by entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsnn.operators.rounding import UNIT, gamma

FLOOR = 2.0**-480
"""Added to every computed radius: covers underflow."""
SLACK = 1 + 2.0**-44
"""Covers the float64 operations, at most 256 of them, that combine radii into one."""


@dataclass(frozen=True)
class Ball:
    """`mid` and `rad` of one shape, float64; a radius that is not a number means anything."""

    mid: Tensor
    rad: Tensor

    @property
    def low(self) -> Tensor:
        """Lower bounds, as `high` upper ones."""
        return self.mid - self.rad - (2 * UNIT) * (self.mid.abs() + self.rad)

    @property
    def high(self) -> Tensor:
        return self.mid + self.rad + (2 * UNIT) * (self.mid.abs() + self.rad)

    def move(self, function: Callable[[Tensor], Tensor]) -> "Ball":
        """The same entries elsewhere."""
        return Ball(function(self.mid), function(self.rad))

    def __add__(self, other: "Ball") -> "Ball":
        mid = self.mid + other.mid
        return computed(mid, self.rad + other.rad + UNIT * mid.abs())

    def __neg__(self) -> "Ball":
        return Ball(-self.mid, self.rad)

    def __sub__(self, other: "Ball") -> "Ball":
        return self + -other

    def __mul__(self, other: "Ball") -> "Ball":
        mid = self.mid * other.mid
        carried = self.mid.abs() * other.rad + self.rad * (other.mid.abs() + other.rad)
        return computed(mid, carried + UNIT * mid.abs())

    def inverse(self) -> "Ball":
        """1 / x; of infinite radius where the ball holds 0."""
        least = (self.mid.abs() - self.rad) * (1 - 4 * UNIT)
        mid = 1 / self.mid
        rad = torch.where(least > 0, self.rad / (self.mid.abs() * least), torch.inf)
        return computed(mid, rad + 2 * UNIT * mid.abs())

    def root(self) -> "Ball":
        """The square root; of infinite radius where the ball reaches 0."""
        least = (self.mid - self.rad) * (1 - 4 * UNIT)
        mid = self.mid.clamp_min(0).sqrt()
        rad = torch.where(least > 0, self.rad / least.clamp_min(FLOOR).sqrt(), torch.inf)
        return computed(mid, rad + 2 * UNIT * mid)

    def sum(self, dims: list[int]) -> "Ball":
        """Over `dims`, kept as size 1."""
        count = 1
        for dim in dims:
            count *= self.mid.shape[dim]
        error = gamma(count + 2)
        spread = self.rad.sum(dims, keepdim=True) * (1 + error)
        rounding = error * self.mid.abs().sum(dims, keepdim=True)
        return computed(self.mid.sum(dims, keepdim=True), spread + rounding * (1 + error))


def computed(mid: Tensor, rad: Tensor) -> Ball:
    """A ball whose radius is a float64 combination of upper bounds."""
    return Ball(mid, torch.nan_to_num(rad * SLACK + FLOOR, nan=torch.inf, posinf=torch.inf))


def point(value: Tensor) -> Ball:
    """Exact numbers."""
    mid = value.detach().to("cpu", torch.float64)
    return Ball(mid, torch.zeros_like(mid))


def between(low: Tensor, high: Tensor) -> Ball:
    """A ball around the interval."""
    mid = (low + high) / 2
    return computed(mid, torch.maximum(high - mid, mid - low) + 2 * UNIT * mid.abs())


def entrywise(function: Callable[[Any], tuple[Any, Any]], x: Ball) -> tuple[Ball, Ball]:
    """A function of one `arb` that returns two, applied to every entry."""
    import flint

    found: list[list[float]] = [[], [], [], []]
    with flint.ctx.workprec(80):
        for mid, rad in zip(x.mid.flatten().tolist(), x.rad.flatten().tolist(), strict=True):
            for k, ball in enumerate(function(flint.arb(mid, rad))):
                centre = float(ball.mid())
                # rad() is below 2^-28 relative of an upper bound, the midpoint rounded once.
                reach = float(ball.rad()) * (1 + 2**-20) + abs(centre) * 2**-51
                found[2 * k].append(centre if ball.is_finite() else 0.0)
                found[2 * k + 1].append(reach if ball.is_finite() else float("inf"))
    parts = [torch.tensor(part, dtype=torch.float64).reshape(x.mid.shape) for part in found]
    return computed(parts[0], parts[1]), computed(parts[2], parts[3])
