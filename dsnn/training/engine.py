"""The training loop: drives any step over a resident data set, and survives being stopped.

What a run computes is a function of its configuration: the order of the images and their crops
come from the seed and the epoch, torch's own generator starts from the seed, and checkpoints hold
all that changes. So a run that was killed, or cut into slices, ends with the weights of one that
was not.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.training.checkpoint import Checkpoints, Progress
from dsnn.training.images import Draw, ResidentImages
from dsnn.training.precision import out_of_memory
from dsnn.training.processes import ALONE, Processes
from dsnn.training.schedule import Schedule

RESTARTS = 5
"""Of one epoch: when so many reductions of the rate do not keep it finite, the run fails."""
WINDOW = 50
"""Steps between two looks at the losses on a GPU, which wait for it."""

SECONDS = ("training_seconds", "wall_seconds", "cpu_seconds")


class Step(Protocol):
    """What the loop drives; `dsnn.training.TrainingStep` is one.

    A call trains on normalised images (B, 3, H, W) and labels (B,), and returns a dataclass of
    scalar tensors. All that changes lies in `net` and `optimizer`, whose rates the loop sets.
    """

    @property
    def net(self) -> nn.Module: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    def __call__(self, images: Tensor, labels: Tensor) -> Any: ...


@dataclass(frozen=True)
class Plan:
    """How long and in which order to train: `batch` is that of all processes together, the images
    of an incomplete last batch are left out of their epoch. `reduction` multiplies the rates after
    a loss that is not finite."""

    epochs: int
    batch: int
    schedule: Schedule
    seed: int = 0
    reduction: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UserError(f"{self.epochs} epochs, batches of {self.batch}: at least 1 of each")
        if not 0 < self.reduction < 1:
            raise UserError(f"reduction {self.reduction} is not between 0 and 1")


@dataclass(frozen=True)
class Limits:
    """When to stop or save although an epoch is not over: after `seconds`, every `steps`."""

    seconds: float | None = None
    steps: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Report:
    """What the loop tells while it runs: `epoch` finished epochs, `step` of `steps` in this one,
    and the mean losses of it so far."""

    epoch: int
    step: int
    steps: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """Where the run stands now; `finished` is False when a limit stopped it."""

    progress: Progress
    finished: bool


EpochEnd = Callable[[nn.Module, Mapping[str, Any]], Mapping[str, Any]]
"""Called in the first process with the network and the metrics of the epoch that ends (`epoch`,
from 1, the mean losses, `rate`); what it returns (JSON values) joins them. It leaves the network
as it was."""


def train(
    step: Step,
    images: ResidentImages,
    plan: Plan,
    checkpoints: Checkpoints,
    *,
    resume: bool = False,
    limits: Limits = NO_LIMITS,
    group: Processes = ALONE,
    at_epoch_end: EpochEnd = lambda net, metrics: {},
    report: Callable[[Report], None] = lambda report: None,
) -> Outcome:
    """Train `step` to the end of `plan`, or to a limit. Ends with a checkpoint of the outcome.

    With `resume`, goes on from the newest checkpoint where there is one. A loss or weight that is
    not finite takes the run back to the last finished epoch, with the rates reduced. Raises
    UserError where there are checkpoints and no `resume`, on one that does not fit, on fewer
    images than a batch, on batches that the processes cannot share evenly, on a full disk or
    device memory (what was saved is kept), and when reductions do not help.
    """
    if len(images) < plan.batch:
        raise UserError(f"{len(images)} images are fewer than one batch of {plan.batch}")
    if plan.batch % group.size:
        raise UserError(f"batches of {plan.batch} do not divide among {group.size} processes")
    group.average_gradients(step.optimizer)
    for parameters in step.optimizer.param_groups:
        parameters.setdefault("initial_lr", float(parameters["lr"]))
    with _alone(checkpoints, group, images.device):
        there = group.agree(checkpoints.newest() is not None, images.device)
        if there and not resume:
            raise UserError(
                f"{checkpoints.folder} holds a run already: go on with --resume, or choose another "
                "--out"
            )
        progress = checkpoints.restore(step) if there else None
        if there and progress is None:
            raise UserError(
                f"{checkpoints.folder} holds a run, but not for every process: put --out on a disk "
                "that all machines share"
            )
        if progress is None:
            progress = Progress()
            torch.manual_seed(plan.seed)
            if group.first:
                checkpoints.save(step, progress)
        group.same_weights(step.net)
        loop = _Loop(step, images, plan, checkpoints, limits, group, at_epoch_end, report, progress)
        with _memory(plan.batch, checkpoints):
            finished = loop.run()
        return Outcome(loop.progress, finished)


@contextmanager
def _alone(checkpoints: Checkpoints, group: Processes, device: torch.device) -> Iterator[None]:
    """The first process keeps other runs out of the folder. Where it cannot, all processes end with
    it: none waits for it."""
    with ExitStack() as stack:
        refused: UserError | None = None
        if group.first:
            try:
                stack.enter_context(checkpoints.held())
            except UserError as error:
                refused = error
        if group.agree(refused is not None, device):
            raise refused or UserError(f"{checkpoints.folder}: the first process says why not")
        yield


class _NotFinite(Exception):
    """A loss or weight is infinite or no number."""


@dataclass
class _Loop:
    step: Step
    images: ResidentImages
    plan: Plan
    checkpoints: Checkpoints
    limits: Limits
    group: Processes
    at_epoch_end: EpochEnd
    report: Callable[[Report], None]
    progress: Progress

    def __post_init__(self) -> None:
        self.steps = len(self.images) // self.plan.batch
        self.window = WINDOW if self.images.device.type == "cuda" else 1
        self.start = self.last = time.perf_counter()
        self.last_cpu = time.process_time()

    def run(self) -> bool:
        while self.progress.epochs < self.plan.epochs:
            try:
                if not self._epoch():
                    return self.progress.epochs == self.plan.epochs
            except _NotFinite as error:
                self._restart(str(error))
        return True

    def _epoch(self) -> bool:
        """The steps that the epoch still needs, then its end; False when the time is over."""
        progress, plan = self.progress, self.plan
        draw = self.images.draw(plan.seed, progress.epochs)
        sums = {name: torch.tensor(v, dtype=torch.float64) for name, v in progress.sums.items()}
        while progress.steps < self.steps:
            losses = self._one(draw)
            for name, value in losses.items():
                value = value.to(torch.float64)
                sums[name] = sums[name].to(value.device) + value if name in sums else value
            progress.steps += 1
            if progress.steps % self.window and progress.steps < self.steps:
                continue
            progress.sums = self._read(sums)
            self.report(Report(progress.epochs, progress.steps, self.steps, self._means()))
            if progress.steps == self.steps:
                break
            if self._late():
                self._save()
                return False
            if self.limits.steps and progress.steps % self.limits.steps < self.window:
                self._save()
        self._finish()
        return not self._late()

    def _late(self) -> bool:
        """Whether the time is over, in all processes alike."""
        limit = self.limits.seconds
        late = limit is not None and time.perf_counter() - self.start >= limit
        return self.group.agree(late, self.images.device)

    def _one(self, draw: Draw) -> dict[str, Tensor]:
        progress, plan = self.progress, self.plan
        done = Fraction(progress.epochs * self.steps + progress.steps, plan.epochs * self.steps)
        factor = plan.schedule(done) * progress.reduction
        for group in self.step.optimizer.param_groups:
            _set_rate(group, factor)
        start = progress.steps * plan.batch
        losses = self.step(*self.images.batch(draw, *self.group.share(start, start + plan.batch)))
        return {f.name: getattr(losses, f.name) for f in fields(losses)}

    def _read(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        names = list(sums)
        values = self.group.mean(torch.stack([sums[name] for name in names])).tolist()
        found = dict(zip(names, values, strict=True))
        for name, value in found.items():
            if not abs(value) < float("inf"):
                raise _NotFinite(f"{name} is {value}")
        return found

    def _means(self) -> dict[str, float]:
        progress = self.progress
        return {name: value / progress.steps for name, value in progress.sums.items()}

    def _clock(self, training: bool = True) -> None:
        """Add the time since the last call to the run's, and to its training time."""
        now, cpu = time.perf_counter(), time.process_time()
        self.progress.wall_seconds += now - self.last
        self.progress.cpu_seconds += cpu - self.last_cpu
        if training:
            self.progress.training_seconds += now - self.last
        self.last, self.last_cpu = now, cpu

    def _save(self) -> None:
        self._clock()
        if self.group.first:
            self.checkpoints.save(self.step, self.progress)

    def _finish(self) -> None:
        for name, value in self.step.net.state_dict().items():
            if not bool(value.isfinite().all()):
                raise _NotFinite(f"weight {name} is not finite")
        self._clock()
        progress = self.progress
        entry = {
            "epoch": progress.epochs + 1,
            **self._means(),
            "rate": float(self.step.optimizer.param_groups[0]["lr"]),
            "restarts": len(progress.restarts),
        }
        progress.epochs, progress.steps, progress.sums = progress.epochs + 1, 0, {}
        if self.group.first:
            entry |= self.at_epoch_end(self.step.net, entry)
            self._clock(training=False)
            for name in SECONDS:
                entry[name] = round(getattr(progress, name), 3)
            progress.metrics.append(entry)
            self.checkpoints.save(self.step, progress)

    def _restart(self, reason: str) -> None:
        """Back to the last finished epoch, with smaller rates."""
        failed = self.progress
        where = {"epoch": failed.epochs + 1, "step": failed.steps, "reason": reason}
        again = sum(1 for restart in failed.restarts if restart["epoch"] == where["epoch"])
        if again >= RESTARTS:
            raise UserError(
                f"{reason} in epoch {where['epoch']}, step {where['step']}, after {again} "
                "reductions of the learning rate: choose a smaller one"
            )
        self._clock()
        restored = self.checkpoints.restore(self.step, whole=True)
        assert restored is not None  # the first is saved before the first step
        restored.reduction = failed.reduction * self.plan.reduction
        restored.restarts = [*failed.restarts, {**where, "reduction": restored.reduction}]
        for name in SECONDS:
            setattr(restored, name, getattr(failed, name))
        self.progress = restored


def _set_rate(group: dict[str, Any], factor: float) -> None:
    rate = group["initial_lr"] * factor
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


@contextmanager
def _memory(batch: int, checkpoints: Checkpoints):
    """One line instead of a traceback when the device's memory is full."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        kept = checkpoints.newest()
        raise UserError(
            f"out of memory with batches of {batch}: free some, or use a smaller batch or network; "
            f"what is done is kept in {kept}, --resume goes on"
        ) from error
