"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="The data folder; default: DSNN_DATA, else the user's cache."),
]
