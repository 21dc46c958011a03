"""Train a network of the paper's protocol, or a certified one: data, step, loop, result."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from dsnn.data.cifar import pixels_and_labels
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import Channels, training
from dsnn.errors import UserError
from dsnn.models import ALL_ARCHITECTURES, CERTIFIED, CifarNet
from dsnn.training import TrainingStep
from dsnn.training.engine import NO_LIMITS, Limits, Plan, Report
from dsnn.training.images import ResidentImages
from dsnn.training.precision import fastest_dtype, out_of_memory, training_device
from dsnn.training.processes import local_device, processes
from dsnn.training.schedule import Steps
from dsnn.weights import Card, load, save
from experiments import certified, protocol
from experiments.certified import Certified
from experiments.protocol import Configuration
from experiments.result import EpochMetrics, Result, Task, carry_out, finite
from experiments.start import network
from verification.bound import network_bound


def configured(
    regime: str,
    dataset: str,
    margin: float | None,
    scale: str,
    *,
    transfer: bool,
    changes: Mapping[str, Any],
) -> Configuration | Certified:
    """The settings of a regime, the paper's or ours; without a margin, the usual one. Raises
    UserError as the configurations do."""
    if regime not in ALL_ARCHITECTURES:
        raise UserError(f"unknown regime {regime!r}: one of {', '.join(ALL_ARCHITECTURES)}")
    if regime not in CERTIFIED:
        margin = protocol.MARGIN if margin is None else margin
        return protocol.configuration(
            regime, dataset, margin, scale, transfer=transfer, changes=changes
        )
    if transfer:
        raise UserError("--from is for the paper's protocol: certified networks start from nothing")
    return certified.configuration(regime, dataset, margin, scale, changes)


@dataclass(frozen=True)
class Run:
    """One training run as asked for. `start` are CIFAR-10 weights to go on from; `compiled` runs
    the network as CUDA graphs on a GPU."""

    configuration: Configuration | Certified
    folder: DataFolder
    out: Path
    start: Path | None = None
    device: str = "cpu"
    resume: bool = False
    limits: Limits = NO_LIMITS
    compiled: bool = True

    def __post_init__(self) -> None:
        if self.configuration.transfer != (self.start is not None):
            raise UserError("CIFAR-10 weights are given exactly where the configuration transfers")


def run_training(
    run: Run,
    report: Callable[[Report], None] = lambda report: None,
    observe: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> Result:
    """Train and write the result folder, in this process or those that torchrun started.

    `observe` gets the metrics of every epoch that ends. Raises UserError on bad input and as
    `carry_out`.
    """
    device = training_device(local_device(run.device))
    try:
        if isinstance(run.configuration, Certified):
            task = certified.task(run.configuration, run.folder, device, compiled=run.compiled)
        else:
            task = _task(run.configuration, run, device)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "out of memory before the first step: choose a smaller network or fewer images"
        ) from error
    with processes(device) as group:
        return carry_out(
            task,
            run.out,
            resume=run.resume,
            limits=run.limits,
            group=group,
            report=report,
            observe=observe,
        )


def _task(asked: Configuration, run: Run, device: torch.device) -> Task:
    net = network(asked, run.start)
    mean, std = training(asked.dataset)

    def resident(split: str, limit: int | None, augment: bool) -> ResidentImages:
        pixels, labels = pixels_and_labels(asked.dataset, split, run.folder, limit)
        return ResidentImages(pixels, labels, mean=mean, std=std, device=device, augment=augment)

    dtype = fastest_dtype(device) if asked.dtype == "fastest" else getattr(torch, asked.dtype)
    step = TrainingStep(
        net,
        margin=asked.margin,
        gamma=asked.gamma,
        rate=asked.rate,
        momentum=asked.momentum,
        device=str(device),
        dtype=dtype,
    )
    if run.compiled and device.type == "cuda":
        net.compile(mode="reduce-overhead", dynamic=False)
    card = Card(asked.regime, asked.dataset, asked.margin, mean, std, asked.signed_steps)
    return Task(
        step=step,
        plan=Plan(
            epochs=asked.epochs,
            batch=asked.batch,
            schedule=Steps(asked.every, asked.factor),
            seed=asked.seed,
            reduction=asked.reduction,
        ),
        configuration={
            **asked.values(),
            "dtype": str(dtype).removeprefix("torch."),
            "from": load(run.start, asked.regime).sha256 if run.start else None,
        },
        images=resident("train", asked.images, asked.augment),
        monitored=resident("test", asked.monitored, False),
        tested=resident("test", asked.tested, False),
        save=lambda net, path: save(path, cast(CifarNet, net), card),
        bound=lambda net: constants(net, std),
        bound_every=asked.bound_every,
    )


def constants(net: nn.Module, std: Channels) -> EpochMetrics:
    """Proved Lipschitz constants of a network as it is stored, for normalised inputs and for
    pixels; None where none is finite."""
    found = network_bound(copy.deepcopy(net).cpu().eval(), std)
    return finite({"lipschitz": found.lipschitz, "lipschitz_pixel": found.lipschitz_pixel})
