"""Somebody else's factory, run in a process of its own; what comes back are graphs.

The process gives up network, writing, other processes and most memory (`isolation`) before it
imports the factory; it captures the module itself (`sandbox_worker`) and sends JSON and tensors
through a pipe. Nothing is unpickled here: every size, number, shape and string is checked.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsnn.errors import UserError
from verification import graph_file
from verification.capture import Uncapturable
from verification.checker import reading
from verification.graph import Graph
from verification.wording import one_line

Shape = tuple[int, ...]

_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "DSNN_DATA",
)  # fmt: skip
"""The variables that a factory sees; others may hold secrets."""
_LONGEST = 500
"""Characters of a string that is handed over."""


@dataclass(frozen=True)
class Limits:
    """Seconds of wall clock, and bytes: of memory beyond what torch takes itself, printed, handed
    over, and written to the scratch folder, in at most `files` files."""

    seconds: float = 120.0
    memory: int = 6 << 30
    printed: int = 1 << 20
    result: int = 2 << 30
    written: int = 256 << 20
    files: int = 1000


@dataclass(frozen=True)
class Captured:
    """A module as the sandbox saw it: by name of a part ("" is the whole) the shape of one example
    that it is given and, for the parts that were asked for, its graph, or why there is none.

    `state` is the state dict, `layers` the kernel's protections that were in force.
    """

    names: tuple[str, ...]
    shapes: Mapping[str, Shape | Uncapturable]
    graphs: Mapping[str, Graph | Uncapturable]
    state: Mapping[str, Tensor] = field(repr=False)
    layers: tuple[str, ...] = ()


class _Stopped(Exception):
    """Why the process was stopped, or ended by itself."""


def capture_factory(
    factory: str, shape: Shape, globs: tuple[str, ...] = (), limits: Limits | None = None
) -> Captured:
    """Call `package.module:name` in a sandbox, with seeds set to 0, and capture its module for
    examples of `shape`, and the parts that `globs` match.

    The package is looked for in the current folder and on PYTHONPATH. Raises UserError, in one
    line, on a factory that fails, misbehaves or returns no module.
    """
    if sys.platform == "win32":  # no process there is given a pipe, and none gives up rights
        reason = "isolation needs Linux; audit its weights instead, as .safetensors"
        raise UserError(f"{one_line(factory)} was not run: {reason}")
    limits = limits or Limits()
    folder = Path(tempfile.mkdtemp(prefix="dsnn-sandbox-"))
    request = {"factory": factory, "shape": shape, "globs": globs, "folder": str(folder)}
    try:
        return _decoded(_run(request | asdict(limits), folder, limits))
    except _Stopped as reason:
        raise UserError(f"{one_line(factory)} {reason}") from None
    except (reading.Unreadable, reading.Wrong) as reason:
        line = one_line(str(reason))
        raise UserError(f"{one_line(factory)} handed over something malformed: {line}") from None
    finally:
        # Not shutil.rmtree: it recurses, and the folder may be nested as deep as its owner liked.
        subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)


def _run(request: dict[str, Any], folder: Path, limits: Limits) -> bytes:
    """What the worker wrote to its result pipe."""
    result, writing = os.pipe()
    command = [sys.executable, "-P", "-B", "-m", "verification.sandbox_worker", str(writing)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writing],
        start_new_session=True,
        env={k: os.environ[k] for k in _ENVIRONMENT if k in os.environ}
        | {"TMPDIR": str(folder), "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        os.close(writing)
        try:
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it is dead already; its end says why
        deadline = time.monotonic() + limits.seconds
        found, printed = _read(result, process.stdout.fileno(), deadline, folder, limits)
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _Stopped(_overtime(limits)) from None
    finally:
        process.kill()  # there is no other: it cannot start any
        process.wait()
        process.stdout.close()
        os.close(result)
    if not found:
        raise _Stopped(_death(status, limits) + _last(printed))
    return found


def _read(
    result: int, printed: int, deadline: float, folder: Path, limits: Limits
) -> tuple[bytes, bytes]:
    """All that comes through both pipes until they close, or _Stopped at a limit."""
    largest = {result: limits.result, printed: limits.printed}
    taken = {result: bytearray(), printed: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in taken:
            selector.register(pipe, selectors.EVENT_READ)
        inspected = 0.0
        while selector.get_map():
            for key, _ in selector.select(0.1):
                chunk = os.read(key.fd, 1 << 20)
                if not chunk:
                    selector.unregister(key.fd)
                taken[key.fd] += chunk
                if len(taken[key.fd]) > largest[key.fd]:
                    verb = "printed" if key.fd == printed else "handed over"
                    raise _Stopped(f"{verb} more than {_size(largest[key.fd])}, and was stopped")
            now = time.monotonic()
            if now > deadline:
                raise _Stopped(_overtime(limits))
            if now > inspected + 0.1:
                inspected = now
                _inspect(folder, limits)
    return bytes(taken[result]), bytes(taken[printed])


def _inspect(folder: Path, limits: Limits) -> None:
    """Raise _Stopped when the scratch folder holds too much."""
    count = size = 0
    pending = [str(folder)]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count, size = count + 1, size + entry.stat(follow_symlinks=False).st_size
                    if count > limits.files or size > limits.written:
                        most = f"{limits.files} files or {_size(limits.written)}"
                        raise _Stopped(f"wrote more than {most}, and was stopped")
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    except OSError:
        return  # it is being changed: the next look tells


def _overtime(limits: Limits) -> str:
    return f"did not end within {limits.seconds:g} s, and was stopped: raise --budget"


def _death(status: int, limits: Limits) -> str:
    if status == -signal.SIGXCPU:
        return _overtime(limits)
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"ended the process with status {status} and without a module"


def _last(printed: bytes) -> str:
    lines = printed[-2000:].decode(errors="replace").strip().splitlines()
    return f"; it last printed: {one_line(lines[-1], 100)}" if lines else ""


def _size(count: int) -> str:
    return f"{count / 2**30:g} GiB" if count >= 2**30 else f"{count / 2**20:g} MiB"


# What came back. ---------------------------------------------------------------------------


def _decoded(data: bytes) -> Captured:
    """Raises _Stopped with the worker's reason, Unreadable and Wrong on anything malformed."""
    length = int.from_bytes(data[:8], "little")
    reading.need(len(data) >= 8 and length <= min(reading.LARGEST_JSON, len(data) - 8), "its size")
    content = reading.parse_json(data[8 : 8 + length], "the description")
    _check_strings(content)
    if isinstance(content, dict) and set(content) == {"error"}:
        raise _Stopped(one_line(str(content["error"])))
    listed, text = reading.listed, reading.of(str)
    reading.record(
        content, "the description", names=listed(text), shapes=reading.of(dict),
        graphs=reading.of(dict), state=reading.of(dict), layers=listed(text),
    )  # fmt: skip
    arrays = reading.tensors(data[8 + length :], "the tensors")
    names, shapes, graphs = content["names"], content["shapes"], content["graphs"]
    reading.need("" in names and len(set(names)) == len(names), "names of parts are missing")
    reading.need(set(shapes) == set(names), "the shapes are not those of the parts")
    reading.need("" in graphs and set(graphs) <= set(names), "a graph is of no part")
    keys = list(content["state"].values())
    reading.need(listed(text)(keys) and set(keys) <= set(arrays), "a weight is missing")
    return Captured(
        tuple(names),
        {name: _shape(value) for name, value in shapes.items()},
        {name: _graph(value, arrays) for name, value in graphs.items()},
        {n: torch.from_numpy(arrays[key].copy()) for n, key in content["state"].items()},
        tuple(content["layers"]),
    )


def _check_strings(content: Any) -> None:
    """Every string, keys included, is printable and not long: they end up in reports."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str):
            good = len(value) <= _LONGEST and value.isprintable()
            reading.need(good, "a string is too long or holds control characters")


def _shape(value: Any) -> Shape | Uncapturable:
    if isinstance(value, str):
        return Uncapturable(value)
    reading.need(reading.is_sizes(value) and len(value) <= 8, "a shape is malformed")
    return tuple(value)


def _graph(value: Any, arrays: Mapping[str, Any]) -> Graph | Uncapturable:
    return Uncapturable(value) if isinstance(value, str) else graph_file.read(value, arrays)
