"""What is computed of networks behind the figures: data checked, trained, evaluated, certified.

Each is an artefact with one command of `dsnn`; what a scale computes is in design terms: `smoke`
shows that everything runs, `cpu` is what two cores do in two hours, `paper` is the paper's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dsnn.errors import UserError
from dsnn.models import ARCHITECTURES
from paper_repro.artefact import Artefact
from paper_repro.models import CLAIMS, DATA, Model, Source, certified, published, retrained, short
from paper_repro.published import IMAGES

FILES = {
    "cifar10": (
        *(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
        "cifar-10-batches-py/test_batch",
        "cifar-10-batches-py/batches.meta",
    ),
    "cifar100": tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
}
"""The files of a data set in the data folder. `dsnn.data.sources` has them from torchvision, which
is not needed to draw figures."""
AUTOATTACK = "36/255"
HEADLINE = "0.15"
"""The margin of the published networks that are attacked at all nine epsilons at `cpu`."""
QUICK = ("certified-non-expansive",)
"""Regimes whose short runs belong to `--all`: an epoch of the switch takes several minutes."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much a scale computes: test images of PGD, and of AutoAttack on the published networks of
    the headline's margin (which belongs to `--all` where `autoattack_in_all`), on the certified
    ones and on the grid (0: none), the epsilons of PGD on published networks at that margin and at
    the others (none: the paper's nine), the margins of the published networks that are audited, the
    seeds of certified networks that belong to `--all`, the images that these are evaluated on (0:
    all), and those of the short certified runs (0: there are none)."""

    attacked: int
    published_autoattacked: int = 0
    autoattack_in_all: bool = True
    certified_autoattacked: int = 0
    grid_autoattacked: int = 0
    headline: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    audited: tuple[str, ...] = ("0.07", "0.15", "0.3")
    seeds: tuple[int, ...] = ()
    certified: int = 0
    short: int = 0


EXTENTS = {
    "smoke": Extent(
        attacked=16,
        headline=(AUTOATTACK,),
        others=(AUTOATTACK,),
        audited=(HEADLINE,),
        seeds=(0,),
        certified=128,
    ),
    "cpu": Extent(
        attacked=IMAGES,
        published_autoattacked=128,
        autoattack_in_all=False,
        certified_autoattacked=128,
        others=(AUTOATTACK, "0.5", "1"),
        short=2048,
    ),
    "paper": Extent(
        attacked=IMAGES,
        published_autoattacked=1000,
        certified_autoattacked=1000,
        grid_autoattacked=1000,
        seeds=(0, 1, 2),
    ),
}


def artefacts(scale: str) -> Iterator[Artefact]:
    """All of them at a scale, what others need before them."""
    extent = EXTENTS[scale]
    yield from map(_data, FILES)
    for model in published():
        yield _evaluation(model, extent)
        if extent.published_autoattacked and model.margin == HEADLINE:
            images = extent.published_autoattacked
            yield _autoattack(model, images, in_all=extent.autoattack_in_all)
        if model.margin in extent.audited:
            yield _audit(model)
    for model in (*retrained("cifar10"), *retrained("cifar100")):
        yield _training(model)
        yield _evaluation(model, extent)
        if extent.grid_autoattacked:
            yield _autoattack(model, extent.grid_autoattacked)
    for model in certified():
        if scale == "smoke" and model.seed not in extent.seeds:
            continue
        in_all = model.seed in extent.seeds
        yield _training(model, in_all=in_all)
        yield _evaluation(model, extent, in_all=in_all)
        if extent.certified_autoattacked:
            yield _autoattack(model, extent.certified_autoattacked, in_all=in_all)
        yield _audit(model, in_all=in_all)
    for model in short() if extent.short else ():
        in_all = model.regime in QUICK
        yield _training(model, in_all=in_all)
        yield _evaluation(model, extent, in_all=in_all)


def check_data(artefact: Artefact, data: Path) -> None:
    """Raise UserError where a data set that the artefact needs is there in part."""
    for dataset, files in FILES.items():
        absent = [file for file in files if not (data / file).is_file()]
        if set(absent) & set(artefact.needs.values()) and (data / files[0]).parent.is_dir():
            raise UserError(
                f"{data / absent[0]} is missing: `dsnn data {dataset}` fetches it, or move the "
                f"folder {(data / files[0]).parent} away to do without {dataset}"
            )


def evaluation_id(model: Model) -> str:
    return f"evaluation-{model.id}"


def autoattack_id(model: Model) -> str:
    return f"autoattack-{model.id}"


def _place(model: Model) -> str:
    return f"models/{model.id}"


def _words(model: Model) -> str:
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[model.dataset]
    which = f" at margin {model.margin}" if model.margin else f", seed {model.seed}"
    if model.construction:
        which = f", a short run with norms {model.construction}"
    return f"the {model.source} {model.regime} network on {title}{which}"


def _data(dataset: str) -> Artefact:
    return Artefact(
        f"data-{dataset}",
        "data",
        f"The image files of {dataset}, compared with their published sums.",
        needs={Path(file).name: file for file in FILES[dataset]},
        command=("data", dataset, "--data", "{data}", "--json", "{out}/{place}.json"),
        place=f"data/{dataset}",
        suffixes=("json",),
        rule="prepare",
    )


def _training(model: Model, *, in_all: bool = True) -> Artefact:
    after = {f"data-{model.dataset}": ""}
    command = [
        *("train", "--regime", model.regime, "--dataset", model.dataset),
        *("--scale", "{scale}", "--seed", str(model.seed), "--out", "{out}/{place}"),
        *("--data", "{data}", "--device", "{device}", "--resume"),
    ]
    settings = {}
    if model.margin:
        command += ["--margin", model.margin]
    if model.construction:
        file = f"short-{model.construction}.toml"
        command += ["--config", f"{{package}}/data/{file}"]
        settings["settings"] = DATA / file
    if model.source == Source.retrained and model.dataset == "cifar100":
        start = Model(Source.retrained, model.regime, "cifar10", model.margin, model.seed)
        weights = f"{_place(start)}/weights.safetensors"
        after[start.id] = weights
        command += ["--from", f"{{out}}/{weights}"]
    return Artefact(
        model.id,
        "model",
        f"Weights of {_words(model)}.",
        packaged=settings,
        needs={Path(file).name: file for file in FILES[model.dataset]},
        command=tuple(command),
        place=_place(model),
        parts=("run.json", "weights.safetensors"),
        suffixes=(),
        after=after,
        threads=2 if model in certified() else 1,
        in_all=in_all,
        rule="train",
    )


def _subject(model: Model) -> tuple[tuple[str, ...], Mapping[str, str], Mapping[str, str]]:
    """The words that name a network on the command line, what it comes after, and the file of the
    data folder that it is."""
    if model.source == Source.published:
        target = ("{data}/" + model.published_file, "--arch", model.regime)
        return target, {}, {"weights": model.published_file}
    weights = f"{_place(model)}/weights.safetensors"
    return (f"{{out}}/{weights}",), {model.id: weights}, {}


def _evaluation(model: Model, extent: Extent, *, in_all: bool = True) -> Artefact:
    attacks: list[str] = []
    images = extent.short if model.construction else extent.certified
    if model.source != Source.certified:
        attacks, images = ["--attack", "pgd-paper"], extent.attacked
        if model.source == Source.published:
            chosen = extent.headline if model.margin == HEADLINE else extent.others
            attacks += [part for epsilon in chosen for part in ("--eps", epsilon)]
    return _evaluated(
        model,
        Artefact(
            evaluation_id(model),
            "data",
            f"Accuracy of {_words(model)}, clean, attacked and certified.",
            command=("--attack", "clean", *attacks, *(("--limit", str(images)) if images else ())),
            place=f"evaluations/{model.id}",
            in_all=in_all,
            rule="attack" if attacks else "evaluate",
        ),
    )


def _autoattack(model: Model, images: int, *, in_all: bool = True) -> Artefact:
    attack = ("--attack", "clean", "--attack", "autoattack", "--eps", AUTOATTACK)
    return _evaluated(
        model,
        Artefact(
            autoattack_id(model),
            "data",
            f"AutoAttack at {AUTOATTACK} on the first {images} images, of {_words(model)}.",
            command=(*attack, "--limit", str(images)),
            place=f"evaluations/{model.id}-autoattack",
            in_all=in_all,
            rule="attack",
        ),
    )


def _evaluated(model: Model, part: Artefact) -> Artefact:
    """An evaluation with all that is the same for each: its command begins with what differs."""
    target, after, needs = _subject(model)
    protocol = "published" if model.source == Source.published else "consistent"
    return replace(
        part,
        needs={**{Path(file).name: file for file in FILES[model.dataset]}, **needs},
        command=(
            *("evaluate", *target, "--dataset", model.dataset, "--protocol", protocol),
            *("--data", "{data}", "--device", "{device}", "--out", "{out}/evaluations"),
            *("--json", "{out}/{place}.json", *part.command),
        ),
        suffixes=("json", "csv"),
        after={f"data-{model.dataset}": "", **after},
    )


def _audit(model: Model, *, in_all: bool = True) -> Artefact:
    target, after, needs = _subject(model)
    claims = CLAIMS if model.regime in ARCHITECTURES else CLAIMS[1:]
    return Artefact(
        f"audit-{model.id}",
        "data",
        f"Verdicts on {_words(model)}, with the certificate of what was proved.",
        needs=needs,
        command=(
            *("audit", *target, *(part for claim in claims for part in ("--claim", claim))),
            *("--json", "{out}/{place}.json", "--certificate", "{out}/{place}.certificate.json"),
        ),
        then=("check", "{out}/{place}.certificate.json"),
        place=f"audits/{model.id}",
        suffixes=("json", "certificate.json"),
        after=after,
        answers=(0, 1, 3),
        in_all=in_all,
        rule="certify",
    )
