"""Weights files: our safetensors, whose metadata say what they are, and the published `.pt`."""

import hashlib
import json
import re
import reprlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dsnn import published
from dsnn.data.statistics import Channels, training
from dsnn.errors import UserError
from dsnn.files import atomic
from dsnn.models import ALL_ARCHITECTURES, CERTIFIED, CertifiedNet, CifarNet, build
from dsnn.models.certified import build_certified, sizes_of

_FLOAT32 = torch.finfo(torch.float32)
LARGEST = 2**30
"""Bytes of a weights file: those of the paper have 3.6 million, ours 2.7 million."""


@dataclass(frozen=True)
class Card:
    """What a weights file says of itself: regime, data set, loss margin (None when unknown), the
    mean and standard deviation of its input normalisation, and whether steps keep their sign."""

    arch: str
    dataset: str
    margin: float | None
    mean: Channels
    std: Channels
    signed_steps: bool = True

    def metadata(self) -> dict[str, str]:
        """As safetensors metadata: names as they are, everything else as JSON."""
        values = dict(self.__dict__)
        return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


@dataclass(frozen=True)
class Loaded:
    """A network read from `path`, in eval mode. `sha256` is that of its canonical bytes."""

    net: CifarNet | CertifiedNet
    card: Card
    path: Path
    file_sha256: str
    sha256: str


def canonical_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over, by sorted name: name, dtype, shape and little-endian data, 0-separated."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        # NumPy has no bfloat16; its bytes are those of an integer.
        bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        array = bits.numpy()
        shape = ",".join(str(extent) for extent in array.shape)
        digest.update(f"{name}\0{dtype}\0{shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def load(path: str | Path, arch: str | None = None) -> Loaded:
    """Read a network from `.safetensors` (`arch`, when given, must agree) or published `.pt`.

    Raises UserError on a file that is missing, damaged, unsafe, of another architecture, or that
    holds anything but finite float32 parameters of the expected shapes.
    """
    path = Path(path)
    if arch is not None and arch not in ALL_ARCHITECTURES:
        raise UserError(f"unknown architecture {arch!r}: one of {', '.join(ALL_ARCHITECTURES)}")
    if path.suffix not in (".safetensors", ".pt"):
        raise UserError(f"{path}: weights are .safetensors, or published .pt")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, which may not end
            raise UserError(f"{path} is a pipe or device: name a file")
        if path.is_file() and (size := path.stat().st_size) > LARGEST:
            raise UserError(f"{path} has {size} bytes, and weights at most {LARGEST}: name others")
        file_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read weights {path}: {error.strerror or error}; name a file that is there"
        ) from error
    regime = published.regime_of(file_sha256)
    if arch is not None and regime not in (None, arch):
        raise UserError(f"{path} holds the authors' {regime} weights, --arch says {arch}")
    state, card = (_read_pt if path.suffix == ".pt" else _read_safetensors)(path, arch)
    net = _fill(path, card, state)
    return Loaded(net, card, path, file_sha256, canonical_sha256(net.state_dict()))


