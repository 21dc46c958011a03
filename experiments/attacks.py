"""Attacks in l2 on images in [0, 1], and what counts as an adversarial example.

The paper's protocol is Foolbox's L2PGD with 10 steps and its defaults (steps of 0.025 epsilon, one
random start in the ball). It is a weak attack: what survives it is an upper bound on what is
robust.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from dsnn.data.statistics import SIDE

with warnings.catch_warnings():  # an attack not used here imports a SciPy module by its old name
    warnings.simplefilter("ignore", DeprecationWarning)
    from foolbox.attacks import L2PGD
    from foolbox.models.base import Model
    from foolbox.models.pytorch import PyTorchModel


@dataclass(frozen=True)
class Pgd:
    """Settings of Foolbox's L2PGD: number of steps, their length relative to epsilon, and whether
    they climb against the logit margin instead of the cross-entropy."""

    steps: int
    rel_stepsize: float
    margin: bool = False


LIBRARY = f"foolbox {metadata.version('foolbox')}"
"""Part of what a shard is known by: another version may find others."""
PAPER = Pgd(steps=10, rel_stepsize=0.025)
AT_RADIUS = Pgd(steps=20, rel_stepsize=0.1, margin=True)
"""Stronger: for certified images, which the paper's attack would not trouble, and whose margins may
be so large that the cross-entropy has no gradient in float32."""


class _AgainstMargin(L2PGD):
    """As the attack itself, on the logit margin."""

    def get_loss_fn(self, model: Model, labels: Any) -> Callable[[Any], Any]:
        def loss(inputs: Any) -> Any:
            logits, chosen = model(inputs).raw, labels.raw[:, None]
            others = logits.scatter(1, chosen, -torch.inf).amax(1)
            return type(inputs)((others - logits.gather(1, chosen)[:, 0]).sum())

        return loss


FARTHEST = math.sqrt(3) * SIDE
"""No two images are farther apart: a larger epsilon adds nothing, and overflows in float32."""


@dataclass(frozen=True)
class Outcome:
    """Per image (B,): whether `attacked` is an adversarial example, and its float64 distance."""

    broken: Tensor
    distance: Tensor


def distances(images: Tensor, others: Tensor) -> Tensor:
    """l2 distances (B,) in float64."""
    return (others.double() - images.double()).flatten(1).norm(dim=1)


def into_ball(images: Tensor, attacked: Tensor, epsilon: float) -> Tensor:
    """`attacked`, float32, drawn towards `images` until it is in the pixel range and the ball.

    Foolbox projects in float32 and may end a rounding outside the ball. Afterwards every distance
    is at most `epsilon` in float64: what cannot be stored that close becomes the image itself.
    """
    attacked = attacked.clamp(0, 1)
    slack = epsilon * 2.0**-24
    while (outside := (distance := distances(images, attacked)) > epsilon).any():
        share = ((epsilon - slack) / distance).clamp(min=0)[:, None, None, None]
        nearer = images.double() + share * (attacked.double() - images.double())
        attacked = torch.where(outside[:, None, None, None], nearer.float(), attacked)
        slack = 4 * slack if slack > 0 else 1.0
    return attacked


def judge(
    model: nn.Module, images: Tensor, labels: Tensor, attacked: Tensor, epsilon: float
) -> Outcome:
    """Which of `attacked` are adversarial examples: within epsilon in float64, pixels in [0, 1],
    and not classified as `labels` by the executed network (NaN logits count as broken)."""
    distance = distances(images, attacked)
    flat = attacked.flatten(1)
    allowed = (distance <= epsilon) & (flat >= 0).all(1) & (flat <= 1).all(1)
    with torch.no_grad():
        logits = model(attacked)
    wrong = (logits.argmax(1) != labels) | logits.isnan().any(1)
    return Outcome(allowed & wrong, distance)


def l2_pgd(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, seed: int, settings: Pgd
) -> Outcome:
    """Attack images (B, 3, 32, 32) in [0, 1] that `model` classifies as `labels` (B,).

    The random start depends on `seed` alone and leaves the global random state as it was.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    kind = _AgainstMargin if settings.margin else L2PGD
    attack = kind(steps=settings.steps, rel_stepsize=settings.rel_stepsize)
    wrapped = PyTorchModel(model, bounds=(0, 1), device=images.device)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        _, clipped, _ = attack(wrapped, images, labels, epsilons=[epsilon])
    return judge(model, images, labels, into_ball(images, clipped[0], epsilon), epsilon)
