"""`dsnn evaluate`: accuracies, attacked and certified, with a table of every image beside them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.errors import UserError
from dsnn.files import check_outputs, check_writable, is_special, write_json, write_text
from dsnn.options import Data, Json
from experiments.choices import Device


class Attack(StrEnum):
    clean = "clean"
    pgd_paper = "pgd-paper"
    autoattack = "autoattack"


class Protocol(StrEnum):
    consistent = "consistent"
    published = "published"


def evaluate(
    target: Annotated[
        str, typer.Argument(help="Weights: .safetensors, published .pt, or zoo:ID/DATASET/MARGIN.")
    ],
    arch: Annotated[str | None, typer.Option(help="The regime; needed for a .pt file.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="cifar10, cifar100 or generated; default: the weights' own.")
    ] = None,
    attack: Annotated[
        list[Attack] | None, typer.Option(help="Attack to run, repeatable; default: clean.")
    ] = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(
            help="l2 epsilon in pixels, e.g. 0.3 or 36/255; repeatable; default: the attack's own."
        ),
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(help="Normalise inputs as in training, or as the authors' evaluation does."),
    ] = Protocol.consistent,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Only the first N images; default: 1024 where attacked, else all."
        ),
    ] = None,
    data: Data = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.cpu,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random starts and samples.")] = 0,
    json: Json = None,
    out: Annotated[Path, typer.Option(help="The folder to write shards and tables to.")] = Path(
        "out/evaluate"
    ),
) -> int:
    """Accuracy of a network: clean, attacked and certified, per image, resumable."""
    from experiments.epsilons import parse_all

    epsilons = None if eps is None else parse_all(eps)
    if json is not None and json.endswith(".csv"):
        raise UserError(f"--json {json}: .csv is the table's name beside it; end it in .json")
    check_writable(out / "shards" / "file")
    check_outputs({"--json": json}, target)

    from dsnn.data.folder import data_folder
    from dsnn.zoo.loading import load_target
    from experiments.evaluate import evaluate as run
    from experiments.executed import device_named
    from experiments.request import Request

    device_named(device.value)
    loaded = load_target(target, arch, data)
    request = Request(
        loaded=loaded,
        dataset=dataset or loaded.card.dataset,
        folder=data_folder(data),
        attacks=tuple(a.value for a in attack or [Attack.clean]),
        epsilons=epsilons,
        protocol=protocol.value,
        limit=limit,
        device=device.value,
        seed=seed,
        out=out,
        target=target,
    )
    with _progress() as report:
        done = run(request, report)
    name = f"{loaded.path.stem}-{loaded.sha256[:12]}-{request.dataset}-{protocol.value}.csv"
    table = out / name
    if json not in (None, "-") and not is_special(Path(json)):
        table = Path(f"{json.removesuffix('.json')}.csv")
    write_text(table, done.table.to_csv())
    result = {**done.result, "table": str(table)}
    if json is not None:
        write_json(json, result)
    if json != "-":
        _print(result)
    for line in result["warnings"]:
        print(f"dsnn: warning: {line}", file=sys.stderr)
    for line in done.violations:
        print(f"dsnn: {line}", file=sys.stderr)
    return 1 if done.violations else 0


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a report that draws a bar on stderr, or does nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    visible = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as progress:
        task = progress.add_task("evaluate", total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        yield report


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from verification.wording import at_most

    images = result["images"]
    names = ("attack", "epsilon", "correct", "accuracy", "95 % interval", "certified")
    table = Table(*names, box=None)
    for row in result["results"]:
        low, high = row["interval"]
        table.add_row(
            row["attack"],
            f"{row['epsilon']:.4g}",
            f"{row['correct']}/{images}",
            f"{row['accuracy']:.4f}",
            f"{low:.4f} to {high:.4f}",
            f"{row['certified']}/{images}",
        )
    print(f"{result['target']}: {result['dataset']}, {result['protocol']} statistics")
    Console(highlight=False).print(table)
    sample, bound = result["certified_sample"], result["lipschitz_pixel"]
    certified = [f"{c['certified']} at {c['epsilon']:.4g}" for c in result["certified_accuracy"]]
    print(
        f"Lipschitz constant in pixels at most {at_most(inf if bound is None else bound)}; "
        f"certified: {', '.join(certified)}; "
        f"{sample['broken']} of {sample['attacked']} certified images broken at their radius; "
        f"every image in {result['table']}"
    )
