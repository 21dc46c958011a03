"""The sources behind a result: a module and all of this project's modules that it imports."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from dsnn.errors import UserError

_OURS = ("dsnn", "theory", "verification", "experiments", "paper_repro")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, computed once in a process while the file is left alone. Raises
    UserError where it cannot be read."""
    try:
        found = path.stat()
        return _hash(path, found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; make it readable, or move it away"
        ) from error


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
