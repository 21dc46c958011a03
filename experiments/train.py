"""Train a network of the paper: data, step, loop, and a folder with the result.

The folder holds `weights.safetensors`, `metrics.jsonl` with a line an epoch, `run.json` with the
provenance, and `checkpoints`. It is made anew from the checkpoints whenever the run goes on, so it
is never of another state than they are.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from dsnn.data.cifar import CLASSES, pixels_and_labels
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import training
from dsnn.errors import UserError
from dsnn.files import write_json, write_text
from dsnn.models import CifarNet, build
from dsnn.training import TrainingStep
from dsnn.training.accuracy import correct
from dsnn.training.checkpoint import Checkpoints, Progress
from dsnn.training.engine import NO_LIMITS, SECONDS, Limits, Plan, Report, train
from dsnn.training.images import ResidentImages
from dsnn.training.precision import fastest_dtype, training_device
from dsnn.training.processes import Processes, local_device, processes
from dsnn.training.schedule import Steps
from dsnn.weights import Card, Loaded, load, save
from experiments.executed import exact_float32
from experiments.protocol import Configuration
from experiments.provenance import commit, environment
from verification.bound import network_bound

EpochMetrics = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One training run as asked for. `start` are CIFAR-10 weights to go on from."""

    configuration: Configuration
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


@dataclass(frozen=True)
class Result:
    """What `run.json` holds, and whether the run is finished."""

    content: dict[str, Any]
    finished: bool


def run_training(
    run: Run,
    report: Callable[[Report], None] = lambda report: None,
    observe: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> Result:
    """Train, and write the result folder. `observe` gets the metrics of every epoch that ends.

    Raises UserError on bad input, a folder that cannot be written, and as `dsnn.training.train`.
    """
    device = training_device(local_device(run.device))
    with processes(device) as group:
        return _train(run, device, group, report, observe)


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


def _train(
    run: Run,
    device: torch.device,
    group: Processes,
    report: Callable[[Report], None],
    observe: Callable[[EpochMetrics], None],
) -> Result:
    asked = run.configuration
    net = network(asked, run.start)
    images, monitored, test = _data(asked, run.folder, device)
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
        step.net.compile(mode="reduce-overhead", dynamic=False)
    identity = {
        **asked.values(),
        "dtype": str(dtype).removeprefix("torch."),
        "from": load(run.start).sha256 if run.start else None,
    }
    checkpoints = Checkpoints(run.out / "checkpoints", identity)
    plan = Plan(
        epochs=asked.epochs,
        batch=asked.batch,
        schedule=Steps(asked.every, asked.factor),
        seed=asked.seed,
        reduction=asked.reduction,
    )

    def at_epoch_end(net: nn.Module, entry: EpochMetrics) -> EpochMetrics:
        epoch = entry["epoch"]
        last = epoch == asked.epochs
        with exact_float32():
            seen = test if last else monitored
            found: dict[str, Any] = {"test_accuracy": correct(net, seen) / len(seen)}
        found["test_images"] = len(seen)
        if asked.bound_every and (last or epoch % asked.bound_every == 0):
            found |= _bound(net, asked.dataset)
        observe({**entry, **found})
        return found

    outcome = train(
        step,
        images,
        plan,
        checkpoints,
        resume=run.resume,
        limits=run.limits,
        group=group,
        at_epoch_end=at_epoch_end,
        report=report,
    )
    progress = outcome.progress
    content = {
        "finished": outcome.finished,
        "configuration": identity,
        "environment": {**environment(device), "processes": group.size},
        "code": commit(),
        "images_a_second": _speed(progress, len(images) // asked.batch * asked.batch),
        **{name: round(getattr(progress, name), 3) for name in SECONDS},
        "epochs": progress.epochs,
        "restarts": progress.restarts,
        "result": progress.metrics[-1] if progress.metrics else None,
    }
    if group.first:
        _write(run, step.net, progress, content)
    return Result(content, outcome.finished)


def _data(
    asked: Configuration, folder: DataFolder, device: torch.device
) -> tuple[ResidentImages, ResidentImages, ResidentImages]:
    """The training images, and the monitored and all evaluated ones of the test set."""
    mean, std = training(asked.dataset)

    def resident(split: str, limit: int | None, augment: bool) -> ResidentImages:
        pixels, labels = pixels_and_labels(asked.dataset, split, folder, limit)
        return ResidentImages(pixels, labels, mean=mean, std=std, device=device, augment=augment)

    test = resident("test", asked.tested, False)
    monitored = resident("test", asked.monitored, False)
    return resident("train", asked.images, asked.augment), monitored, test


def _bound(net: nn.Module, dataset: str) -> dict[str, float | None]:
    """Proved constants of the stored weights, for normalised inputs and for pixels."""
    _, std = training(dataset)
    stored = cast(CifarNet, copy.deepcopy(net).cpu().eval())
    found = network_bound(stored, std)
    return {
        "lipschitz": found.lipschitz if math.isfinite(found.lipschitz) else None,
        "lipschitz_pixel": found.lipschitz_pixel if math.isfinite(found.lipschitz_pixel) else None,
    }


def _speed(progress: Progress, images: int) -> float | None:
    """Images a second of training alone, over the epochs of all slices."""
    if not progress.metrics:
        return None
    return round(progress.epochs * images / progress.metrics[-1]["training_seconds"], 1)


def _write(run: Run, net: CifarNet, progress: Progress, content: dict[str, Any]) -> None:
    asked = run.configuration
    mean, std = training(asked.dataset)
    try:
        lines = [json.dumps(entry, allow_nan=False) for entry in progress.metrics]
        write_text(run.out / "metrics.jsonl", "".join(line + "\n" for line in lines))
        if content["finished"]:
            card = Card(asked.regime, asked.dataset, asked.margin, mean, std, asked.signed_steps)
            path = run.out / "weights.safetensors"
            save(path, net, card)
            content["sha256"] = load(path).sha256
        write_json(run.out / "run.json", content)
    except OSError as error:
        raise UserError(
            f"cannot write the result to {run.out}: {error.strerror or error}; make room, then go "
            "on with --resume"
        ) from error
