"""How far a map is from keeping volume or the symplectic form, measured at given states."""

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def jacobian(function: Map, x: Tensor) -> Tensor:
    """Of one state (n,): (n, n)."""
    found = torch.autograd.functional.jacobian(lambda s: function(s[None])[0], x)
    return cast(Tensor, found)


def largest(numbers: Iterable[float]) -> float:
    """The largest; infinite where one of them is no number, which `max` may pass over."""
    return max(math.inf if math.isnan(number) else number for number in numbers)


def volume_defect(function: Map, states: Iterable[Tensor]) -> float:
    """The largest ||det J| - 1|."""
    return largest(abs(float(torch.linalg.det(jacobian(function, x)).abs()) - 1) for x in states)


def symplectic_defect(function: Map, states: Iterable[Tensor]) -> float:
    """The largest entry of |JᵀSJ - S|, S = [[0, I], [-I, 0]]."""
    worst = 0.0
    for x in states:
        D, n = jacobian(function, x), len(x) // 2
        S = torch.zeros(2 * n, 2 * n, dtype=x.dtype)
        S[:n, n:], S[n:, :n] = torch.eye(n), -torch.eye(n)
        worst = largest((worst, float((D.T @ S @ D - S).abs().max())))
    return worst
