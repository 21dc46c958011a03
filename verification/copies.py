"""Copies of somebody's module."""

import copy
from typing import Any

from torch import Tensor, nn


def deep_copy(module: nn.Module) -> nn.Module:
    """As `copy.deepcopy`, which refuses tensors that were computed with gradients. What the hooks
    of old normalisations and of pruning leave in attributes, and what layers keep there of their
    weights, is copied as it is."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)
