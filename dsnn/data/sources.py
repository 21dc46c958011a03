"""What belongs in the data folder: file names, published hashes, and where each comes from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dsnn.errors import UserError

AUTHORS_REPOSITORY = (
    "https://raw.githubusercontent.com/davidemurari/StructuredNeuralNetworks/"
    "8ad721ae2558e54888de90504cef437822e7b10a"
)
"""The authors' code at the commit whose weights the hashes below are of."""

_CIFAR10 = "Adversarial Robustness/CIFAR10"


@dataclass(frozen=True)
class File:
    """A file of a source: its path in the data folder and its published hash.

    `remote` is the path below the source's base address, "" for a member of an archive.
    """

    path: str
    digest: str
    remote: str = ""


@dataclass(frozen=True)
class Source:
    """A set of files that comes together. `archive` is the one file that holds them all, if any."""

    name: str
    algorithm: str
    base: str
    files: tuple[File, ...]
    archive: File | None = None

    @property
    def folder(self) -> str:
        return self.files[0].path.split("/")[0]


def _weights(regime: str, folder: str, stem: str, margin: str, digest: str) -> File:
    return File(
        path=f"published/cifar10_{regime}_{margin}.pt",
        digest=digest,
        remote=f"{_CIFAR10}/{folder}/{stem}_margin_{margin}.pt",
    )


WEIGHTS = Source(
    name="weights",
    algorithm="sha256",
    base=AUTHORS_REPOSITORY,
    files=tuple(
        _weights(*entry)
        for entry in (
            ("non_expansive", "Contractive", "trained_model", "0.07",
             "9093cbafe9f3d978a09a6de6e23f054c1d87610902cc3350de70f8495959bfcb"),
            ("non_expansive", "Contractive", "trained_model", "0.15",
             "aecc384a032a984d47642604641a3fa1e56dd2571110134becc4e109b844e4a0"),
            ("switch_flexible", "Switch flexible", "CertifiedLip", "0.07",
             "1ec76e728d88d8529c19616b2c0b98cc4f146f0262e788a3c31128771fc56966"),
            ("switch_flexible", "Switch flexible", "CertifiedLip", "0.15",
             "4e0a145f24dd83d0eae173122adda25e3614bafcf4072881b81e63f3771c824e"),
            ("switch_prescribed", "Switch prescribed", "CertifiedLip", "0.07",
             "0e59ddb68d046f85f105c9eb79c925242550de366311178981412014187aeb07"),
            ("switch_prescribed", "Switch prescribed", "CertifiedLip", "0.15",
             "eb6da7f833950014a5281685f0946701bfde5351a0b39b0c98338def3de1d3d3"),
        )
    ),
)  # fmt: skip


def _cifar(name: str) -> Source:
    from dsnn.data.vision import torchvision

    reader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    facts = reader[name]
    members = [*facts.train_list, *facts.test_list, [facts.meta["filename"], facts.meta["md5"]]]
    base, _, archive = facts.url.rpartition("/")
    return Source(
        name=name,
        algorithm="md5",
        base=base,
        files=tuple(File(f"{facts.base_folder}/{path}", digest) for path, digest in members),
        archive=File(archive, facts.tgz_md5, archive),
    )


NAMES = ("cifar10", "cifar100", "weights")


def source(name: str) -> Source:
    """The source called `name`, one of NAMES; torchvision has the facts about CIFAR."""
    return WEIGHTS if name == "weights" else _cifar(name)


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal hash of a file's bytes. Raises UserError where they cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; make it readable, or move it away"
        ) from error


def state(root: Path, file: File, algorithm: str) -> str:
    """ "ok", "missing" or "wrong" (there, with other content) for one file below `root`."""
    path = root / file.path
    if not path.is_file():
        return "missing"
    return "ok" if digest(path, algorithm) == file.digest else "wrong"
