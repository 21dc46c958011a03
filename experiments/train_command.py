"""`dsnn train`: one network of the paper's protocol, in slices where need be."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.errors import UserError
from dsnn.files import check_outputs, check_writable, write_json
from dsnn.options import Data, Json
from experiments.choices import Device, Scale

UNFINISHED = 3
"""The exit code where a limit stopped the run; `--resume` goes on."""


def train(
    regime: Annotated[
        str,
        typer.Option(
            help="One of the paper's five, or certified-non-expansive, -smooth or -switch."
        ),
    ],
    dataset: Annotated[str, typer.Option(help="cifar10, cifar100 or generated.")] = "cifar10",
    margin: Annotated[
        float | None,
        typer.Option(
            help="Margin of the loss; default: 0.15, or the regime's own for certified networks."
        ),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="How much to compute: seconds, minutes, or the paper's.")
    ] = Scale.cpu,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings to change.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="WEIGHTS", help="CIFAR-10 weights to start from, for cifar100."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and image order.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Result folder; default: out/train/REGIME-DATASET-MARGIN-SCALE."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what the result folder holds.")
    ] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Stop cleanly after this many seconds (exit code 3)."),
    ] = None,
    save_steps: Annotated[
        int | None, typer.Option(min=1, help="Save every N steps as well as after each epoch.")
    ] = None,
    data: Data = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the step with torch.compile (CUDA graphs on a GPU).",
        ),
    ] = True,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write event files to the result folder's tensorboard/ as well."
        ),
    ] = False,
    json: Json = None,
) -> int:
    """Train a network of the paper or of ours; resumable, in slices, in processes (torchrun)."""
    from experiments.settings import read_changes
    from experiments.train import Run, configured, run_training

    changes = read_changes(config) if config else {}
    if seed is not None:
        changes["seed"] = seed
    asked = configured(
        regime, dataset, margin, scale.value, transfer=start is not None, changes=changes
    )
    out = out or Path("out/train") / f"{regime}-{dataset}-{asked.margin:g}-{scale.value}"
    check_writable(out / "run.json")
    kept = out / "checkpoints" / Path(json or "").name  # where --json would be one of them
    read = (config, start, kept, out / "metrics.jsonl", out / "weights.safetensors")
    check_outputs({"--json": json}, *read)

    from dsnn.data.folder import data_folder
    from dsnn.training.engine import Limits

    run = Run(
        configuration=asked,
        folder=data_folder(data),
        out=out,
        start=start,
        device=device.value,
        resume=resume,
        limits=Limits(max_seconds, save_steps),
        compiled=compiled,
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    with _progress(asked.epochs, first) as report, _events(out, tensorboard and first) as observe:
        result = run_training(run, report, observe)
    if first and json is not None:
        write_json(json, result.content)
    if first and json != "-":
        _print(out, result.content)
    return 0 if result.finished else UNFINISHED


@contextmanager
def _progress(epochs: int, first: bool) -> Iterator[Any]:
    """Yield a report that draws a bar with the time left on stderr, only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), Remaining())
    visible = first and sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as progress:
        task = progress.add_task("train", total=None)

        def report(now: Any) -> None:
            losses = " ".join(f"{name} {value:.4f}" for name, value in now.losses.items())
            progress.update(
                task,
                completed=now.epoch * now.steps + now.step,
                total=epochs * now.steps,
                description=f"epoch {now.epoch + 1}/{epochs} {losses}",
            )

        yield report


@contextmanager
def _events(out: Path, wanted: bool) -> Iterator[Any]:
    """Yield what writes the metrics of an epoch for TensorBoard, or does nothing."""
    if not wanted:
        yield lambda metrics: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs it installed: pip install 'dsnn[tensorboard]'") from (
            error
        )
    with SummaryWriter(out / "tensorboard") as writer:

        def observe(metrics: Any) -> None:
            for name, value in metrics.items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, metrics["epoch"])

        yield observe


def _print(out: Path, content: dict[str, Any]) -> None:
    result = content["result"] or {}
    if not content["finished"]:
        epochs = content["configuration"]["epochs"]
        print(f"stopped after {content['epochs']} of {epochs} epochs: --resume goes on ({out})")
        return
    print(
        f"{out / 'weights.safetensors'}: test accuracy {result['test_accuracy']:.4f} on "
        f"{result['test_images']} images, {content['images_a_second']:.0f} images/s, "
        f"{content['training_seconds']:.0f} s of training"
    )
