"""Norms of the convolutions of the published networks: ours, and what others offer."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dsnn.data.folder import data_folder
from dsnn.errors import UserError
from dsnn.models.cifar import SIDE, CifarNet
from dsnn.operators import Convolution, banded, estimate, grid, symbol
from dsnn.operators.bounds import of_convolution
from dsnn.operators.geometry import Geometry
from dsnn.weights import load

REFERENCE_STEPS = (50, 100, 200, 400)
"""Lanczos steps of the reference, which is converged when more of them add less than 1e-6."""
SLOW = ("ours: --tight", "orthogonium, Gram iteration (4)")
"""Methods that take up to a minute for a kernel: measured on the first of each shape."""


@dataclass
class Tally:
    """What one method gave on all kernels, relative to the reference."""

    sound: str
    ratios: list[float] = field(default_factory=list)
    below: int = 0
    seconds: list[float] = field(default_factory=list)

    def row(self, method: str) -> dict[str, object]:
        return {
            "method": method,
            "sound": self.sound,
            "kernels": f"{len(self.ratios)}, {'one of each shape' if method in SLOW else 'all'}",
            "lowest value / norm": round(min(self.ratios), 6),
            "highest value / norm": round(max(self.ratios), 6),
            "below the norm": self.below,
            "median [ms]": round(1e3 * statistics.median(self.seconds), 2),
            "slowest [ms]": round(1e3 * max(self.seconds), 2),
        }


def run() -> list[dict[str, object]]:
    """A row per method over the kernels of all published files."""
    methods = _methods()
    tallies = {name: Tally(sound) for name, (sound, _) in methods.items()}
    shapes: set[tuple[int, ...]] = set()
    for weight, geometry in _kernels():
        reference = _reference(weight, geometry)
        known = tuple(weight.shape) in shapes
        shapes.add(tuple(weight.shape))
        for name, (_, method) in methods.items():
            if known and name in SLOW:
                continue
            start = time.perf_counter()
            value = method(weight, geometry)
            tally = tallies[name]
            tally.seconds.append(time.perf_counter() - start)
            tally.ratios.append(value / reference)
            tally.below += value < reference
    return [tally.row(name) for name, tally in tallies.items()]


def published_files() -> list[tuple[Path, str]]:
    """The published weights in the data folder, each with its architecture."""
    files = sorted((data_folder().path / "published").glob("cifar10_*.pt"))
    if not files:
        raise UserError(
            f"no published weights in {data_folder()}: fetch them with dsnn data weights"
        )
    return [(path, path.stem[8:].rsplit("_", 1)[0].replace("_", "-")) for path in files]


def _kernels() -> Iterator[tuple[Tensor, Geometry]]:
    for path, arch in published_files():
        net = load(path, arch).net
        assert isinstance(net, CifarNet)
        for k, stage in enumerate(net.stages):
            geometry = Geometry((SIDE >> k, SIDE >> k), padding=(1, 1, 1, 1))
            for module in stage.modules():
                if isinstance(module, Convolution):
                    yield module.weight.detach(), geometry


def _reference(weight: Tensor, geometry: Geometry) -> float:
    """A lower bound on the norm in float64: the ratio at the converged Lanczos vector."""
    value = 0.0
    for steps in REFERENCE_STEPS:
        vector = estimate.lanczos(weight, geometry, steps).largest_vector
        before, value = value, estimate.ratio(weight, geometry, vector)[0]
        if value <= before * (1 + 1e-6):
            break
    return value


def _methods() -> dict[str, tuple[str, Callable[[Tensor, Geometry], float]]]:
    """Method -> (whether its value is a bound on the executed map, and in which sense; value)."""
    return {
        "ours: torus symbol, Cholesky": ("proved in float64", symbol.norm_upper),
        "ours: coarse grid, Gram iteration": ("proved in float64", grid.norm_upper),
        "ours: --tight": ("proved in float64", _tight),
        "power iteration, 100 steps": ("no: from below", _power_iteration),
        "orthogonium, Gram iteration (4)": ("yes, but for rounding", _orthogonium),
        "deel-torchlip, kernel norm / coefficient": ("no: 10 power steps", _torchlip),
    }


def _tight(weight: Tensor, geometry: Geometry) -> float:
    assert banded.feasible(weight, geometry)
    return of_convolution(weight, geometry, tight=True).norm[1]


@torch.no_grad()
def _power_iteration(weight: Tensor, geometry: Geometry) -> float:
    x = torch.randn(
        1, weight.shape[1], *geometry.extent, generator=torch.Generator().manual_seed(0)
    )
    for _ in range(100):
        y = geometry.apply(weight, x)
        x = nn.functional.conv_transpose2d(y, weight, padding=1)
        x = x / x.norm()
    return float(geometry.apply(weight, x).norm())


def _layer(weight: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    layer.weight.data = weight
    return layer


def _orthogonium(weight: Tensor, geometry: Geometry) -> float:
    from orthogonium.layers.conv.singular_values import get_conv_sv  # pyright: ignore[reportMissingImports]

    value = get_conv_sv(_layer(weight), n_iter=4, return_stab_rank=False)
    assert isinstance(value, Tensor)
    return float(value)


def _torchlip(weight: Tensor, geometry: Geometry) -> float:
    """What SpectralConv2d divides by: a power iteration on the reshaped kernel, over the
    coefficient of the convolution's shape."""
    from deel.torchlip.normalizers import spectral_normalization  # pyright: ignore[reportMissingImports]
    from deel.torchlip.utils.lconv_norm import compute_lconv_coef  # pyright: ignore[reportMissingImports]

    _, _, sigma = spectral_normalization(weight.flatten(1), None, eps=1e-3)
    return float(sigma) / float(compute_lconv_coef((3, 3), (1, *geometry.extent)))
