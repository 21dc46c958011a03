"""The published state dicts: the key map from their names to ours, checked key by key.

Names as in the authors' repository davidemurari/StructuredNeuralNetworks: `seq.k` is stage k with
times `u`, scales `rescalings` (the last one is the lift's), `conv1.0` the lift's kernel and
`convs.i` the kernels of the flow; `FC.1` is the head. Notes on the paper, section 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dsnn.data.sources import WEIGHTS
from dsnn.errors import UserError
from dsnn.models import CifarNet

REGIMES = ("non-expansive", "switch-prescribed", "switch-flexible")
DATASETS = {10: "cifar10", 100: "cifar100"}
"""Data set by number of classes: published files do not name theirs."""


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from: entries `entries` of the published tensor `key`."""

    key: str
    entries: slice | int | None = None

    def read(self, published: Mapping[str, Tensor]) -> Tensor:
        tensor = published[self.key]
        return tensor if self.entries is None else tensor[self.entries]


def _flow(arch: str, stage: str, flow: str) -> dict[str, Source]:
    """The map of one flow. Pairs hold two published kernels, expansive first when prescribed."""
    found = {}
    if arch == "non-expansive":
        for i in range(4):
            found[f"{flow}.{i}.u"] = Source(f"{stage}.u", slice(i, i + 1))
            found |= _field(f"{flow}.{i}.field", f"{stage}.convs.{i}")
        return found
    names = ("expansive", "contractive")
    if arch == "switch-flexible":
        names = names[::-1]
    for pair in range(2):
        found[f"{flow}.{pair}.u"] = Source(f"{stage}.u", slice(2 * pair, 2 * pair + 2))
        for offset, name in enumerate(names):
            found |= _field(f"{flow}.{pair}.{name}", f"{stage}.convs.{2 * pair + offset}")
        if arch == "switch-prescribed":
            found[f"{flow}.{pair}.rescaling"] = Source(f"{stage}.rescalings", pair)
    return found


def _field(ours: str, theirs: str) -> dict[str, Source]:
    return {
        f"{ours}.operator.weight": Source(f"{theirs}.weight"),
        f"{ours}.bias": Source(f"{theirs}.bias"),
    }


def regime_of(sha256: str) -> str | None:
    """The regime of the authors' file with this hash, None of any other: a file does not name it,
    and those of two regimes have the same names and shapes."""
    names = {file.digest: Path(file.path).stem.split("_")[1:-1] for file in WEIGHTS.files}
    return "-".join(names[sha256]) if sha256 in names else None


def key_map(arch: str) -> dict[str, Source]:
    """Our parameter name -> its published source, for the three regimes with published weights."""
    if arch not in REGIMES:
        raise UserError(
            f"no published weights are known for {arch!r}: --arch is one of {', '.join(REGIMES)}"
        )
    sources = {"head.weight": Source("FC.1.weight"), "head.bias": Source("FC.1.bias")}
    for k in range(3):
        stage, lift = f"seq.{k}", f"stages.{k}.lift"
        sources[f"{lift}.operator.weight"] = Source(f"{stage}.conv1.0.weight")
        sources[f"{lift}.scale"] = Source(f"{stage}.rescalings", -1)
        sources |= _flow(arch, stage, f"stages.{k}.flow")
    return sources


def _shapes(arch: str, net: CifarNet) -> dict[str, tuple[int, ...]]:
    """The shapes a published state dict of `arch` has: those of `net`, under the old names."""
    ours = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    shapes = {s.key: ours[name] for name, s in key_map(arch).items() if s.entries is None}
    for k in range(3):
        shapes[f"seq.{k}.u"] = (4,)
        shapes[f"seq.{k}.rescalings"] = (1,) if arch == "switch-flexible" else (3,)
    return shapes


def translate(arch: str, published: Mapping[str, Tensor], net: CifarNet) -> dict[str, Tensor]:
    """The state dict of `net` from the published one.

    Raises UserError where a key is missing or unexpected or a shape is not that of `arch`.
    """
    expected = _shapes(arch, net)
    found = {key: tuple(tensor.shape) for key, tensor in published.items()}
    for what, keys in (
        ("lacks", sorted(expected.keys() - found.keys())),
        ("has the unexpected", sorted(found.keys() - expected.keys())),
    ):
        if keys:
            raise UserError(f"not published {arch} weights: the state dict {what} {keys[0]!r}")
    for key, shape in expected.items():
        if found[key] != shape:
            raise UserError(
                f"not published {arch} weights: {key!r} has shape {found[key]}, expected {shape}"
            )
    return {name: source.read(published).clone() for name, source in key_map(arch).items()}
