"""Finished results between runs, so that an interrupted audit resumes.

One file an entry, named after its key: a hash of everything that the result depends on, the code
included. Entries are written whole or not at all and read back only when their own digest agrees;
anything else is as if it were not there. The least recently used ones go when the folder grows.
What is stored is what nothing can improve: spectra, proofs, and witnesses that refute, which are
replayed when they are read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dsnn.errors import UserError
from dsnn.files import atomic
from dsnn.weights import canonical_sha256

_FLOORS = ("theory", "dsnn", "verification")
_LIBRARIES = ("torch", "numpy", "scipy", "sympy", "python-flint")


@cache
def code_version() -> str:
    """A hash of the source of these floors, and of the versions of what they compute with."""
    digest = hashlib.sha256()
    for name in _LIBRARIES:
        try:
            digest.update(f"{name} {metadata.version(name)}\0".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{name} missing\0".encode())
    for floor in _FLOORS:
        spec = util.find_spec(floor)
        for folder in (spec and spec.submodule_search_locations) or ():
            for file in sorted(path for path in Path(folder).rglob("*.py") if path.is_file()):
                digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


code_version()  # of what is imported now, and not of what is there when the first result is ready


def key(kind: str, **parts: Any) -> str:
    """The key of a result of some kind: a hash of the code and of `parts`, JSON values that name
    everything else it depends on."""
    text = json.dumps([code_version(), kind, parts], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A stored result: JSON, and tensors by name."""

    content: Any
    tensors: Mapping[str, Tensor]


class Store:
    """Entries by key in `folder` (the user's cache folder), of at most `largest` bytes in all.

    A folder that cannot be written or read costs the memory between runs, and nothing else.
    """

    def __init__(self, folder: Path | None = None, largest: int = 256 << 20):
        self.folder = folder or user_cache_path("dsnn") / "audit"
        self.largest = largest
        self._room = 0

    def get(self, key: str) -> Entry | None:
        """What was put under the key, or None."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118
            text = about["content"]
            if about["digest"] != _digest(key, text, tensors):
                return None
            os.utime(path)  # it is in use
            return Entry(json.loads(text), tensors)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            return None

    def put(self, key: str, content: Any, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Keep `content` and tensors under the key; what JSON cannot hold is not kept."""
        kept = {n: t.detach().cpu().contiguous().clone() for n, t in (tensors or {}).items()}
        try:
            text = json.dumps(content, allow_nan=False)
        except (TypeError, ValueError):
            return
        share = self.largest // 8
        size = len(text) + sum(t.numel() * t.element_size() for t in kept.values()) + 1024
        if size > share:
            return
        try:
            with atomic(self._path(key)) as temporary:
                save_file(kept, temporary, {"content": text, "digest": _digest(key, text, kept)})
            self._room -= size
            if self._room < 0:
                self._evict(self.largest - share)
                self._room = share - size
        except (UserError, OSError):  # a cache that cannot be written is none
            pass

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _evict(self, largest: int) -> None:
        """Delete the oldest files, unfinished ones of killed processes too, down to `largest`."""
        files = [(s.st_mtime, s.st_size, p) for p in self.folder.iterdir() if (s := p.stat())]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= largest:
                break
            path.unlink(missing_ok=True)
            total -= size


def _digest(key: str, text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{key}\0{text}\0{canonical_sha256(tensors)}".encode()).hexdigest()
