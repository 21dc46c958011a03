"""Stand-in networks for where no published weights are found: narrow, trained in seconds.

They show what the commands do on the data set made by a formula; nothing about the paper's
networks follows from them. Training is that of the paper in small: hinge loss with a margin, SGD,
and after every step the constraints of the regime, with the steps held to their boxes [T8, T10].
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.data.generated import generated
from dsnn.data.statistics import training
from dsnn.integrators import Step
from dsnn.models import CifarNet, build
from dsnn.models.cifar import SIDE, Lift
from dsnn.operators import Convolution
from dsnn.operators.geometry import Geometry
from dsnn.operators.symbol import norm_upper
from dsnn.weights import Card, save
from theory.projections import flexible, nonexpansive

CHANNELS = (8, 12, 16)
MARGIN = 0.15
_BATCH = 64
_RATE = 0.02
_LIFT_SCALE = 3.0
_NORM_EVERY = 10
"""Optimiser steps between two projections of the kernels, which drift slowly."""
_BELOW = 1 - 1e-6
"""Distance kept from a limit, so that the rounded weights themselves satisfy the law."""

PROJECTIONS = {"non-expansive": nonexpansive, "switch-flexible": flexible}
"""The projection onto the admissible steps by regime."""


def train(arch: str, *, steps: int, signed_steps: bool = True, seed: int = 0) -> CifarNet:
    """A narrow network of `arch`, a key of PROJECTIONS, after `steps` optimiser steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(arch, channels=CHANNELS, signed_steps=signed_steps)
        for lift in (module for module in net.modules() if isinstance(module, Lift)):
            if lift.scale is not None:
                nn.init.constant_(lift.scale, _LIFT_SCALE)
        images, labels = generated("train", max(_BATCH, min(2048, steps * _BATCH)))
        images = normalised(images)
        optimiser = torch.optim.SGD(net.parameters(), lr=_RATE, momentum=0.9)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
        for step in range(steps):
            chosen = torch.randint(len(images), (_BATCH,))
            scores = net(images[chosen])
            loss = net.classes * F.multi_margin_loss(scores, labels[chosen], margin=MARGIN)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            constrain(net, kernels=step % _NORM_EVERY == 0 or step == steps - 1)
    return net.eval()


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, 32, 32) in [0, 1] with the statistics of the generated set."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in training("generated"))
    return (images - mean) / std


@torch.no_grad()
def constrain(net: CifarNet, *, kernels: bool = True) -> None:
    """Project onto the constraints of the regime: steps into their box, the head's Frobenius norm
    to at most 1 and, with `kernels`, the norm of every convolution as executed to at most 1."""
    projection = PROJECTIONS[net.arch]
    project, names = projection.numeric("torch"), [symbol.name for symbol in projection.raw]
    for step in (module for module in net.modules() if isinstance(module, Step)):
        step.u.copy_(torch.stack(project(**dict(zip(names, step.u, strict=True)))))
    norm = float(net.head.weight.norm())
    net.head.weight.mul_(_BELOW / max(1.0, norm))
    if not kernels:
        return
    for level, stage in enumerate(net.stages):
        extent = SIDE // 2**level
        for module in stage.modules():
            if isinstance(module, Convolution):
                geometry = Geometry((extent, extent), padding=(1, 1, 1, 1))
                module.weight.mul_(_BELOW / max(1.0, norm_upper(module.weight, geometry)))


def save_standin(path: Path, net: CifarNet) -> None:
    """Write the network with the metadata that the other commands read."""
    mean, std = training("generated")
    save(path, net, Card(net.arch, "generated", MARGIN, mean, std, net.signed_steps))
