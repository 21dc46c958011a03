"""What deviations are measured on: the published networks, their spectra and their audits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dsnn.data.cifar import images_and_labels
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import SIDE, Channels
from dsnn.errors import UserError
from dsnn.models.cifar import CifarNet
from dsnn.operators import Convolution, estimate
from dsnn.operators.bounds import norm_upper
from dsnn.operators.geometry import Geometry
from dsnn.weights import Loaded, load
from experiments.executed import Executed, exact_float32
from paper_repro.models import CLAIMS, Model, published
from paper_repro.published import IMAGES
from verification.auditor import Audit
from verification.claims import parse
from verification.store import Store
from verification.targets import Target, resolve

LANCZOS = 80
"""Steps behind a vector whose ratio |Av| / |v| is enclosed."""
BATCH = 128


@dataclass(frozen=True)
class Spectrum:
    """Of one executed convolution: norm in [norm[0], norm[1]], inf |Ax| / |x| <= smallest."""

    norm: tuple[float, float]
    smallest: float


@dataclass(frozen=True)
class Network:
    """One published network with the model it is."""

    model: Model
    loaded: Loaded

    @property
    def label(self) -> str:
        return f"{self.model.regime} {self.model.margin}"

    @property
    def net(self) -> CifarNet:
        return cast(CifarNet, self.loaded.net)

    def kernels(self, k: int) -> list[Tensor]:
        """The kernels that the flow of stage k holds, in order."""
        flow = self.net.stages[k].flow
        return [m.weight.detach() for m in flow.modules() if isinstance(m, Convolution)]

    @cached_property
    def spectra(self) -> list[list[Spectrum]]:
        """By stage, of the kernels of its flow at the extent they are executed at."""
        return [
            [spectrum(kernel, SIDE >> k) for kernel in self.kernels(k)]
            for k in range(len(self.net.stages))
        ]


def zero_padded(side: int) -> Geometry:
    """That of the networks' 3 x 3 convolutions of images (side, side)."""
    return Geometry((side, side), padding=(1, 1, 1, 1))


def spectrum(kernel: Tensor, side: int, steps: int = LANCZOS) -> Spectrum:
    """Rigorous bounds without a factorisation: the torus from above, Lanczos vectors else."""
    geometry = zero_padded(side)
    found = estimate.lanczos(kernel, geometry, steps)
    lower, _ = estimate.ratio(kernel, geometry, found.largest_vector)
    _, smallest = estimate.ratio(kernel, geometry, found.smallest_vector)
    return Spectrum((lower, norm_upper(kernel, geometry)), smallest)


class Material:
    """The published weights and test images in a data folder, and what is computed of them once.

    Raises UserError where a folder holds no published weights. Witnesses of audits go to
    `witnesses`, nowhere when it is None.
    """

    def __init__(self, folder: DataFolder, witnesses: Path | None = None):
        self.folder, self.witnesses, self.images = folder, witnesses, IMAGES
        known = [(model, folder.path / model.published_file) for model in published()]
        self.networks = [Network(m, load(path, m.regime)) for m, path in known if path.is_file()]
        self._audits: dict[str, dict[str, Any]] = {}
        if not self.networks:
            raise UserError(f"no published weights in {folder}: fetch them with dsnn data weights")

    def of(self, *regimes: str) -> list[Network]:
        """The networks of these regimes."""
        return [network for network in self.networks if network.model.regime in regimes]

    def audit(self, network: Network) -> dict[str, Any]:
        """The Audit JSON of a network's flows, of the whole of it, and of it in pixels."""
        name, loaded = network.model.id, network.loaded
        if name not in self._audits:
            subject = resolve(str(loaded.path), arch=network.model.regime)
            subject = replace(subject, text=network.model.published_file)
            self._audits[name] = self._audited(subject, CLAIMS, name)
        return self._audits[name]

    def audit_of(self, target: str, claim: str) -> dict[str, Any]:
        """The Audit JSON of one claim on an architecture."""
        return self._audited(resolve(target), (claim,), "architecture")

    def _audited(self, subject: Target, claims: Sequence[str], stem: str) -> dict[str, Any]:
        running = Audit(subject, folder=self.witnesses, stem=stem, store=Store())
        return running.run([parse(claim) for claim in claims]).as_json()

    @cached_property
    def test_set(self) -> tuple[Tensor, Tensor]:
        """The first test images of CIFAR-10 and their labels."""
        images, labels = images_and_labels("cifar10", "test", self.folder)
        return images[: self.images], labels[: self.images]

    def correct(self, net: CifarNet, mean: Channels, std: Channels) -> int:
        """How many of the first test images `net` classifies rightly, executed in float32."""
        images, labels = self.test_set
        model = Executed(net, mean, std, torch.device("cpu"))
        with torch.no_grad(), exact_float32():
            batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
            return sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)


def lower_end(audit: dict[str, Any], module: str, claim: str = "lipschitz<=1") -> float:
    """The lower end of the claim on `module` whose text ends in `claim`, 0 where none is known."""
    (entry,) = (
        entry
        for entry in audit["claims"]
        if entry["module"] == module and entry["claim"].endswith(claim)
    )
    return entry["bound"][0] or 0.0


def upper_end(audit: dict[str, Any], module: str, claim: str = "lipschitz<=1") -> float:
    """The upper end, as `lower_end`; infinite where none is known."""
    (entry,) = (
        entry
        for entry in audit["claims"]
        if entry["module"] == module and entry["claim"].endswith(claim)
    )
    return float("inf") if entry["bound"][1] is None else entry["bound"][1]
