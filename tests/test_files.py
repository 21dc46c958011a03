"""Files are whole or not there, and a disk that is full is one line with the remedy."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dsnn.errors import UserError
from dsnn.files import atomic, write_json, write_text
from verification import store
from verification.store import Store

FULL = Path("/dev/full")
NO_FULL = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, as Linux has it")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, error: Exception):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(UserError, match=r"result\.json: .*No space left.*make room"), atomic(path):
        raise error
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("result.json", "old")]


@NO_FULL
def test_a_device_is_written_to_and_not_replaced():
    with pytest.raises(UserError, match="No space left"):
        write_json(FULL, {})
    write_json(os.devnull, {})
    for device in (FULL, Path(os.devnull)):
        assert stat.S_ISCHR(device.stat().st_mode)


def test_a_link_is_followed(tmp_path: Path):
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to("target")
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@NO_FULL
def test_a_full_output_is_one_line():
    command = [sys.executable, "-m", "dsnn", "theory", "list"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "dsnn: cannot write the output: No space left on device; make room\n"


def test_a_cache_on_a_full_disk_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(store, "save_file", full)
    cache = Store(tmp_path)
    cache.put("k" * 64, {"a": 1}, {"t": torch.zeros(4)})
    assert cache.get("k" * 64) is None
