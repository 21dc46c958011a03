"""Factories that misbehave: each is stopped and reported in one line with exit code 2, and what a
good one returns is a graph that computes what its module does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from dsnn.errors import UserError
from verification import sandbox
from verification.checker import reading
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.sandbox import Limits, capture_factory

SOURCE = """
import ctypes, os, socket, subprocess, sys, tempfile, time
import torch
from torch import nn

def good():
    body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(48, 3, dtype=torch.float32))

def loops():
    while True: pass
def closes():
    os.closerange(0, 256)
    while True: time.sleep(1)
def allocates():
    held = []
    while True: held.append(torch.ones(1 << 24))
def allocates_bytes():
    held = []
    while True: held.append(bytearray(1 << 26))
def exits(): sys.exit(3)
def exits_at_once(): os._exit(0)
def kills_itself(): os.kill(os.getpid(), 9)
def kills_its_parent(): os.kill(os.getppid(), 9)
def segfaults(): ctypes.string_at(0)
def prints():
    while True: print("x" * 1000)
def dies_talking():
    os.write(2, b"\\x1b]0;owned\\x07\\x1b[2J last words\\n"); os._exit(7)
def writes(): open(os.environ["HOME"] + "/evil", "w")
def writes_in_c():
    libc = ctypes.CDLL(None)
    got = libc.open((os.environ["HOME"] + "/evil").encode(), 0o102, 0o600)
    raise RuntimeError(f"open gave {got}")
def renames(): os.rename(__file__, __file__ + "x")
def fills():
    with tempfile.TemporaryFile() as file:
        while True: file.write(b"0" * (1 << 20))
def makes_files():
    folder, count = tempfile.mkdtemp(), 0
    while True:
        count += 1
        open(f"{folder}/{count}", "w").close()
def nests():
    os.chdir(tempfile.mkdtemp())
    while True: os.mkdir("d"); os.chdir("d")
def connects(): socket.create_connection(("127.0.0.1", 9))
def connects_in_c():
    raise RuntimeError(f"socket gave {ctypes.CDLL(None).socket(2, 1, 0)}")
def signals_by_a_folder():
    own = os.open("/proc/self", os.O_DIRECTORY)
    raise RuntimeError(f"signal gave {ctypes.CDLL(None).syscall(424, own, 0, None, 0)}")
def changes_owners():
    raise RuntimeError(f"chown gave {ctypes.CDLL(None).chown(__file__.encode(), -1, -1)}")
def drops_rights():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.removexattr(__file__.encode(), b"system.posix_acl_access")
    raise RuntimeError(f"removexattr failed with {ctypes.get_errno()}")
def starts(): subprocess.run(["true"])
def forks():
    while True: os.fork()
def forks_in_c():
    raise RuntimeError(f"fork gave {ctypes.CDLL(None).fork()}")
def returns_a_dict(): return {}
def raises(): raise ValueError("bad \\x1b[2J\\u202e\\nnews" + "y" * 5000)
def needs(size, bias=True): return nn.Linear(size, size)
number = 5
def forges():
    for pipe in range(3, 256):
        try: os.write(pipe, (2).to_bytes(8, "little") + b"{}")
        except OSError: pass
    os._exit(0)
def names_badly():
    net = nn.Sequential()
    net.add_module("\\x1b[31m", nn.Linear(32, 2))
    return nn.Sequential(nn.Flatten(), net)
def turns():
    module = nn.Identity()
    module.register_buffer("phases", torch.ones(3, dtype=torch.complex64))
    return module
def not_a_number():
    net = nn.Linear(2, 2)
    net.weight.data[0] = float("nan")
    return net
"""

SLOW = pytest.mark.slow
QUICK = Limits(seconds=100, memory=1 << 30)
SHAPE = (2, 4, 4)


@pytest.fixture(autouse=True)
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`made`, a module in the current folder; a home of its own to write to."""
    (tmp_path / "made.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("allocates", "needs more than 1 GiB of memory"),
        pytest.param("allocates_bytes", "needs more than 1 GiB of memory", marks=SLOW),
        pytest.param("exits", r"ended the process: SystemExit\(3\)", marks=SLOW),
        ("exits_at_once", "ended the process with status 0 and without a module"),
        ("kills_itself", "died of SIGKILL"),
        pytest.param("kills_its_parent", "PermissionError", marks=SLOW),
        ("segfaults", "died of SIGSEGV"),
        ("prints", "printed more than 1 MiB, and was stopped"),
        ("dies_talking", r"status 7 .*last printed: \]0;owned \[2J last words$"),
        ("writes", "PermissionError: the sandbox refuses to write"),
        pytest.param("renames", "PermissionError: the sandbox refuses to change", marks=SLOW),
        pytest.param("fills", "File too large|wrote more than", marks=SLOW),
        pytest.param("makes_files", "wrote more than 1000 files", marks=SLOW),
        ("nests", "wrote more than 1000 files"),
        ("connects", "PermissionError: the sandbox refuses the network"),
        pytest.param("starts", "PermissionError: the sandbox refuses other processes", marks=SLOW),
        ("forks", "PermissionError: the sandbox refuses other processes"),
        pytest.param("returns_a_dict", "returned a dict, not an nn.Module", marks=SLOW),
        ("raises", r"raised: ValueError: bad \[2J newsy+\.\.\.$"),
        ("needs", "cannot be called without arguments .*'size'"),
        pytest.param("number", "is not callable, but a int", marks=SLOW),
        pytest.param("missing", "does not exist: made has no 'missing'", marks=SLOW),
        ("forges", "handed over something malformed"),
        pytest.param("not_a_number", "'weight' holds NaN or infinite values", marks=SLOW),
        ("turns", r"'phases' is of type torch.complex64, .* try verification.audit$"),
    ],
)
def test_misbehaviour_is_one_line(name: str, expected: str, tmp_path: Path):
    with pytest.raises(UserError, match=expected) as caught:
        capture_factory(f"made:{name}", SHAPE, (), QUICK)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 450
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.py"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("writes_in_c", "open gave -1"),
        ("connects_in_c", "socket gave -1"),
        ("forks_in_c", "fork gave -1"),
        ("signals_by_a_folder", "signal gave -1"),  # to itself, which Landlock allows
        pytest.param("changes_owners", "chown gave -1", marks=SLOW),
        pytest.param("drops_rights", r"removexattr failed with 1$", marks=SLOW),
    ],
)
def test_the_kernel_refuses_what_no_hook_sees(name: str, expected: str, tmp_path: Path):
    """Past the audit hook, by ctypes. Writing needs Landlock."""
    with pytest.raises(UserError, match=expected):
        capture_factory(f"made:{name}", SHAPE, (), QUICK)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["loops", "closes"])
