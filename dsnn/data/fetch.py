"""Bring missing files from their published addresses; a file arrives whole and checked, or not.

Downloads go to a temporary folder and are moved into the data folder only after their hash is
right, so an interrupted or wrong download leaves nothing. torchvision's own download would leave
the partial archive and wait for ever on a silent server.
"""

import hashlib
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from dsnn.data.sources import File, Source, digest
from dsnn.files import atomic

TIMEOUT = 30.0
"""Seconds without an answer after which a server counts as unreachable."""
_CHUNK = 1 << 18

Report = Callable[[str, int, int], None]
"""Called with a file's name, the bytes so far, and their total (0 when unknown)."""


class FetchError(Exception):
    """A download that did not arrive, or broke off."""


class WrongContentError(Exception):
    """A download that arrived, but is not the published file."""


def _silent(name: str, done: int, total: int) -> None: ...


def download(url: str, path: Path, algorithm: str, expected: str, report: Report = _silent) -> None:
    """Write what is at `url` (http, https, file) to `path`.

    Raises FetchError when it cannot be had, WrongContentError when its hash is not `expected`; the
    caller owns `path` and throws it away then.
    """
    found, done = hashlib.new(algorithm), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                found.update(chunk)
                done += len(chunk)
                report(path.name, done, total)
    except (OSError, HTTPException) as error:
        raise FetchError(str(getattr(error, "reason", None) or error)) from error
    if done < total:
        raise FetchError(f"{url} broke off after {done} of {total} bytes")
    if found.hexdigest() != expected:
        raise WrongContentError(
            f"{url}: {algorithm} is {found.hexdigest()}, the published file has {expected}"
        )


def fetch(source: Source, root: Path, files: Sequence[File], report: Report = _silent) -> None:
    """Bring `files` of `source` into the data folder `root`.

    Raises FetchError or WrongContentError as `download`, UserError where `root` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="dsnn-") as name:
        staging = Path(name)
        if source.archive is not None:
            _unpack(source, source.archive, staging, report)
        for file in files:
            staged = staging / file.path
            if source.archive is None:
                staged.parent.mkdir(parents=True, exist_ok=True)
                url = f"{source.base}/{quote(file.remote)}"
                download(url, staged, source.algorithm, file.digest, report)
            elif not staged.is_file() or digest(staged, source.algorithm) != file.digest:
                raise WrongContentError(f"{source.archive.path} does not hold {file.path}")
            with atomic(root / file.path) as place:
                shutil.copyfile(staged, place)


def _unpack(source: Source, archive: File, staging: Path, report: Report) -> None:
    packed = staging / archive.path
    url = f"{source.base}/{quote(archive.remote)}"
    download(url, packed, source.algorithm, archive.digest, report)
    with tarfile.open(packed) as tar:
        tar.extractall(staging, filter="data")
