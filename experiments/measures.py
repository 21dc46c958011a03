"""What is measured on trained networks: errors, drifts of invariants, defects, and verdicts."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from verification import audit
from verification.defects import largest

Map = Callable[[Tensor], Tensor]
SHOWN = 120
"""Points of a curve over many steps, evenly spread in the logarithm."""


def mean_square_error(ours: Tensor, true: Tensor) -> float:
    """The mean of (ours - true)² over all entries."""
    return float((ours - true).detach().square().mean())


def total(x: Tensor) -> Tensor:
    """The sum of each state: (B,)."""
    return x.flatten(1).sum(1)


def length(x: Tensor) -> Tensor:
    """The l2 norm of each state: (B,)."""
    return x.flatten(1).norm(dim=1)


@dataclass(frozen=True)
class Drift:
    """|I(x_k) - I(x_0)|, the largest over the states, at some `steps` k; `largest` over all k,
    infinite where a trajectory left the finite numbers."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    largest: float


@torch.no_grad()
def drift(
    step: Map, x: Tensor, measure: Map, steps: int, *, relative_to: Map | None = None
) -> Drift:
    """Of the invariant `measure` (B, n) -> (B,) over `steps` applications; divided by
    `relative_to`(x) of each start, if that is given."""
    start = measure(x)
    scale = torch.ones_like(start) if relative_to is None else relative_to(x)
    shown = set(np.unique(np.geomspace(1, steps, SHOWN).round().astype(int)).tolist())
    at, values, largest = [0], [0.0], 0.0
    for k in range(1, steps + 1):
        x = step(x)
        now = float(((measure(x) - start).abs() / scale).max())
        largest = math.inf if math.isnan(now) else max(largest, now)
        if k in shown:
            at.append(k)
            values.append(math.inf if math.isnan(now) else now)
    return Drift(tuple(at), tuple(values), largest)


@torch.no_grad()
def along(step: Map, x: Tensor, counts: Iterable[int]) -> Tensor:
    """Where the states are after each of the ascending numbers of steps, one after another:
    (len(counts) B, n)."""
    found, done = [], 0
    for count in counts:
        for _ in range(count - done):
            x = step(x)
        found.append(x)
        done = count
    return torch.cat(found)


@torch.no_grad()
def inverse_defect(net: nn.Module, x: Tensor) -> float:
    """The largest entry of |inverse(net(x)) - x|, infinite where one is no number, which `max` over
    seeds may pass over; `net` has an `inverse`."""
    inverse = cast(Any, net).inverse
    return largest((float((inverse(net(x)) - x).abs().max()),))


def audited(claim: str, nets: Sequence[nn.Module], dim: int, seconds: float) -> dict[str, Any]:
    """The verdicts on the trained networks and by which theorems, all of them, and in words the
    evidence of the first."""
    verdicts = []
    for net in nets:
        net.requires_grad_(False)
        verdicts += audit(net, claim, (dim,), budget=seconds).verdicts
    first = verdicts[0]
    theorems = {str(verdict.evidence.get("theorem", "")) for verdict in verdicts} - {""}
    return {
        "audit": ", ".join(sorted({verdict.outcome for verdict in verdicts})),
        "theorem": ", ".join(sorted(theorems)),
        "evidence": str(first.evidence.get("text", "")),
    }
