"""The replay of a witness proves no more than is true, and no isometry is ever refuted."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnn.errors import UserError
from verification.running_error import UnboundedOperation
from verification.witness import Witness, load, replay, save


def hadamard(order: int) -> Tensor:
    """Orthogonal in exact arithmetic for an even order: 2^order rows, entries ± 2^-(order/2)."""
    h = torch.ones(1, 1)
    for _ in range(order):
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / 2 ** (order // 2)


def shift_kernel() -> Tensor:
    kernel = torch.zeros(3, 3, 3, 3)
    for channel, (row, column) in enumerate([(0, 1), (2, 2), (1, 0)]):
        kernel[channel, (channel + 1) % 3, row, column] = -1 if channel else 1
    return kernel


def circular_shift(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), kernel)


ISOMETRIES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "translation": (Buffered(lambda x, b: x + b, torch.linspace(-3, 3, 64)), (64,)),
    "identity": (Buffered(lambda x: 1.0 * x), (64,)),
    "rotation": (Buffered(lambda x, w: F.linear(x, w), hadamard(6)), (64,)),
    "rotation twice": (Buffered(lambda x, w: F.linear(F.linear(x, w), w), hadamard(6)), (64,)),
    "shift of pixels": (Buffered(circular_shift, shift_kernel()), (3, 8, 8)),
}


@pytest.mark.parametrize("name", ISOMETRIES)
@pytest.mark.parametrize("distance", [1e-6, 8e-3, 1.0, 1e3])
def test_an_isometry_is_never_refuted(name: str, distance: float):
    module, shape = ISOMETRIES[name]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(shape, generator=generator)
        direction = torch.randn(shape, generator=generator)
        y = x + distance * direction / direction.norm()
        ratio = replay(module, x, y)
        assert ratio <= 1
        assert ratio > 1 - 1e-6 / distance - 1e-9


@pytest.mark.parametrize("name", ISOMETRIES)
def test_an_isometry_doubled_is_refuted(name: str):
    module, shape = ISOMETRIES[name]
    doubled = nn.Sequential(module, Buffered(lambda x: 2 * x))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ratio = replay(doubled, x, x + 0.01)
    assert 1.999 < ratio <= 2


@pytest.mark.parametrize("seed", range(20))
def test_a_replayed_ratio_of_a_linear_map_is_at_most_the_true_one(seed: int):
    """The true ratio in rational arithmetic: the squares are compared exactly."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((5, 7), generator=generator)
    x, y = torch.randn((2, 7), generator=generator)
    y = x + y * 10.0 ** -(seed % 6)
    ratio = replay(Buffered(lambda x, w, b: F.linear(x, w, b), weight, torch.randn(5)), x, y)
    difference = [Fraction(a) - Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    rows = [[Fraction(w) for w in row] for row in weight.tolist()]
    image = [sum(w * d for w, d in zip(row, difference, strict=True)) for row in rows]
    squared = Fraction(sum(v * v for v in image)) / Fraction(sum(d * d for d in difference))
    assert Fraction(ratio) ** 2 <= squared
    assert Fraction(ratio) ** 2 >= squared * Fraction("0.9999999")


def test_nothing_is_proved_by_equal_points_or_non_finite_values():
    module = Buffered(lambda x: 2 * x)
    x = torch.ones(3)
    assert replay(module, x, x.clone()) == 0
    for bad in (math.nan, math.inf):
        assert replay(module, x, torch.tensor([1.0, bad, 1.0])) == 0
    blown = Buffered(lambda x: (x * 1e300) * 1e300)
    assert replay(blown, x, 2 * x) == 0


def test_a_module_without_error_bounds_proves_nothing():
    with pytest.raises(UnboundedOperation, match="tanh"):
        replay(nn.Tanh(), torch.ones(3), torch.zeros(3))


def test_a_witness_survives_its_file(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn((2, 3, 4, 4), generator=generator)
    witness = Witness(x, y, 1.0 + 2**-52)
    save(tmp_path / "w.safetensors", witness, {"claim": "lipschitz<=1"})
    again = load(tmp_path / "w.safetensors")
    assert torch.equal(again.x, x)
    assert torch.equal(again.y, y)
    assert again.ratio == witness.ratio
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert file.metadata()["claim"] == "lipschitz<=1"


def test_what_is_no_witness_is_refused(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(UserError, match=r"w\.safetensors"):
        load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors"):
        load(path)
    x = torch.ones(3)
    for tensors, metadata in [
        ({"x": x}, {"ratio": "2.0"}),
        ({"x": x, "y": 2 * x}, {}),
        ({"x": x, "y": torch.ones(4)}, {"ratio": "2.0"}),
        ({"x": x, "y": x * math.nan}, {"ratio": "2.0"}),
        ({"x": x, "y": x.long()}, {"ratio": "2.0"}),
        ({"x": x, "y": 2 * x}, {"ratio": "nan"}),
        ({"x": x, "y": 2 * x}, {"ratio": "large"}),
    ]:
        save_file(tensors, path, metadata)
        with pytest.raises(UserError, match=r"w\.safetensors"):
            load(path)
