"""Implicit equations d = F(d), solved to round-off, or an error: never a NaN."""

from collections.abc import Callable

import torch
from torch import Tensor

from dsnn.errors import UserError

MOST_ITERATIONS = 100
FLOOR = 64
"""Units in the last place at which rounding may keep an iteration from settling any further."""
SHARE = 64
"""What `noise` excuses is at most 1 / SHARE of an increment: more is no solution."""


def fixed_point(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    scale: Tensor,
    name: str,
    h: Tensor,
    noise: Tensor | float = 0.0,
) -> Tensor:
    """The limit of d <- F(d) from `start`, to a few units in the last place of `scale`
    (B, 1, ..., 1), the size of the states, or of d where that is larger; at most to `FLOOR` units
    of these, and of `noise`, of which F computes one wrong, where that is below d / `SHARE`. It
    converges when h times the Lipschitz constant of the field is small enough, below 2 for midpoint
    rules.

    Derivatives go through all iterations. How many there are depends on the numbers, so this does
    not run under torch.func.vmap or torch.export. Raises UserError when the iteration diverges, or
    what it starts from is not finite.
    """
    if not bool(start.isfinite().all()):
        raise UserError(f"{name}: the state, its velocity or the step is not finite")
    epsilon = torch.finfo(start.dtype).eps
    dims = tuple(range(1, start.ndim))
    previous, d = float("inf"), start
    for _ in range(MOST_ITERATIONS):
        new = function(d)
        with torch.no_grad():
            moved = (new - d).abs().amax(dims, keepdim=True)
            largest = torch.maximum(scale, size(new))
            change = float((moved / largest).max())
            wrong = (size(new) / SHARE).clamp_max(FLOOR * epsilon * noise)
            rounded = bool((moved <= FLOOR * epsilon * largest + wrong).all())
        d = new
        if change <= 2 * epsilon or (rounded and previous <= change):
            return d
        if change != change or change == float("inf"):
            break
        previous = change
    raise UserError(
        f"{name}: no solution with h = {float(h.detach()):g} in {MOST_ITERATIONS} iterations, the "
        f"last change {previous:.1g} of the state: take a smaller step"
    )


def size(x: Tensor) -> Tensor:
    """Largest entry of each state, at least the smallest normal number: (B, 1, ..., 1)."""
    largest = x.detach().abs().amax(tuple(range(1, x.ndim)), keepdim=True)
    return largest.clamp_min(torch.finfo(x.dtype).tiny)
