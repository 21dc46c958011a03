"""Where data is looked for, and what `dsnn data` says and fetches."""

import dataclasses
import hashlib
import http.server
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsnn.data import sources
from dsnn.data.folder import data_folder
from dsnn.data.sources import File, Source
from dsnn.errors import UserError

Refused = Callable[..., str]
Dsnn = Callable[..., tuple[int, str, str]]

CONTENT = {"first.pt": b"first weights", "second one.pt": b"second weights" * 1000}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Stands for the published weights: two files below a file:// address."""
    remote = tmp_path / "remote" / "Some Folder"
    remote.mkdir(parents=True)
    for name, content in CONTENT.items():
        (remote / name).write_bytes(content)
    files = tuple(
        File(f"published/{name}", sha256(content), f"Some Folder/{name}")
        for name, content in CONTENT.items()
    )
    shelf = Source("weights", "sha256", remote.parent.as_uri(), files)
    monkeypatch.setattr(sources, "source", lambda name: shelf)
    return shelf


def replace(monkeypatch: pytest.MonkeyPatch, shelf: Source, **changes: object) -> None:
    changed = dataclasses.replace(shelf, **changes)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(sources, "source", lambda name: changed)


def test_the_option_goes_before_the_variable_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DSNN_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path / "option").path == tmp_path / "option"
    assert data_folder().path == tmp_path / "variable"
    assert data_folder().origin == "DSNN_DATA"
    monkeypatch.delenv("DSNN_DATA")
    assert data_folder().path.name == "dsnn"
    assert "cache" in data_folder().origin


def test_missing_weights_are_fetched_once(dsnn: Dsnn, shelf: Source, tmp_path: Path):
    root = tmp_path / "data"
    code, out, _ = dsnn("data", "weights", "--data", root)
    assert code == 0
    assert "2 of 2" in out
    for name, content in CONTENT.items():
        assert (root / "published" / name).read_bytes() == content
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.pt")}
    assert dsnn("data", "weights", "--data", root)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.pt")} == before


def test_json_says_where_and_what(dsnn: Dsnn, shelf: Source, tmp_path: Path):
    code, out, _ = dsnn("data", "weights", "--data", tmp_path / "data", "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found["folder"] == str(tmp_path / "data")
    assert found["origin"] == "--data"
    assert {f["path"]: f["state"] for f in found["sources"][0]["files"]} == {
        f"published/{name}": "ok" for name in CONTENT
    }


def test_a_wrong_download_is_not_stored(
    dsnn: Dsnn, shelf: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wrong = tuple(dataclasses.replace(file, digest=sha256(b"other")) for file in shelf.files)
    replace(monkeypatch, shelf, files=wrong)
    code, _, error = dsnn("data", "weights", "--data", tmp_path / "data")
    assert code == 1
    assert "not stored" in error
    assert not (tmp_path / "data").exists()


def test_a_wrong_file_is_named_and_kept(dsnn: Dsnn, shelf: Source, tmp_path: Path):
    mine = tmp_path / "data" / "published" / "first.pt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    code, out, error = dsnn("data", "weights", "--data", tmp_path / "data")
    assert code == 1
    assert str(mine) in error
    assert "wrong" in out
    assert mine.read_bytes() == b"mine"
    assert (mine.parent / "second one.pt").read_bytes() == CONTENT["second one.pt"]


def test_a_file_that_cannot_be_read_is_one_line(
    shelf: Source, dsnn: Dsnn, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert dsnn("data", "weights", "--data", tmp_path)[0] == 0

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", denied)
    assert "Permission denied; make it readable" in refused("data", "weights", "--data", tmp_path)


def test_offline_one_line_says_what_to_put_where(
    dsnn: Dsnn, shelf: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace(monkeypatch, shelf, base=(tmp_path / "nowhere").as_uri())
    code, _, error = dsnn("data", "weights", "--data", tmp_path / "data")
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert "weights" in error
    assert "published" in error
    assert str(tmp_path / "data") in error
    assert not (tmp_path / "data").exists()


class HalfAnswer(http.server.BaseHTTPRequestHandler):
    """Promises more bytes than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"first we")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def half_server() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), HalfAnswer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_that_breaks_off_leaves_nothing(
    dsnn: Dsnn, shelf: Source, tmp_path: Path, half_server: str, monkeypatch: pytest.MonkeyPatch
):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    replace(monkeypatch, shelf, base=half_server)
    code, _, error = dsnn("data", "weights", "--data", tmp_path / "data")
    assert code == 2
    assert "broke off after 8 of 100000" in error
    assert not (tmp_path / "data").exists()


def test_an_archive_is_unpacked_and_its_members_checked(
    dsnn: Dsnn, shelf: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packed = tmp_path / "remote" / "all.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "remote" / "Some Folder", "published")
    archive = File("all.tar.gz", sha256(packed.read_bytes()), "all.tar.gz")
    replace(monkeypatch, shelf, archive=archive)
    assert dsnn("data", "weights", "--data", tmp_path / "data")[0] == 0
    assert sorted(p.name for p in (tmp_path / "data").rglob("*")) == sorted([*CONTENT, "published"])
    wrong = tuple(dataclasses.replace(file, digest=sha256(b"other")) for file in shelf.files)
    replace(monkeypatch, shelf, archive=archive, files=wrong)
    assert dsnn("data", "weights", "--data", tmp_path / "other")[0] == 1
    assert not (tmp_path / "other").exists()


def test_an_unknown_name_is_refused(refused: Refused):
    assert "cifar100" in refused("data", "mnist")


@pytest.mark.parametrize("option", ["--data", "--json"])
def test_a_place_that_cannot_be_written_is_refused(
    refused: Refused, shelf: Source, tmp_path: Path, option: str
):
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused("data", "weights", option, file / "below")


def test_published_facts_are_complete():
    assert len(sources.WEIGHTS.files) == 6
    assert all(len(file.digest) == 64 for file in sources.WEIGHTS.files)
    for name, members in (("cifar10", 7), ("cifar100", 3)):
        cifar = sources.source(name)
        assert len(cifar.files) == members
        assert cifar.archive is not None
        assert {file.path.split("/")[0] for file in cifar.files} == {cifar.folder}


def test_real_data_is_intact(dsnn: Dsnn, data_folder: Path):
    code, out, _ = dsnn("data", "cifar10", "weights", "--data", data_folder, "--json", "-")
    assert code == 0
    states = {f["state"] for s in json.loads(out)["sources"] for f in s["files"]}
    assert states == {"ok"}


def test_no_images_is_refused_with_the_folder(tmp_path: Path):
    from dsnn.data.cifar import images_and_labels

    with pytest.raises(UserError, match=r"cifar-10-batches-py.*--data.*dsnn data cifar10"):
        images_and_labels("cifar10", "test", data_folder(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="incomplete or damaged"):
        images_and_labels("cifar10", "test", data_folder(tmp_path))
