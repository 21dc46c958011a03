"""A step that trains a tiny network in microseconds, for tests of the loop that drives it.

Run as a program, it takes lines "FOLDER EPOCHS STEPS" and trains for each in a process of its own,
which prints its number, a line a step and a digest of the weights, until it ends or is killed.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.training.checkpoint import Checkpoints
from dsnn.training.engine import NO_LIMITS, Limits, Outcome, Plan, Report, train
from dsnn.training.images import ResidentImages
from dsnn.training.schedule import WarmupLinear
from dsnn.weights import canonical_sha256

SIDE, COUNT, BATCH, CLASSES = 6, 44, 8, 3
EPOCHS = 6
STEPS = COUNT // BATCH
PLAN = Plan(EPOCHS, BATCH, WarmupLinear(Fraction(15, 100)), seed=5)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Losses:
    cross_entropy: Tensor
    decay: Tensor


class AdamStep:
    """A step of another kind than TrainingStep: cross-entropy, AdamW, noise from torch's own
    generator, and a buffer that every step changes."""

    def __init__(self, before: Callable[["AdamStep"], None] = lambda step: None):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.net: nn.Module = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, CLASSES)
            )
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.01, fused=True)
        self.before, self.calls = before, 0

    def __call__(self, images: Tensor, labels: Tensor) -> Losses:
        self.calls += 1
        self.before(self)
        scores = self.net(images + 0.1 * torch.randn(len(images), 1, 1, 1))
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Losses(loss.detach(), torch.zeros(()))

    def sha256(self) -> str:
        return canonical_sha256(self.net.state_dict())


def images(augment: bool = True) -> ResidentImages:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(COUNT) % CLASSES
    noise = torch.randint(100, (COUNT, SIDE, SIDE, 3), generator=generator)
    return ResidentImages(
        (noise + 70 * labels.view(-1, 1, 1, 1)).to(torch.uint8),
        labels,
        mean=MEAN,
        std=STD,
        device=torch.device("cpu"),
        augment=augment,
    )


def run(
    folder: Path,
    step: AdamStep | None = None,
    *,
    resume: bool = False,
    limits: Limits = NO_LIMITS,
    name: str = "tiny",
    plan: Plan = PLAN,
    **options: Any,
) -> tuple[AdamStep, Outcome]:
    """Train in `folder`; torch's generator, for the noise, starts wherever it happens to be."""
    step = step or AdamStep()
    checkpoints = Checkpoints(folder, {"name": name, "epochs": plan.epochs})
    done = train(step, images(), plan, checkpoints, resume=resume, limits=limits, **options)
    return step, done


def until_finished(folder: Path, limits: Limits) -> Iterator[tuple[AdamStep, Outcome]]:
    """The slices of a run, each with a step of its own."""
    while True:
        step, done = run(folder, resume=True, limits=limits)
        yield step, done
        if done.finished:
            return


def long(epochs: int) -> Plan:
    return replace(PLAN, epochs=epochs)


def _train_aloud(folder: Path, epochs: int, steps: int) -> None:
    """Save every `steps` steps as well, unless 0."""

    def say(report: Report) -> None:
        print(report.epoch, report.step, flush=True)

    print("pid", os.getpid(), flush=True)
    limits = Limits(steps=steps or None)
    step, _ = run(folder, resume=True, limits=limits, report=say, plan=long(epochs))
    print("sha256", step.sha256(), flush=True)


if __name__ == "__main__":
    child = 0
    for line in sys.stdin:
        if child:
            os.waitpid(child, 0)  # only now, so that a kill that comes late finds no other process
        folder, epochs, steps = line.split()
        if (child := os.fork()) == 0:  # a fresh interpreter would import torch once a kill
            _train_aloud(Path(folder), int(epochs), int(steps))
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        print("ended -", flush=True)
