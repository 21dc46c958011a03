"""python -m benchmarks [NAME ...]: run benchmarks, print tables, write benchmarks/results/.

A benchmark is a module of this package with `run() -> list of rows`, each a dictionary with the
same keys; the first line of its docstring is the title of its table. A value that is a dictionary
with `median`, `low` and `high` is shown as "median (low to high)".
"""

import importlib
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import documents
from dsnn.errors import UserError
from dsnn.files import write_json
from experiments.provenance import environment

BENCHMARKS = (
    "training_step",
    "norms",
    "audits",
    "auditor",
    "theorems",
    "tightness",
    "structured_steps",
    "structured_drift",
)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(BENCHMARKS)}")] = None,
) -> None:
    """Run the named benchmarks, or all, and write benchmarks/results/NAME.json."""
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            typer.echo(f"unknown benchmark {name!r}: {', '.join(BENCHMARKS)}", err=True)
            raise typer.Exit(2)
    for name in names or BENCHMARKS:
        try:
            _run(name)
        except UserError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    documents.main()


def _run(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    title = (module.__doc__ or name).splitlines()[0]
    rows = module.run()
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(documents.cell(value) for value in row.values()))
    Console().print(table)
    write_json(
        documents.RESULTS / f"{name}.json",
        {"benchmark": name, "title": title, "environment": environment(), "rows": rows},
    )


if __name__ == "__main__":
    typer.run(main)