def save(path: str | Path, net: CifarNet | CertifiedNet, card: Card) -> None:
    """Write `net` with `card` as metadata, whole or not at all. Raises UserError as `atomic`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    with atomic(Path(path)) as temporary:
        save_file(state, temporary, card.metadata())


def _read_pt(path: Path, arch: str | None) -> tuple[dict[str, Tensor], Card]:
    if arch is None:
        raise UserError(f"{path} does not say what it is: name its regime with --arch")
    published.key_map(arch)  # an architecture without published weights ends here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the bytes make it raise
        code = "unsupported" in str(error).lower()
        reason = (
            "it would run code: do not, and ask for .safetensors"
            if code
            else "damaged or not weights: fetch it again, or use .safetensors"
        )
        raise UserError(f"cannot load {path} safely, {reason}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise UserError(f"{path} is not a state dict of tensors: save model.state_dict() itself")
    _check_values(path, state)
    ends = "FC.1.weight", [f"seq.{k}.conv1.0.weight" for k in range(3)]
    classes, channels = _sizes(path, f"published {arch}", state, *ends)
    if classes not in published.DATASETS:
        raise UserError(f"{path}: the head has {classes} rows; published heads have 10 or 100")
    dataset = published.DATASETS[classes]
    mean, std = training(dataset)
    margin = re.search(r"(?<![\d.])(\d+\.\d+)$", path.stem)
    card = Card(arch, dataset, float(margin[1]) if margin else None, mean, std, signed_steps=False)
    skeleton = _skeleton(card, classes, channels)
    try:
        return published.translate(arch, state, skeleton), card
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read_safetensors(path: Path, arch: str | None) -> tuple[dict[str, Tensor], Card]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot load {path}: damaged or not safetensors ({error})") from error
    card = _card(path, metadata)
    if arch is not None and arch != card.arch:
        raise UserError(f"{path} holds {card.arch} weights, --arch says {arch}")
    _check_values(path, state)
    return state, card


def _card(path: Path, metadata: Mapping[str, str]) -> Card:
    """The metadata as a Card; UserError names the first entry that is missing or malformed."""
    remedy = "write it with `dsnn convert` or dsnn.weights.save"

    def entry(name: str) -> Any:
        if name not in metadata:
            raise UserError(f"{path} has no metadata {name!r}: {remedy}")
        try:
            return json.loads(metadata[name])
        except (ValueError, RecursionError):
            return metadata[name]

    def statistics(name: str, lowest: float) -> Channels:
        value = entry(name)
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(_is_number(v) for v in value)
            or not all(lowest <= v <= _FLOAT32.max for v in value)
        ):
            raise UserError(
                f"{path}: metadata {name!r} is {reprlib.repr(value)}, expected three numbers"
            )
        return (float(value[0]), float(value[1]), float(value[2]))

    arch, dataset, margin, signed = map(entry, ("arch", "dataset", "margin", "signed_steps"))
    if arch not in ALL_ARCHITECTURES:
        known = ", ".join(ALL_ARCHITECTURES)
        raise UserError(f"{path}: unknown architecture {reprlib.repr(arch)}: one of {known}")
    if type(signed) is not bool:
        raise UserError(
            f"{path}: metadata 'signed_steps' is {reprlib.repr(signed)}, expected true or false"
        )
    if arch in CERTIFIED and not signed:
        raise UserError(
            f"{path}: metadata 'signed_steps' is false, and {arch} executes its times as they are"
        )
    if not isinstance(dataset, str) or not dataset.isprintable() or not dataset:
        raise UserError(
            f"{path}: metadata 'dataset' is {reprlib.repr(dataset)}, expected the name of one"
        )
    if margin is not None and not (_is_number(margin) and margin >= 0):
        raise UserError(
            f"{path}: metadata 'margin' is {reprlib.repr(margin)}, expected a number >= 0 or null"
        )
    mean, std = statistics("mean", -_FLOAT32.max), statistics("std", _FLOAT32.tiny)
    return Card(arch, dataset, margin, mean, std, signed)


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a finite double: its integers have no limit."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        dense = tensor.layout == torch.strided and not tensor.is_nested
        if tensor.dtype != torch.float32 or not dense or tensor.is_meta:
            kind = tensor.dtype if dense else "sparse or nested"
            kind = "without values" if tensor.is_meta else kind
            raise UserError(f"{path}: {name!r} is {kind}, expected dense float32")
        if tensor.numel() > tensor.untyped_storage().nbytes() // tensor.itemsize:  # a few bytes can
            raise UserError(  # be entries without end
                f"{path}: {name!r} repeats entries that are stored once: save it .contiguous()"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{path}: {name!r} holds NaN or infinite values: fetch or train it again"
            )


def _sizes(
    path: Path, what: str, state: Mapping[str, Tensor], head: str, lifts: list[str]
) -> tuple[int, list[int]]:
    """Classes and channels, from the matrix called `head` and the kernels `lifts`. UserError where
    one is missing or empty."""
    sizes = []
    for name, dimensions in ((head, 2), *((lift, 4) for lift in lifts)):
        tensor = state.get(name)
        if tensor is None or tensor.ndim != dimensions or not tensor.numel():
            raise UserError(f"{path}: not {what} weights, {name!r} is missing or empty")
        sizes.append(tensor.shape[0])
    return sizes[0], sizes[1:]


def _skeleton(card: Card, classes: int, channels: list[int]) -> CifarNet:
    """The network without storage: shapes to compare with, whatever a file claims."""
    with torch.device("meta"):
        c0, c1, c2 = channels
        return build(card.arch, classes, channels=(c0, c1, c2), signed_steps=card.signed_steps)


def _expected(path: Path, card: Card, state: Mapping[str, Tensor]) -> CifarNet | CertifiedNet:
    """The network without storage that the file's shapes speak of."""
    if card.arch in CERTIFIED:
        sizes, head = sizes_of(card.arch, state), state.get("head.weight")
        if sizes is None or head is None or head.ndim != 2 or not head.numel():
            raise UserError(f"{path}: not {card.arch} weights, the steps or the head are missing")
        with torch.device("meta"):
            return build_certified(card.arch, head.shape[0], sizes)
    ends = "head.weight", [f"stages.{k}.lift.operator.weight" for k in range(3)]
    return _skeleton(card, *_sizes(path, card.arch, state, *ends))


def _fill(path: Path, card: Card, state: Mapping[str, Tensor]) -> CifarNet | CertifiedNet:
    net = _expected(path, card, state)
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{path}: not {card.arch} weights, {name!r} has shape {found.get(name, 'none')}, "
                f"expected {expected.get(name, 'none')}"
            )
    wanted = {name: rows for rows, name in published.DATASETS.items()}.get(card.dataset)
    if wanted not in (None, net.classes):
        raise UserError(f"{path}: {net.classes} classes, but {card.dataset} has {wanted}")
    net.load_state_dict(dict(state), assign=True)
    return net.eval()