def test_what_does_not_end_is_stopped(name: str):
    start = time.monotonic()
    with pytest.raises(UserError, match="did not end within 3 s"):
        capture_factory(f"made:{name}", SHAPE, (), Limits(seconds=3))
    assert time.monotonic() - start < 15


@SLOW
def test_names_of_parts_cannot_reach_a_terminal():
    with pytest.raises(UserError, match="control characters"):
        capture_factory("made:names_badly", SHAPE, (), QUICK)


@SLOW
def test_what_cannot_be_imported():
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        capture_factory("nowhere:good", SHAPE, (), QUICK)


def test_a_module_comes_back_as_graphs(monkeypatch: pytest.MonkeyPatch):
    """And of its bytes, changed one at a time, either the same comes back or a line."""
    kept: list[bytes] = []
    decoded = sandbox._decoded
    monkeypatch.setattr(sandbox, "_decoded", lambda data: kept.append(data) or decoded(data))
    captured = capture_factory("made:good", SHAPE, ("*.*",), Limits())
    assert captured.names == ("", "0", "0.0", "0.1", "1", "2")
    assert captured.shapes["2"] == (48,)
    assert set(captured.graphs) == {"", "0.0", "0.1"}
    graph = captured.graphs[""]
    assert isinstance(graph, Graph)
    assert {node.module for node in graph if node.kind == "conv"} == {"0.0"}
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    twin = nn.Sequential(body, nn.Flatten(), nn.Linear(48, 3)).double()
    assert all(torch.equal(captured.state[n], t.float()) for n, t in twin.state_dict().items())
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(Interpreter(graph)(x), twin(x), rtol=1e-12, atol=1e-12)

    refusals, (data,) = 0, kept
    for place in range(0, len(data), max(1, len(data) // 200)):
        damaged = bytearray(data)
        damaged[place] ^= 0x15
        try:
            decoded(bytes(damaged))
        except (sandbox._Stopped, reading.Unreadable, reading.Wrong):
            refusals += 1
    assert refusals > 50


@pytest.mark.parametrize("key", [[], {}, 1, None, "0"])
def test_weights_that_are_no_names_of_tensors_are_malformed(key: object):
    content = {
        "names": [""], "shapes": {"": [2]}, "graphs": {"": "none"}, "state": {"w": key},
        "layers": [],
    }  # fmt: skip
    text = json.dumps(content).encode()
    data = len(text).to_bytes(8, "little") + text + (2).to_bytes(8, "little") + b"{}"
    with pytest.raises(reading.Unreadable, match="a weight is missing"):
        sandbox._decoded(data)


def test_it_dies_with_the_process_that_asked(tmp_path: Path):
    code = "from verification.sandbox import *; capture_factory('made:lives', (2,), (), Limits())"
    text = "import os, time\nopen(os.environ['TMPDIR'] + '/pid', 'w').write(str(os.getpid()))\n"
    Path("made.py").write_text(text + "time.sleep(600)\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": "scratch"})
    deadline = time.monotonic() + 60
    while not (found := [p for p in scratch.glob("*/pid") if p.read_text()]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(found[0].read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    Path("made.py").write_text("import os\nraise ValueError(os.environ.get('SECRET_TOKEN'))\n")
    with pytest.raises(UserError, match="ValueError: None"):
        capture_factory("made:good", SHAPE, (), QUICK)


def test_the_command_says_it_in_one_line(refused):
    line = refused("audit", "made:raises", "--input-shape", "2,4,4", "--claim", "contractive")
    assert "made:raises raised: ValueError: bad [2J" in line


def test_without_isolation_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="was not run: isolation needs Linux"):
        capture_factory("made:good", SHAPE, (), QUICK)
