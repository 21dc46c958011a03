"""One process at a time, by a lock that ends with the process: nothing is stale after a kill."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsnn.errors import UserError


@contextmanager
def held(path: Path, *, wait: bool) -> Iterator[int]:
    """Hold the lock `path`, yielding its descriptor: children that inherit it hold it too.

    Without `wait`, raises UserError where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UserError(
                f"another `dsnn reproduce` is at work in {path.parent.parent}: wait for it, or "
                "choose another --out"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)
