"""`dsnn experiment`: train structured networks beside unconstrained ones, and keep what they do."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scale(StrEnum):
    """How much is computed."""

    smoke = "smoke"
    cpu = "cpu"


def experiment(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments; none lists them.")] = None,
    scale: Annotated[Scale, typer.Option(help="How much to compute.")] = Scale.cpu,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network.")] = 3,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/experiments"),
) -> int:
    """Run experiments with structured networks; numbers and curves go to a folder.

    At `cpu` what is measured is held against its bars: exit 1 where one does not hold.
    """
    from dsnn.errors import UserError
    from dsnn.files import check_writable
    from experiments.structured import experiments, run

    known = experiments()
    if not names:
        for name, found in known.items():
            print(f"{name:26} {found.about}")
        return 0
    for name in names:
        if name not in known:
            raise UserError(f"unknown experiment {name!r}: one of {', '.join(known)}")
        check_writable(out / f"{name}.json")
    failed = False
    for name in names:
        result, path = run(name, scale.value, seeds, out)
        print(f"{name}: {path}")
        for bar in result.bars if scale is Scale.cpu else ():
            print(f"  {'holds' if bar.holds else 'FAILS':6} {bar.what}: {bar.measured:.3g} "
                  f"(at most {bar.limit:g})")  # fmt: skip
            failed |= not bar.holds
        sys.stdout.flush()
    return 1 if failed else 0
