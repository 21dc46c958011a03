"""Fresh or stale by content: what an artefact came from, and whether that is still what is there.

An artefact is made from its code (the module that makes it and every module of this project that
it imports, directly or not), from its data files, and from the versions of the libraries that
draw. Their SHA-256 sums stand in a record beside the files; file times play no part.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsnn.files import write_json

_OURS = ("dsnn", "theory", "verification", "experiments", "paper_repro")
LIBRARIES = ("matplotlib", "numpy", "sympy")
"""Those whose versions a drawn artefact depends on."""


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, computed once in a process while the file is left alone."""
    found = path.stat()
    return _hash(path, found.st_ino, found.st_size, found.st_mtime_ns)


@cache
def _hash(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sources(module: str) -> Mapping[str, Path]:
    """The sources of `module` and of all of this project's modules that it imports, by name."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name)
        if path:
            found[name] = path
            waiting += [name.rpartition(".")[0], *_imports(path, content_hash(path))]
    return found


@cache
def _source(name: str) -> Path | None:
    """The file of module `name` of this project, found without importing it; None for others."""
    top, *inner = name.split(".")
    spec = find_spec(top) if top in _OURS else None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent.joinpath(*inner)
    candidates = path / "__init__.py", path.with_name(f"{path.name}.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def _imports(path: Path, content: str) -> tuple[str, ...]:
    """The modules that the source at `path` with this `content` imports, at any depth."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if not _on_request(node):
            waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _on_request(node: ast.AST) -> bool:
    """What a module imports only for type checkers, or when asked for an attribute that it does not
    have: what uses it imports it from where it is."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef) and node.name == "__getattr__"


def origin(
    module: str, data: Mapping[str, Path], libraries: Iterable[str] = LIBRARIES
) -> dict[str, Any]:
    """What an artefact of `module` made from `data` would come from now."""
    return {
        "code": {name: content_hash(path) for name, path in sorted(sources(module).items())},
        "data": {name: content_hash(path) for name, path in sorted(data.items())},
        "libraries": {name: version(name) for name in libraries},
    }


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
