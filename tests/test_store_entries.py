"""The store of finished results: what comes back is what was put, or nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from verification import store
from verification.store import Store

KEY = store.key("test", sha256="abc", tight=False)


def test_what_was_put_comes_back(tmp_path: Path):
    kept = Store(tmp_path)
    assert kept.get(KEY) is None
    kept.put(KEY, {"norm": [0.1, 0.30000000000000004]}, {"x": torch.tensor([1.5, -0.0])})
    found = Store(tmp_path).get(KEY)
    assert found is not None
    assert found.content == {"norm": [0.1, 0.30000000000000004]}
    assert torch.equal(found.tensors["x"], torch.tensor([1.5, -0.0]))


@pytest.mark.parametrize("other", [{"sha256": "abd"}, {"tight": True}, {"more": 1}])
def test_a_key_depends_on_every_part(other: dict):
    assert store.key("test", **({"sha256": "abc", "tight": False} | other)) != KEY


def test_a_key_depends_on_the_code(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "code_version", lambda: "another")
    assert store.key("test", sha256="abc", tight=False) != KEY


def test_the_code_version_sees_one_changed_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "law"
    package.mkdir()
    source = package / "__init__.py"
    source.write_text("STEP = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(store, "_FLOORS", ("law",))
    before = store.code_version.__wrapped__()
    assert store.code_version.__wrapped__() == before
    (package / ".#law.py").symlink_to("nobody@nowhere.1")  # as an editor marks what is open in it
    assert store.code_version.__wrapped__() == before
    source.write_text("STEP = 3\n")
    assert store.code_version.__wrapped__() != before


def test_the_code_version_is_that_of_the_code_that_runs():
    """Of sources that are exchanged while an audit runs, as by `git pull`, it has the old ones."""
    program = "from verification import store; assert store.code_version.cache_info().currsize"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_damaged_entry_is_none(tmp_path: Path):
    kept = Store(tmp_path)
    kept.put(KEY, {"norm": [0.25, 0.5]}, {"x": torch.ones(4)})
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        found = kept.get(KEY)
        assert found is None or (found.content, found.tensors["x"].tolist()) == (
            {"norm": [0.25, 0.5]},
            [1.0] * 4,
        ), place
    file.write_bytes(good)
    assert kept.get(KEY) is not None
    file.rename(tmp_path / f"{store.key('other')}.safetensors")  # under a key that is not its own
    assert kept.get(store.key("other")) is None


def test_the_folder_stays_bounded_and_the_oldest_go(tmp_path: Path):
    kept = Store(tmp_path, largest=200_000)
    for number in range(100):
        kept.put(store.key("n", n=number), number, {"x": torch.zeros(1000)})
        os.utime(kept._path(store.key("n", n=number)), (number, number))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 200_000
    assert kept.get(store.key("n", n=0)) is None
    assert kept.get(store.key("n", n=99)) is not None
    kept.put(store.key("huge"), 0, {"x": torch.zeros(10_000)})
    assert kept.get(store.key("huge")) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    kept = Store(tmp_path / "file" / "audit")
    kept.put(KEY, 1)
    assert kept.get(KEY) is None
