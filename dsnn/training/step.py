"""One training step of a CIFAR network, as fast as the hardware allows."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError
from dsnn.models import CifarNet
from dsnn.models.cifar import Stage
from dsnn.operators import Convolution
from dsnn.training.loss import multi_class_hinge
from dsnn.training.orthogonality import orthogonality_penalty
from dsnn.training.precision import check_batch, training_device, training_dtype
from dsnn.training.projection import project

CACHE = 2**22
"""Bytes that a state may take on a processor: 64 images of the widest stage in bfloat16."""


@dataclass(frozen=True)
class Losses:
    """Scalar tensors on the training device, detached; reading them waits for the step.

    `hinge` and `penalty` are those before the update and without the factor gamma; 0 for the
    penalty when gamma is 0.
    """

    hinge: Tensor
    penalty: Tensor


class TrainingStep:
    """step(images, labels) -> Losses: forward, hinge loss + gamma penalty, backward, SGD with
    momentum, projection.

    `images` (B, 3, 32, 32) are normalised, `labels` (B,) integers; they may be on any device. The
    network is projected, and moved to `device` in channels-last memory order; its parameters stay
    float32. The
    forward pass runs under autocast to `dtype`, by default bfloat16 where the hardware multiplies
    it; the losses, the penalty and the projection do not. Learning-rate schedules act on
    `optimizer`. Raises UserError on a margin that is not positive, a negative gamma or rate, a
    momentum outside [0, 1), an absent device, or inputs that do not fit the network.
    """

    def __init__(
        self,
        net: CifarNet,
        *,
        margin: float,
        gamma: float,
        rate: float = 1e-2,
        momentum: float = 0.9,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ):
        for name, value, limit, holds in (
            ("margin", margin, "a positive number", margin > 0),
            ("gamma", gamma, "0 or a positive number", gamma >= 0),
            ("rate", rate, "a positive number", rate > 0),
            ("momentum", momentum, "at least 0 and below 1", 0 <= momentum < 1),
        ):
            if not (holds and math.isfinite(value)):
                raise UserError(f"{name} {value!r} is not allowed: {limit}")
        self.device = training_device(device)
        self.dtype = training_dtype(dtype, self.device)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.margin, self.gamma = margin, gamma
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=rate, momentum=momentum, fused=True
        )
        self._operators = flow_operators(self.net)
        project(self.net)

    def __call__(self, images: Tensor, labels: Tensor) -> Losses:
        losses = self.accumulate(images, labels)
        self.optimizer.step()
        self.optimizer.zero_grad()
        project(self.net)
        return losses

    def accumulate(self, images: Tensor, labels: Tensor) -> Losses:
        """Forward and backward pass only: gradients of hinge + gamma penalty are added to those
        that the parameters hold."""
        check_batch(images, labels, SIDE)
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        total = torch.zeros((), device=self.device)
        size = self._chunk(len(images))
        for part, own in zip(images.split(size), labels.split(size), strict=True):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                scores = self.net(part)
            hinge = multi_class_hinge(scores, own, self.margin) * (len(part) / len(images))
            hinge.backward()
            total += hinge.detach()
        if not self.gamma:
            return Losses(total, torch.zeros_like(total))
        penalty = orthogonality_penalty(self._operators)
        (self.gamma * penalty).backward()
        return Losses(total, penalty.detach())

    def _chunk(self, batch: int) -> int:
        """How many images go through the network at once: all of them, but on a processor no more
        than keep the widest state in the cache."""
        if self.device.type != "cpu":
            return batch
        channels = len(self.net.stages[0].get_parameter("lift.operator.weight"))
        return max(1, CACHE // (channels * SIDE**2 * self.dtype.itemsize))


def flow_operators(net: CifarNet) -> list[Convolution]:
    """The convolutions of the flows, which the orthogonality penalty is for."""
    stages = [cast(Stage, stage) for stage in net.stages]
    modules = [module for stage in stages for module in stage.flow.modules()]
    return [module for module in modules if isinstance(module, Convolution)]
