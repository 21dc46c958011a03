"""The one place where data is looked for.

In this order: the folder given with `--data`, the folder in the variable DSNN_DATA, the user's
cache folder. The first that is given is the only one looked into, so a mistyped folder is an
error, never a silent change of data. Inside it: `cifar-10-batches-py`, `cifar-100-python`, and
`published` with the authors' weights.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "DSNN_DATA"


@dataclass(frozen=True)
class DataFolder:
    """A folder and who named it, for error lines."""

    path: Path
    origin: str

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


def data_folder(option: Path | None = None) -> DataFolder:
    """The folder to look into; `option` is the value of `--data`. It need not exist."""
    if option is not None:
        return DataFolder(option, "--data")
    if variable := os.environ.get(VARIABLE):
        return DataFolder(Path(variable), VARIABLE)
    return DataFolder(user_cache_path("dsnn"), "the user's cache folder")
