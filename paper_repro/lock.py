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

    Without `wait`, raises UserError where another process holds it, and with and without where no
    lock can be had: on a disk that has none, or of a file of another user.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _without(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UserError(
                f"another `dsnn reproduce` is at work in {path.parent.parent}: wait for it, or "
                "choose another --out"
            ) from error
        except OSError as error:
            raise _without(path, error) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _without(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot lock {path}: {error.strerror or error}; choose another --out")
