"""Checkpoints of a training run: safetensors with a JSON in the header, one file, so that it is
there whole or not at all.

The tensors are those of the network, of the optimiser, of the random generators and of the sums
of the epoch under way; the JSON holds everything else. A digest over both is checked on reading.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.files import atomic
from dsnn.weights import canonical_sha256

KEPT = 2
"""Checkpoints of whole epochs that are kept: the newest and the one before."""


class Trainable(Protocol):
    """What a checkpoint saves of a step: whatever is to survive is in these two."""

    @property
    def net(self) -> nn.Module: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...


@dataclass
class Progress:
    """Where a run stands: `epochs` are finished, and `steps` of the next one.

    `reduction` multiplies the learning rates, by restarts after a loss that was not finite;
    `metrics` has an entry a finished epoch. Seconds are those that led here, over all slices.
    """

    epochs: int = 0
    steps: int = 0
    reduction: float = 1.0
    restarts: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run in a folder of their own.

    `configuration` (JSON values) identifies the run: a folder of another one is refused.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any]):
        self.folder = folder
        self.configuration = json.loads(json.dumps(configuration, allow_nan=False))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder while the block lasts, or this process does.

        Raises UserError where another run is at work there, or no folder can be made. Windows, and
        a file system without locks, keep nobody out.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror}; choose another --out"
            raise UserError(f"cannot write {self.folder}: {reason}") from error
        descriptor = _locked(self.folder)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def newest(self) -> Path | None:
        """The file to go on from, None where there is none."""
        whole, partial = self._found("epoch"), self._found("partial")
        # An older partial one was only not removed yet.
        if partial and (not whole or _epochs(partial[-1]) >= _epochs(whole[-1])):
            return partial[-1]
        return whole[-1] if whole else None

    def save(self, step: Trainable, progress: Progress) -> None:
        """Write a checkpoint, then remove those that it makes superfluous.

        Raises UserError where the folder cannot be written or is full; what was there is kept.
        """
        kind = "partial" if progress.steps else "epoch"
        name = f"{kind}-{progress.epochs:05d}.safetensors"
        tensors = _tensors(step)
        text = json.dumps({"configuration": self.configuration, "progress": asdict(progress)})
        metadata = {"json": text, "sha256": _digest(tensors, text)}
        try:
            with atomic(self.folder / name) as temporary:
                save_file(tensors, temporary, metadata)
        except UserError as error:
            remedy = "; then go on with --resume" if self.newest() else ""
            raise UserError(f"checkpoint: {error}{remedy}") from error
        superfluous = self._found("epoch")[:-KEPT]
        if kind == "epoch":
            superfluous += self._found("partial")
        for old in [*superfluous, *self.folder.glob(".*.safetensors.*")]:
            old.unlink(missing_ok=True)

    def restore(self, step: Trainable, *, whole: bool = False) -> Progress | None:
        """Set `step` to the newest checkpoint, `whole` to that of the last finished epoch; None
        where there is none.

        Raises UserError on a checkpoint that is damaged or of another configuration.
        """
        path = self._found("epoch")[-1] if whole else self.newest()
        if path is None:
            return None
        tensors, text = _read(path)
        try:
            content = json.loads(text)
            self._check(path, content["configuration"])
            _set(step, tensors)
            return Progress(**content["progress"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"checkpoint {path} does not fit this network or optimiser: {error}"
            ) from error

    def _found(self, kind: str) -> list[Path]:
        paths = self.folder.glob(f"{kind}-*.safetensors")
        return sorted((path for path in paths if _epochs(path) >= 0), key=_epochs)

    def _check(self, path: Path, found: Mapping[str, Any]) -> None:
        for name in {**self.configuration, **found}:  # the regime is the first
            there, here = found.get(name), self.configuration.get(name)
            if there != here:
                raise UserError(
                    f"{path} is of a run with {name} = {there!r}, this one has {here!r}: "
                    "choose another --out"
                )


def _epochs(path: Path) -> int:
    """The number of finished epochs, which stands in the name of a checkpoint; -1 in that of
    another file, as a copy that somebody made."""
    number = path.stem.partition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() else -1


def _tensors(step: Trainable) -> dict[str, Tensor]:
    found = {f"net.{name}": tensor for name, tensor in step.net.state_dict().items()}
    for index, state in step.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                found[f"optimizer.{index}.{name}"] = value
    found["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        found["random.cuda"] = torch.cuda.get_rng_state()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def _set(step: Trainable, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `_tensors`. A state of a parameter's shape gets its memory order too: fused
    optimisers read both as they lie."""
    state = {name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")}
    step.net.load_state_dict(state)
    parameters = [p for group in step.optimizer.param_groups for p in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            if value.shape == like.shape:
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            found.setdefault(int(index), {})[name] = value
    groups = step.optimizer.state_dict()["param_groups"]
    step.optimizer.load_state_dict({"state": found, "param_groups": groups})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    return hashlib.sha256(f"{canonical_sha256(tensors)}\0{text}".encode()).hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if metadata["sha256"] == _digest(tensors, metadata["json"]):
            return tensors, metadata["json"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"checkpoint {path} is damaged: delete it, and --resume goes on from the one before"
    )


def _locked(folder: Path) -> int | None:
    """What holds the lock of a folder until it is closed; None where there is none to have. Raises
    UserError where another run holds it."""
    try:
        import fcntl  # not on Windows, where all that imports this module runs too

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # but for this one, of a file system without locks
        if isinstance(error, BlockingIOError):
            os.close(descriptor)
            raise UserError(
                f"another run is at work in {folder}: wait for it, or choose another --out"
            ) from error
    return descriptor
