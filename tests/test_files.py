"""Files are whole or not there, and a disk that is full is one line with the remedy."""

import errno
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dsnn import cli
from dsnn.data.sources import source
from dsnn.errors import UserError
from dsnn.files import atomic, check_outputs, check_writable, write_json, write_text
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


@pytest.mark.parametrize(
    "name", ["x" * 300, "a\0b", "loop", "folder", "net.pt", "in/../net.pt", "to"]
)
def test_an_output_that_cannot_be_written_later_is_refused_now(tmp_path: Path, name: str):
    """The last three are an input, by other names."""
    (tmp_path / "net.pt").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to").symlink_to("net.pt")
    check_outputs({"--json": tmp_path / "a"}, tmp_path / "net.pt")
    with pytest.raises(UserError):
        check_outputs({"--json": tmp_path / name}, tmp_path / "net.pt")


@pytest.mark.parametrize("folder", ["/proc", "/dev/null"])
def test_a_folder_is_tried(folder: str):
    """Whoever may write everywhere cannot make files there."""
    with pytest.raises(UserError, match=f"{folder} is not a folder you can write to"):
        check_outputs({"--json": f"{folder}/a/b.json"})


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "w.pt", "--claim", "contractive", "--json"),
        ("audit", "w.pt", "--claim", "contractive", "--html"),
        ("check", "a.json", "w.pt", "--json"),
        ("convert", "w.pt", "--arch", "naive", "--out", "a.safetensors", "--json"),
        ("evaluate", "w.pt", "--json"),
    ],
)
def test_a_command_spares_what_it_reads(
    command: tuple[str, ...], tmp_path: Path, refused, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_text("weights")
    assert refused(*command, "w.pt").endswith("name a file of its own")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("w.pt", "weights")]


def test_outputs_spare_each_other(tmp_path: Path):
    check_outputs({"--json": "-", "--timings": "-", "--html": None, "--out": Path(os.devnull)})
    check_outputs({"--out": os.devnull, "--json": os.devnull})
    with pytest.raises(UserError, match=r"--json .*a would write over another file: name a"):
        check_outputs({"--out": tmp_path / "a", "--json": f"{tmp_path}/./a"})


def test_a_link_is_tried_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And a device needs no folder to write to."""
    (tmp_path / "good").symlink_to(tmp_path / "target")
    (tmp_path / "bad").symlink_to("/proc/target")
    check_writable(tmp_path / "good")
    with pytest.raises(UserError, match=r"bad: /proc is not a folder you can write to"):
        check_writable(tmp_path / "bad")
    check_writable(Path(os.devnull))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=f"cannot write {os.devnull}"):
        check_writable(Path(os.devnull))


@NO_FULL
def test_a_full_output_is_one_line():
    command = [sys.executable, "-m", "dsnn", "theory", "list"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "dsnn: cannot write the output: No space left on device; make room\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_output_of_any_encoding_is_written(encoding: str, tmp_path: Path):
    """Formulas, names of folders, JSON."""
    weights = source("weights")
    for file in weights.files:  # there, so that nothing is fetched, and wrong
        write_text(tmp_path / "é" / file.path, "")

    def lines(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dsnn", *command], cwd=tmp_path, capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding}, check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        return done.stdout.decode(encoding)

    assert "constant at most" in lines("theory", "show", "T7-contractive-euler")
    shown = "\\xe9" if encoding == "ascii" else "é"
    assert f"looked in {shown} (--data)" in lines("data", "--data", "é", "weights")
    assert json.loads(lines("data", "--data", "é", "weights", "--json", "-"))["folder"] == "é"


def test_json_is_written_whatever_a_path_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"é": os.fsdecode(b"\xff.pt")}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_bytes()) == content
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    write_json("-", content)
    stdout.flush()
    assert json.loads(stdout.buffer.getvalue()) == content  # type: ignore[attr-defined]


def test_without_a_reader_nothing_is_said_to_be_refuted():
    """typer answers a broken pipe with 1, a closed stdout was an AttributeError."""
    command = [sys.executable, "-m", "dsnn", "theory", "list", "--json", "-"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    closed = ["sh", "-c", '"$@" >&-', "sh", *command]
    done = subprocess.run(closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_cache_on_a_full_disk_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(store, "save_file", full)
    cache = Store(tmp_path)
    cache.put("k" * 64, {"a": 1}, {"t": torch.zeros(4)})
    assert cache.get("k" * 64) is None


def test_an_exit_that_has_nothing_to_do_with_output_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a module that is audited, say: 141 is for a reader that went away."""

    def leaves(**_: object) -> int:
        raise SystemExit(5)

    monkeypatch.setattr(cli, "build_app", lambda _: leaves)
    with pytest.raises(SystemExit) as stop:
        cli.run(["zoo"])
    assert stop.value.code == 5
