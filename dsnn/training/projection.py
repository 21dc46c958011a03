"""Back onto the admissible set after an optimiser step: times, rescalings, lifts, head.

The admissible times are those of `theory.projections`, evaluated in float64, so that what is
stored in float32 satisfies the law too.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from dsnn.data.statistics import SIDE
from dsnn.integrators import Alternation, Euler, FlexiblePair
from dsnn.models import CifarNet
from dsnn.models.cifar import Stage
from dsnn.training.lift_norm import lift_norm_bound
from theory import projections

KEEP = float(projections.KEEP)
"""What a norm that exceeds 1 is scaled to."""

_nonexpansive = projections.nonexpansive.numeric("torch")
_prescribed = projections.prescribed.numeric("torch")
_flexible = projections.flexible.numeric("torch")


def constrained(arch: str) -> bool:
    """Whether the regime is projected at all: the two baselines learn without constraints."""
    return arch not in ("unconstrained", "naive")


@torch.no_grad()
def project(net: CifarNet) -> None:
    """Change the parameters of `net` in place so that the laws of its regime admit them.

    Times become steps that [T8], [T9] or [T10] admits for orthogonal kernels; where |u| is
    executed the same signed times, as published. Rescalings go to [0, 1], lifts to norm at most 1
    by an upper bound of it, the head to Frobenius norm at most 1. The kernels of the flows are
    left to the orthogonality penalty. Does nothing to the unconstrained and naive networks.
    Projecting again changes nothing.
    """
    if not constrained(net.arch):
        return
    stages = [cast(Stage, stage) for stage in net.stages]
    project_steps([step for stage in stages for step in stage.flow])
    for k, stage in enumerate(stages):
        operator = stage.lift.operator
        _shrink(operator.weight, lift_norm_bound(operator, SIDE >> k))
    _shrink(net.head.weight, torch.linalg.vector_norm(net.head.weight, dtype=torch.float64))


@torch.no_grad()
def project_steps(steps: Sequence[torch.nn.Module]) -> None:
    """Set the times and rescalings of a flow's steps to admissible ones, each kind at once."""
    euler = [step for step in steps if isinstance(step, Euler)]
    if euler:
        _assign(euler, *_nonexpansive(h=_times(euler)[:, 0]))
    alternations = [step for step in steps if isinstance(step, Alternation)]
    if alternations:
        h_c, h_e = _prescribed(h_C=_times(alternations)[:, 1])
        _assign(alternations, h_e, h_c)
        for step in alternations:
            step.rescaling.clamp_(0, 1)
    pairs = [step for step in steps if isinstance(step, FlexiblePair)]
    if pairs:
        h_1, h_2 = _times(pairs).unbind(1)
        _assign(pairs, *_flexible(h_1=h_1, h_2=h_2))


def _times(steps: Sequence[Euler | Alternation | FlexiblePair]) -> Tensor:
    return torch.stack([step.u for step in steps]).double()


def _assign(steps: Sequence[Euler | Alternation | FlexiblePair], *times: Tensor) -> None:
    for step, row in zip(steps, torch.stack(times, 1), strict=True):
        step.u.copy_(row)


def _shrink(weight: Tensor, norm: Tensor) -> None:
    """Scale `weight` to norm 1 - 1e-6 where `norm` exceeds 1; a scaled weight stays as it is."""
    weight.mul_(torch.where(norm > (1 + KEEP) / 2, KEEP / norm, 1.0))
