"""The networks behind the figures by id, and where what was computed of them lies.

`published`: the authors' weights. `retrained`: ours, of the paper's protocol. `certified`: ours,
1-Lipschitz by construction. What is computed of a network lies under the output folder of its
scale, or comes with the program in `results/SCALE`: `models/ID/run.json` with the weights beside
it, `evaluations/ID.json` and `evaluations/ID-autoattack.json`, as `dsnn train` and `dsnn evaluate
--json` write them.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dsnn.models import ARCHITECTURES, CERTIFIED
from dsnn.published import REGIMES
from paper_repro.published import DATASETS, MARGINS

KEPT = Path(__file__).parent / "results"
DATA = Path(__file__).parent / "data"
CLAIMS = ("stages.*.flow:lipschitz<=1", "lipschitz<=1", "lipschitz[pixel]<=1")
"""What audits ask: of the flows, of the whole network, and of it in pixels."""
SEEDS = (0, 1, 2)
"""Of the certified networks' headline rows."""


class Source(StrEnum):
    """Whose weights they are."""

    published = "published"
    retrained = "retrained"
    certified = "certified"


@dataclass(frozen=True)
class Model:
    """A network behind the figures; `margin` as the paper prints it, "" for a certified one;
    `construction` is how norms are kept, of the short runs that compare that."""

    source: Source
    regime: str
    dataset: str
    margin: str = ""
    seed: int = 0
    construction: str = ""

    @property
    def id(self) -> str:
        """`published-switch-flexible-cifar10-0.15`, `retrained-naive-cifar100-0.3-0`,
        `certified-non-expansive-cifar10-0`, `certified-switch-measured-cifar10-0`."""
        parts = [self.regime, self.construction, self.dataset, self.margin]
        if self.source != Source.certified:
            parts = [str(self.source), *parts]
        if self.source != Source.published:
            parts.append(str(self.seed))
        return "-".join(filter(None, parts))

    @property
    def published_file(self) -> str:
        """The authors' file relative to the data folder, of a published network."""
        return f"published/{self.dataset}_{self.regime.replace('-', '_')}_{self.margin}.pt"


def published() -> list[Model]:
    """The nine networks that the authors published."""
    return [
        Model(Source.published, regime, "cifar10", margin)
        for regime in REGIMES
        for margin in MARGINS
    ]


def retrained(dataset: str) -> list[Model]:
    """The paper's grid: five regimes at three margins."""
    return [
        Model(Source.retrained, regime, dataset, margin)
        for regime in ARCHITECTURES
        for margin in MARGINS
    ]


def certified() -> list[Model]:
    """The certified networks on CIFAR-10, three seeds each."""
    return [
        Model(Source.certified, regime, "cifar10", seed=seed)
        for regime in CERTIFIED
        for seed in SEEDS
    ]


def short() -> list[Model]:
    """Narrow certified networks, trained for a few epochs, that compare ways to keep norms at their
    limits, all else equal: `data/short-CONSTRUCTION.toml` has the settings."""
    return [
        Model(Source.certified, regime, "cifar10", construction=file.stem.removeprefix("short-"))
        for regime in ("certified-non-expansive", "certified-switch")
        for file in sorted(DATA.glob("short-*.toml"))
    ]


def models() -> dict[str, Model]:
    """All of them by id."""
    grid = [model for dataset in DATASETS for model in retrained(dataset)]
    return {model.id: model for model in (*published(), *grid, *certified(), *short())}


def evaluation(model: Model, folder: Path, scale: str) -> Path:
    """The Evaluate JSON of a model: that under `folder` (the output folder of the scale) where it
    is there, else the kept one, which need not exist."""
    return _found(Path("evaluations") / f"{model.id}.json", folder, scale)


def autoattack(model: Model, folder: Path, scale: str) -> Path:
    """The Evaluate JSON of AutoAttack on fewer images, found as `evaluation` is."""
    return _found(Path("evaluations") / f"{model.id}-autoattack.json", folder, scale)


def run(model: Model, folder: Path, scale: str) -> Path:
    """The `run.json` of a model that we trained, found as `evaluation` is."""
    return _found(Path("models") / model.id / "run.json", folder, scale)


def _found(inside: Path, folder: Path, scale: str) -> Path:
    made = folder / inside
    return made if made.is_file() else KEPT / scale / inside
