"""A training run and the folder of its result, whatever step is trained.

The folder holds `weights.safetensors`, `metrics.jsonl` with a line an epoch, `run.json` with the
provenance, and `checkpoints`. It is written anew from the checkpoints whenever the run goes on, so
it is never of another state than they are.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dsnn.errors import UserError
from dsnn.files import write_json, write_text
from dsnn.training.accuracy import correct
from dsnn.training.checkpoint import Checkpoints, Progress
from dsnn.training.engine import NO_LIMITS, SECONDS, Limits, Plan, Report, Step, train
from dsnn.training.images import ResidentImages
from dsnn.training.processes import ALONE, Processes
from dsnn.weights import canonical_sha256
from experiments.executed import exact_float32
from experiments.provenance import commit, environment

EpochMetrics = Mapping[str, Any]


def finite(values: Mapping[str, float]) -> EpochMetrics:
    """The values as JSON can hold them: None where one is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True)
class Task:
    """What to train and how its result is judged.

    `configuration` (JSON values) identifies the run. The accuracy of an epoch is on the images
    `monitored`, after the last on those `tested`. `bound` gives proved constants of a network
    (JSON values), every `bound_every` epochs and after the last, 0 for never. `save` writes a
    network to a path. What is judged and saved is `final` of the network in training.
    """

    step: Step
    plan: Plan
    configuration: Mapping[str, Any]
    images: ResidentImages
    monitored: ResidentImages
    tested: ResidentImages
    save: Callable[[nn.Module, Path], object]
    bound: Callable[[nn.Module], EpochMetrics]
    bound_every: int = 1
    final: Callable[[nn.Module], nn.Module] = lambda net: net

    def judged(self, net: nn.Module, epoch: int) -> dict[str, Any]:
        """Accuracy and, where due, bounds of the network after `epoch` epochs."""
        last = epoch == self.plan.epochs
        seen = self.tested if last else self.monitored
        net = self.final(net).to(seen.device)
        with exact_float32():
            found: dict[str, Any] = {"test_accuracy": correct(net, seen) / len(seen)}
        found["test_images"] = len(seen)
        if self.bound_every and (last or epoch % self.bound_every == 0):
            found |= self.bound(net)
        return found


@dataclass(frozen=True)
class Result:
    """What `run.json` holds, and whether the run is finished."""

    content: dict[str, Any]
    finished: bool


def carry_out(
    task: Task,
    out: Path,
    *,
    resume: bool = False,
    limits: Limits = NO_LIMITS,
    group: Processes = ALONE,
    report: Callable[[Report], None] = lambda report: None,
    observe: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> Result:
    """Train, and write the result folder `out`; the weights only once the run is finished.

    `observe` gets the metrics of every epoch that ends. Raises UserError as
    `dsnn.training.engine.train`, and where the folder cannot be written.
    """

    def at_epoch_end(net: nn.Module, metrics: EpochMetrics) -> EpochMetrics:
        found = task.judged(net, metrics["epoch"])
        observe({**metrics, **found})
        return found

    checkpoints = Checkpoints(out / "checkpoints", task.configuration)
    weights = out / "weights.safetensors"
    if weights.exists() and checkpoints.newest() is None:
        raise UserError(
            f"{weights} would be written over, and no checkpoint says which run it is of: move it "
            "away, or choose another --out"
        )
    outcome = train(
        task.step,
        task.images,
        task.plan,
        checkpoints,
        resume=resume,
        limits=limits,
        group=group,
        at_epoch_end=at_epoch_end,
        report=report,
    )
    progress, net = outcome.progress, task.final(task.step.net)
    content = {
        "finished": outcome.finished,
        "configuration": dict(task.configuration),
        "environment": {**environment(task.images.device), "processes": group.size},
        "code": commit(),
        "images_a_second": _speed(task, progress),
        **{name: round(getattr(progress, name), 3) for name in SECONDS},
        "epochs": progress.epochs,
        "restarts": progress.restarts,
        "result": progress.metrics[-1] if progress.metrics else None,
        "sha256": canonical_sha256(net.state_dict()) if outcome.finished else None,
    }
    content |= _trained_by(out / "run.json", content)
    if group.first:
        _write(task, net, out, progress, content)
    return Result(content, outcome.finished)


def _trained_by(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Code and environment of a run that had ended before: those that trained it, whatever looks at
    it now."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    same = isinstance(found, dict) and all(
        found.get(name) == content[name] for name in ("sha256", *SECONDS)
    )
    kept = ("environment", "code") if same and content["finished"] else ()
    return {name: found[name] for name in kept}


def _speed(task: Task, progress: Progress) -> float | None:
    """Images a second of training alone, over the epochs of all slices."""
    if not progress.metrics:
        return None
    seen = len(task.images) // task.plan.batch * task.plan.batch * progress.epochs
    return round(seen / progress.metrics[-1]["training_seconds"], 1)


def _write(
    task: Task, net: nn.Module, out: Path, progress: Progress, content: dict[str, Any]
) -> None:
    lines = [json.dumps(entry, allow_nan=False) + "\n" for entry in progress.metrics]
    try:
        write_text(out / "metrics.jsonl", "".join(lines))
        if content["finished"]:
            task.save(net, out / "weights.safetensors")
        write_json(out / "run.json", content)
    except UserError as error:
        raise UserError(f"{error}; then go on with --resume") from error
