"""What is in the zoo, and where the file of each network is. Needs no torch.

A network is named `ID/DATASET/MARGIN`, the identifier in the manner of RobustBench:
`FirstauthorYearTitleword_variant`. The published ones are known from `dsnn.data.sources`, with
their hashes; ours from `weights/index.json` beside this file, a list of objects with the fields of
`Model` but `arch`.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dsnn.data.folder import DataFolder
from dsnn.data.sources import WEIGHTS, digest
from dsnn.errors import UserError
from dsnn.files import atomic, write_json

FOLDER = Path(__file__).parent / "weights"
"""Where the networks that come with the package are."""
LARGEST = 40 * 10**6
"""Bytes that all of them take together at most."""
PREFIX = "zoo:"
_PAPER = "Celledoni2023Dynamical"
_CARD = ("proved", "arithmetic", "accuracy", "trained")


@dataclass(frozen=True)
class Model:
    """A network of the zoo. `file` is relative to the data folder where it is published, else to
    `weights/`; `card` says what is proved of it, in which arithmetic, its accuracy, and how it was
    trained; `arch` is the regime of a published file, which does not name its own."""

    id: str
    dataset: str
    margin: float
    file: str
    sha256: str
    card: Mapping[str, str] = field(default_factory=dict)
    arch: str | None = None

    @property
    def name(self) -> str:
        return f"{self.id}/{self.dataset}/{self.margin:g}"

    @property
    def published(self) -> bool:
        return self.arch is not None

    def path(self, folder: DataFolder) -> Path:
        """Its file, whether it is there or not."""
        return (folder.path if self.published else FOLDER) / self.file

    @property
    def remedy(self) -> str:
        """What to do where its file is missing."""
        if self.published:
            return "run `dsnn data weights`, or put it there"
        return "reinstall dsnn, which it comes with"

    def checked(self, folder: DataFolder) -> Path:
        """Its file. Raises UserError where it is missing or has another hash."""
        path = self.path(folder)
        if not path.is_file():
            origin = f", the data folder being {folder}" if self.published else ""
            raise UserError(
                f"{PREFIX}{self.name} is read from {path}{origin}: missing; {self.remedy}"
            )
        if digest(path, "sha256") != self.sha256:
            raise UserError(
                f"{path} is not the file of {PREFIX}{self.name}, whose SHA-256 is {self.sha256}: "
                "move it away and fetch it again"
            )
        return path


def models() -> list[Model]:
    """All networks of the zoo, published ones first, by name."""
    entries = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    ours = [Model(**entry) for entry in entries]
    return [*_published(), *sorted(ours, key=lambda model: model.name)]


def find(id: str, dataset: str | None = None, margin: float | None = None) -> Model:
    """The network of that identifier; data set and margin may be left out where one only has it.

    Raises UserError, with what there is, where none or several are meant.
    """
    found = [
        model
        for model in models()
        if model.id == id and dataset in (None, model.dataset) and margin in (None, model.margin)
    ]
    if len(found) == 1:
        return found[0]
    asked = "/".join(f"{part}" for part in (id, dataset, margin) if part is not None)
    if found:
        known = ", ".join(model.name for model in found)
        raise UserError(f"{asked!r} is the name of several networks of the zoo: {known}")
    raise _unknown(asked)


def find_target(text: str) -> Model:
    """The network of `zoo:ID/DATASET/MARGIN`. Raises UserError as `find`."""
    name = text.removeprefix(PREFIX)
    try:
        id, dataset, margin = name.split("/")
        number = float(margin)
    except ValueError:
        raise _unknown(name) from None
    return find(id, dataset, number)


def _unknown(asked: str) -> UserError:
    shown = "".join(c if c.isprintable() else " " for c in asked)[:100]
    known = ", ".join(PREFIX + model.name for model in models())
    return UserError(f"{PREFIX}{shown} is not in the zoo; there are: {known}")


def add(source: Path, id: str, dataset: str, margin: float, card: Mapping[str, str]) -> Model:
    """Put a `.safetensors` file into the package's zoo and its index, in a checkout of the source.

    `card` has the entries proved, arithmetic, accuracy and trained; it replaces that of the same
    file. Raises UserError on a malformed name, one that another file has, a card without them, and
    where the zoo would grow too large.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", id, re.ASCII) or source.suffix != ".safetensors":
        raise UserError(f"{id!r} with {source}: letters, digits, _ . - and a .safetensors file")
    if set(card) != set(_CARD):
        raise UserError(f"card of {id}: has {', '.join(card)}, expected {', '.join(_CARD)}")
    content = source.read_bytes()
    file = f"{id}-{dataset}-{margin:g}.safetensors"
    model = Model(id, dataset, margin, file, hashlib.sha256(content).hexdigest(), dict(card))
    others = [other for other in models() if other.name != model.name]
    if any(other.name == model.name and other.sha256 != model.sha256 for other in models()):
        raise UserError(f"{model.name} is in the zoo: choose another name")
    sizes = (path.stat().st_size for path in FOLDER.glob("*.safetensors") if path.name != file)
    size = sum(sizes) + len(content)
    if size > LARGEST:
        raise UserError(f"with {source} the zoo takes {size} bytes, at most {LARGEST}: leave some")
    with atomic(FOLDER / file) as place:
        shutil.copyfile(source, place)
    ours = sorted([*(m for m in others if not m.published), model], key=lambda m: m.name)
    entries = [{k: v for k, v in asdict(m).items() if k != "arch"} for m in ours]
    write_json(FOLDER / "index.json", entries)
    return model


def _published() -> list[Model]:
    found = []
    for file in WEIGHTS.files:
        dataset, *regime, margin = Path(file.path).stem.split("_")
        arch = "-".join(regime)
        card = {
            "proved": "nothing by its authors (see dsnn audit)",
            "arithmetic": "",
            "accuracy": "",
            "trained": f"by the authors of arXiv 2210.02373, loss margin {margin}",
        }
        id = f"{_PAPER}_{arch}"
        found.append(Model(id, dataset, float(margin), file.path, file.digest, card, arch))
    return found
