"""The networks of the protocol before training: fresh, or going on from CIFAR-10 weights."""

import math
from pathlib import Path

import torch
from torch import nn

from dsnn.data.cifar import CLASSES
from dsnn.errors import UserError
from dsnn.models import CifarNet, build
from dsnn.weights import Loaded, load
from experiments.protocol import Configuration


def network(configuration: Configuration, start: Path | None = None) -> CifarNet:
    """The network before training: fresh weights of the seed, or those of `start` with a new head.

    The unconstrained baseline starts as torch's own convolutions do, like the published one: the
    orthogonal kernels of the others would double its states in every layer. Going on from CIFAR-10,
    flexible switching draws its steps anew from [0, 1), as published. Raises UserError on weights
    of another regime, data set or width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(configuration.seed)
        net = build(
            configuration.regime,
            CLASSES[configuration.dataset],
            channels=configuration.channels,
            signed_steps=configuration.signed_steps,
        )
        if configuration.regime == "unconstrained":
            _as_torch_does(net)
        if start is not None:
            _go_on_from(net, load(start, configuration.regime))
    return net


def _as_torch_does(net: CifarNet) -> None:
    for name, parameter in net.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
        elif not name.startswith("head"):
            fan_in = net.get_parameter(_kernel_of(name)).flatten(1).shape[1]
            nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def _kernel_of(bias: str) -> str:
    """The kernel whose outputs a bias of a lift or two-layer field is added to."""
    operator = "operator" if ".lift." in bias else "inner"
    return bias.removesuffix("bias") + f"{operator}.weight"


def _go_on_from(net: CifarNet, found: Loaded) -> None:
    if found.card.dataset != "cifar10" or found.net.classes != 10:
        raise UserError(f"{found.path} holds {found.card.dataset} weights: --from takes CIFAR-10's")
    state = {k: v for k, v in found.net.state_dict().items() if not k.startswith("head.")}
    own = net.state_dict()
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"{found.path}: {name} has shape {tuple(value.shape)}, this network "
                f"{tuple(own[name].shape)}: set channels to those of the weights"
            )
    net.load_state_dict(state, strict=False)
    if net.arch == "switch-flexible":
        for name, parameter in net.named_parameters():
            if name.endswith(".u"):
                nn.init.uniform_(parameter)
