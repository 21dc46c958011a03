"""Stand-in networks for where no published weights are found: narrow, trained in seconds.

They show what the commands do on the data set made by a formula; nothing about the paper's
networks follows from them. Training is that of the paper in small, and instead of its penalty the
kernels are scaled to norm 1 now and then.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from dsnn.data.generated import generated
from dsnn.data.statistics import training
from dsnn.models import CifarNet, build
from dsnn.models.cifar import SIDE, Lift, Stage
from dsnn.operators import Convolution
from dsnn.operators.geometry import Geometry
from dsnn.operators.symbol import norm_upper
from dsnn.training.projection import KEEP
from dsnn.training.step import TrainingStep
from dsnn.weights import Card, save

CHANNELS = (8, 12, 16)
MARGIN = 0.15
_BATCH = 64
_RATE = 0.02
_LIFT_SCALE = 3.0
_NORM_EVERY = 10
"""Optimiser steps between two projections of the kernels, which drift slowly."""
REGIMES = ("non-expansive", "switch-flexible")


def train(arch: str, *, steps: int) -> CifarNet:
    """A narrow network of `arch`, one of REGIMES, after `steps` optimiser steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(arch, channels=CHANNELS)
        for lift in (module for module in net.modules() if isinstance(module, Lift)):
            if lift.scale is not None:
                nn.init.constant_(lift.scale, _LIFT_SCALE)
        images, labels = generated("train", max(_BATCH, min(2048, steps * _BATCH)))
        images = normalised(images)
        step = TrainingStep(net, margin=MARGIN, gamma=0, rate=_RATE, dtype=torch.float32)
        rate = torch.optim.lr_scheduler.OneCycleLR(step.optimizer, _RATE, total_steps=steps)
        for done in range(1, steps + 1):
            chosen = torch.randint(len(images), (_BATCH,))
            step(images[chosen], labels[chosen])
            rate.step()
            if done % _NORM_EVERY == 0 or done == steps:
                shrink(net)
    return net.eval()


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, 32, 32) in [0, 1] with the statistics of the generated set."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in training("generated"))
    return (images - mean) / std


@torch.no_grad()
def shrink(net: CifarNet) -> None:
    """Scale the kernels of the flows to norm at most 1 as executed: with so few steps a penalty
    would not make them orthogonal."""
    for k, stage in enumerate(net.stages):
        geometry = Geometry((SIDE >> k, SIDE >> k), padding=(1, 1, 1, 1))
        for module in cast(Stage, stage).flow.modules():
            if isinstance(module, Convolution):
                module.weight.mul_(KEEP / max(1.0, norm_upper(module.weight, geometry)))


def save_standin(path: Path, net: CifarNet) -> None:
    """Write the network with the metadata that the other commands read."""
    mean, std = training("generated")
    save(path, net, Card(net.arch, "generated", MARGIN, mean, std, net.signed_steps))
