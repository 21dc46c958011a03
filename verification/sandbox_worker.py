"""The inside of the sandbox: isolates itself, calls the factory, captures, and writes the result.

`python -P -m verification.sandbox_worker FD`, the request as JSON on stdin: see `sandbox`.
"""

import importlib
import inspect
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verification import isolation
from verification.wording import one_line


class Refused(Exception):
    """What is wrong with the factory, in words that follow its name."""


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    folder = Path(request["folder"])
    try:
        layers = isolation.enter(folder, int(request["seconds"]) + 1, request["written"] // 4)
        answer = _ready(request, folder, layers)
    except isolation.Unavailable as reason:
        answer = _error(f"was not run: {reason}; audit its weights instead, as .safetensors")
    except Refused as reason:
        answer = _error(str(reason))
    except BaseException as error:
        answer = _error(_words("cannot be captured", error, request))
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        for part in answer:
            pipe.write(part)
    os._exit(0)  # threads and exit handlers of the factory have nothing more to do


def _ready(request: dict[str, Any], folder: Path, layers: list[str]) -> list[bytes]:
    """The heavy imports happen inside the kernel's layers; the factory's only after them."""
    importlib.import_module("verification.capture_parts")
    isolation.limit_memory(request["memory"])
    isolation.watch(folder)
    sys.path.insert(0, str(Path.cwd()))
    return _captured(_made(request), request, layers)


def _made(request: dict[str, Any]) -> Any:
    """What the factory returns, an nn.Module."""
    import numpy as np
    import torch

    path, _, name = request["factory"].partition(":")
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (the generator of other people's modules)
    found = _attempt(lambda: _imported(path), "cannot be imported", request)
    for part in name.split("."):
        if not hasattr(found, part):
            raise Refused(f"does not exist: {path} has no {part!r}")
        found = getattr(found, part)
    if not callable(found):
        raise Refused(f"is not callable, but a {type(found).__name__}")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise Refused(f"cannot be called without arguments ({error})") from None
    except ValueError:
        pass  # a callable without a signature: the call tells
    module = _attempt(found, "raised", request)
    if not isinstance(module, torch.nn.Module):
        raise Refused(f"returned a {type(module).__name__}, not an nn.Module")
    return module


def _imported(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        importlib.import_module("dsnn.data.vision")  # it declares what the CPU build lacks
        return importlib.import_module(path)


def _attempt(action: Callable[[], Any], verb: str, request: dict[str, Any]) -> Any:
    try:
        return action()
    except BaseException as error:
        raise Refused(_words(verb, error, request)) from error


def _words(verb: str, error: BaseException, request: dict[str, Any]) -> str:
    if isinstance(error, SystemExit):
        return f"ended the process: SystemExit({error.code})"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"needs more than {request['memory'] / 2**30:g} GiB of memory, and was stopped"
    return f"{verb}: {type(error).__name__}: {error}"


def _captured(module: Any, request: dict[str, Any], layers: list[str]) -> list[bytes]:
    import numpy as np
    import torch
    from safetensors.numpy import save
    from torch import nn

    from verification import graph_file
    from verification.capture import Uncapturable, input_shapes
    from verification.capture_parts import captured
    from verification.checker import reading
    from verification.claims import matches

    shape, store = tuple(request["shape"]), graph_file.Tensors()
    containers = nn.ModuleList | nn.ModuleDict
    parts = {n: m for n, m in module.named_modules() if not n or not isinstance(m, containers)}
    state = {n: t for n, t in module.state_dict().items() if isinstance(t, torch.Tensor)}
    kinds = (torch.from_numpy(np.empty(0, kind)).dtype for kind in reading.DTYPES.values())
    sent = {torch.bfloat16, *kinds}
    for name, tensor in state.items():
        if tensor.dtype not in sent:
            reason = f"returned a module whose {name!r} is of type {tensor.dtype}"
            raise Refused(f"{reason}, which no file here holds: try verification.audit")
        if not torch.isfinite(tensor).all():
            raise Refused(f"returned a module whose {name!r} holds NaN or infinite values")
    try:
        shapes: dict[str, Any] = {**input_shapes(module, shape), "": shape}
    except Uncapturable as reason:
        shapes = {**dict.fromkeys(parts, reason), "": shape}
    wanted = [n for n in parts if not n or any(matches(glob, n) for glob in request["globs"])]
    graphs: dict[str, Any] = {
        name: one_line(found.reason, 400)
        if isinstance(found, Uncapturable)
        else graph_file.written(found, store)
        for name, found in captured(module, shapes, wanted).items()
    }
    for name in parts:
        reason = shapes[name]
        shapes[name] = one_line(reason.reason, 400) if isinstance(reason, Uncapturable) else reason
    content = {
        "names": list(parts),
        "shapes": {name: shapes[name] for name in parts},
        "graphs": graphs,
        "state": {name: store.add(tensor) for name, tensor in state.items()},
        "layers": layers,
    }
    return [*_framed(content), save(store.arrays)]


def _framed(content: dict[str, Any]) -> list[bytes]:
    text = json.dumps(content).encode()
    return [len(text).to_bytes(8, "little"), text]


def _error(line: str) -> list[bytes]:
    return _framed({"error": one_line(line, 400)})


if __name__ == "__main__":
    main()
