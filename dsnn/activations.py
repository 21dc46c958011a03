"""Activations σ with their primitives Γ, Γ' = σ: what a potential 1ᵀΓ(Ax + b) needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.errors import UserError


@dataclass(frozen=True)
class Activation:
    """σ and Γ, both entry by entry."""

    name: str
    function: Callable[[Tensor], Tensor]
    primitive: Callable[[Tensor], Tensor]


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + F.softplus(-2 * x.abs(), threshold=math.inf) - math.log(2)


def _softplus(x: Tensor) -> Tensor:
    # torch's own is the identity beyond 20, which is off by 2e-9 there.
    return F.softplus(x, threshold=math.inf)


def _half_square(x: Tensor) -> Tensor:
    return F.relu(x) ** 2 / 2


_ALL = (
    Activation("tanh", torch.tanh, _log_cosh),
    Activation("sigmoid", torch.sigmoid, _softplus),
    Activation("relu", F.relu, _half_square),
)
ACTIVATIONS = {activation.name: activation for activation in _ALL}


def activation(name: str) -> Activation:
    """By name. Raises UserError on an unknown one."""
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}: one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
