"""`dsnn experiment`: train structured networks beside unconstrained ones, and keep what they do."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsnn.options import Json

if TYPE_CHECKING:
    from experiments.kept import Bar


class Scale(StrEnum):
    """How much is computed."""

    smoke = "smoke"
    cpu = "cpu"


def experiment(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experiments to run; none lists them.")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="How much to compute.")] = Scale.cpu,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network.")] = 3,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/experiments"),
    json: Json = None,
) -> int:
    """Run experiments with structured networks; numbers and curves go to a folder.

    At `cpu` what is measured is held against its bars: exit 1 where one does not hold.
    """
    from dsnn.errors import UserError
    from dsnn.files import check_outputs, write_json
    from experiments.structured import experiments, run

    known = experiments()
    names = names or []
    for name in names:
        if name not in known:
            raise UserError(f"unknown experiment {name!r}: one of {', '.join(known)}")
    check_outputs({**{name: out / f"{name}.json" for name in names}, "--json": json})
    if not names:
        if json is not None:
            entries = [{"name": name, "about": found.about} for name, found in known.items()]
            write_json(json, {"experiments": entries})
        if json != "-":
            for name, found in known.items():
                print(f"{name:26} {found.about}")
        return 0
    failed, entries = False, []
    for name in names:
        result, path = run(name, scale.value, seeds, out)
        bars = result.bars if scale is Scale.cpu else ()
        failed |= not all(bar.holds for bar in bars)
        entries.append({"name": name, "file": str(path), "bars": [bar.to_json() for bar in bars]})
        if json != "-":
            _print(f"{name}: {path}", bars)
    if json is not None:
        write_json(json, {"scale": scale.value, "seeds": seeds, "experiments": entries})
    return 1 if failed else 0


def _print(heading: str, bars: "Sequence[Bar]") -> None:
    print(heading)
    for bar in bars:
        print(f"  {'holds' if bar.holds else 'FAILS':6} {bar.what}: {bar.measured:.3g} "
              f"(at most {bar.limit:g})")  # fmt: skip
    sys.stdout.flush()
