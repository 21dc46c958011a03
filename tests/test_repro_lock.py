"""The lock of an output folder: it ends with its processes, and what has none is told."""

import errno
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from dsnn.errors import UserError
from paper_repro.lock import held


def test_a_lock_ends_with_its_processes(tmp_path: Path) -> None:
    path = tmp_path / "smoke" / "pipeline" / "lock"
    with held(path, wait=False) as descriptor:
        with pytest.raises(UserError, match="at work in"), held(path, wait=False):
            pass
        sleeper = subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,))
    try:
        with pytest.raises(UserError, match="at work in"), held(path, wait=False):
            pass
    finally:
        sleeper.kill()
        sleeper.wait()
    with held(path, wait=False):
        pass


def test_a_disk_without_locks_and_a_file_of_another_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", none)
        with pytest.raises(UserError, match=r"cannot lock .*: No locks available"):
            held(tmp_path / "lock", wait=True).__enter__()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot lock .*: Is a directory; choose"):
        held(tmp_path / "folder", wait=False).__enter__()
