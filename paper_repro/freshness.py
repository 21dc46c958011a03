"""Fresh or stale by content: what an artefact came from, and whether that is still what is there.

An artefact is made from its code (the module that makes it and every module of this project that
it imports, directly or not), from its data files, and from the versions of the libraries that it is
drawn or computed with. Their SHA-256 sums stand in a record beside the files; file times play no
part.
"""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dsnn.files import write_json
from experiments.sources import content_hash, sources

LIBRARIES = ("matplotlib", "numpy", "sympy")
"""Those whose versions a drawn artefact depends on."""
TRAINING = ("numpy", "torch")
COMPUTING = {
    "audit": ("numpy", "python-flint", "scipy", "sympy", "torch"),
    "evaluate": ("foolbox", "numpy", "pyautoattack", "python-flint", "scipy", "sympy", "torch"),
}
"""Those that the result of a command depends on; of the other commands, `TRAINING`."""


def origin(
    module: str, data: Mapping[str, Path], libraries: Iterable[str] = LIBRARIES
) -> dict[str, Any]:
    """What an artefact of `module` made from `data` would come from now."""
    return {
        "code": {name: content_hash(path) for name, path in sorted(sources(module).items())},
        "data": {name: content_hash(path) for name, path in sorted(data.items())},
        "libraries": {name: _version(name) for name in libraries},
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # audits do without python-flint, attacks are an extra
        return "missing"


def write_record(
    path: Path,
    came_from: dict[str, Any],
    files: Iterable[Path],
    compared: list[dict[str, Any]],
    seconds: float,
) -> None:
    """Say beside the `files` of an artefact what they came from, what was compared, and the
    processor time it took; without files, that it is being made."""
    made = {file.name: content_hash(file) for file in files}
    content = {"from": came_from, "files": made, "compared": compared, "seconds": seconds}
    write_json(path, content)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record at `path`, or None where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"from", "files"} <= record.keys() else None


def status(record: Path, came_from: dict[str, Any], files: Iterable[Path]) -> str:
    """`missing` where a file is not there, `fresh` where all is as recorded, else `stale`."""
    files = list(files)
    if not all(file.is_file() for file in files):
        return "missing"
    known = read_record(record)
    made = {file.name: content_hash(file) for file in files}
    same = known is not None and known["from"] == came_from and known["files"] == made
    return "fresh" if same else "stale"
