"""symplectic and volume-preserving: shears and compositions, and what only looks like them."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import (
    ConvolutionGradient,
    Function,
    dense,
    explicit_euler,
    gradient,
    judged,
    skew_field,
    split_step,
    symplectic_euler,
)
from torch import Tensor, nn

from dsnn.errors import UserError


def _verlet(x: Tensor, a: nn.Linear, b: nn.Linear) -> Tensor:
    q, p = x.chunk(2, -1)
    p = p - 0.1 * gradient(q, b)
    q = q + 0.2 * gradient(p, a)
    return torch.cat([q, p - 0.1 * gradient(q, b)], -1)


def _both_plus(x: Tensor, a: nn.Linear, b: nn.Linear) -> Tensor:
    """Not a Hamiltonian pair by its signs, and still a composition of symplectic shears."""
    return split_step(x, lambda p: gradient(p, a), lambda q: -gradient(q, b))


def _any_shear(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    return split_step(x, a, b)


def _network(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, n), nn.SiLU())


def _interleaved(x: Tensor, a: nn.Linear) -> Tensor:
    """Pairs (x_0, x_1), (x_2, x_3) that are sheared within: q are the entries of even number."""
    q, p = x[:, 0::2], x[:, 1::2]
    return torch.stack([q + 0.2 * gradient(p, a), p], -1).flatten(1)


def _rotation(x: Tensor) -> Tensor:
    q, p = x.chunk(2, -1)
    return torch.cat([p, -q], -1)


def _nets(count: int) -> list[nn.Module]:
    torch.manual_seed(count)
    return [dense(3, 5) for _ in range(count)]


def _true() -> dict[str, tuple[str, nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    steps = (
        Function(symplectic_euler, *_nets(2)),
        Function(_verlet, *_nets(2)),
        Function(_rotation),
    )
    conv = [ConvolutionGradient(2, 3, circular=k == 0) for k in range(2)]

    def images(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        return split_step(x, a, b, dim=1)

    return {
        "euler": ("symplectic", Function(symplectic_euler, *_nets(2)), (6,)),
        "float64 flow": ("symplectic", nn.Sequential(*steps).double(), (6,)),
        "plus": ("symplectic", Function(_both_plus, *_nets(2)), (6,)),
        "images": ("symplectic[dim=0]", Function(images, *conv), (4, 5, 5)),
        "volume of a flow": ("volume-preserving", nn.Sequential(*steps), (6,)),
        "volume of any shear": (
            "volume-preserving",
            Function(_any_shear, _network(3), _network(3)),
            (6,),
        ),
        "volume of a permutation": ("volume-preserving", Function(lambda x: -x.flip(-1)), (5,)),
        "volume of pairs": ("volume-preserving", Function(_interleaved, dense(3, 5)), (6,)),
    }


@pytest.mark.parametrize("name", _true())
def test_proved_exactly(name: str):
    claim, module, shape = _true()[name]
    judgement = judged(claim, module, *shape)
    assert judgement.outcome == "proved"
    assert judgement.upper == 0
    theorem = "T12" if claim.startswith("volume") else "T13"
    assert judgement.evidence["theorem"] == theorem
    assert all(theorem in part for part in judgement.evidence["parts"])


def _false() -> dict[str, tuple[str, nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    shear = Function(_any_shear, _network(3), _network(3))
    return {
        "explicit Euler": ("symplectic", Function(explicit_euler, *_nets(2)), (6,)),
        "volume of explicit Euler": (
            "volume-preserving",
            Function(explicit_euler, *_nets(2)),
            (6,),
        ),
        "no gradients": ("symplectic", shear, (6,)),
        "other halves": ("symplectic", Function(_interleaved, dense(3, 5)), (6,)),
        "a stretch": (
            "volume-preserving",
            nn.Sequential(Function(lambda x: 1.001 * x), shear),
            (6,),
        ),
        "an activation": ("volume-preserving", nn.Sequential(shear, nn.LeakyReLU(0.5)), (6,)),
    }


@pytest.mark.parametrize("name", _false())
def test_refuted(name: str):
    claim, module, shape = _false()[name]
    judgement = judged(claim, module, *shape)
    assert judgement.outcome == "refuted"
    x = judgement.point
    assert x is not None
    assert judgement.lower is not None
    jacobian = torch.autograd.functional.jacobian(lambda t: module.double()(t[None])[0], x)
    assert isinstance(jacobian, Tensor)
    if claim == "volume-preserving":
        defect = abs(abs(float(torch.linalg.det(jacobian))) - 1)
    else:
        s = torch.tensor([[0.0, 1], [-1, 0]], dtype=torch.float64).kron(torch.eye(3).double())
        gap = torch.linalg.matrix_norm(jacobian.T @ s @ jacobian - s, 2)
        defect = float(gap) / max(1.0, float(torch.linalg.matrix_norm(jacobian, 2)) ** 2)
    assert 1e-5 < judgement.lower <= defect * (1 + 1e-6)


def test_a_planted_sign_in_the_middle_of_a_flow():
    """One step of five goes q+ = q + h f(p) with f no gradient: D AᵀΣ."""
    torch.manual_seed(0)
    d = torch.tensor([1.0, 1.1, 0.9])

    def planted(x: Tensor, a: nn.Linear, b: nn.Linear, d: Tensor) -> Tensor:
        return split_step(x, lambda p: d * gradient(p, a), lambda q: gradient(q, b))

    steps = [Function(symplectic_euler, *_nets(2)) for _ in range(2)]
    flow = nn.Sequential(*steps, Function(planted, *_nets(2), d))
    assert judged("symplectic", flow, 6).outcome == "refuted"
    assert judged("volume-preserving", flow, 6).outcome == "proved"


def test_rounded_weights_are_a_defect():
    torch.manual_seed(0)
    a = dense(3, 5)
    scaled = (0.3 * a.weight.double()).float().detach()

    def shear(x: Tensor, a: nn.Linear, weight: Tensor) -> Tensor:
        q, p = x.chunk(2, -1)
        return torch.cat([q + F.linear(torch.tanh(a(p)), weight.T), p], -1)

    judgement = judged("symplectic", Function(shear, a, scaled), 6)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert 0 < judgement.upper < 1e-6


def test_rows_that_are_scaled_in_float32_are_no_defect():
    """Aᵀ diag(alpha), computed in float32, was taken as rounded: more than a hundred entries."""
    torch.manual_seed(0)

    def step(x: Tensor, a: nn.Linear, alpha: Tensor) -> Tensor:
        return split_step(x, torch.tanh, lambda q: F.linear(torch.tanh(a(q)), (alpha * a.weight).T))

    judgement = judged("symplectic", Function(step, dense(8, 32), torch.randn(32, 1)), 16)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert judgement.upper < 1e-14


def test_linear_maps():
    torch.manual_seed(0)
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(6, 6))
    judgement = judged("volume-preserving", orthogonal, 6)
    assert judgement.outcome == "proved"
    assert judgement.upper is not None
    assert 0 < judgement.upper < 1e-6
    assert judged("symplectic", orthogonal, 6).outcome == "refuted"
    assert judged("volume-preserving", nn.Linear(6, 6), 6).outcome == "refuted"


def test_what_no_theorem_covers_is_unknown():
    """Heun's method on a divergence-free field is close to volume-preserving, but not proved."""
    torch.manual_seed(0)

    def tiny(x: Tensor, a: nn.Linear) -> Tensor:
        return x + 1e-9 * skew_field(x, a)

    judgement = judged("volume-preserving", Function(tiny, dense(3, 9)), 3)
    assert judgement.outcome == "unknown"
    assert judgement.upper is None
    assert judgement.lower is not None
    assert judgement.lower <= 1e-5


@pytest.mark.parametrize(
    ("claim", "module", "shape", "expected"),
    [
        ("symplectic", nn.Tanh(), (5,), "odd"),
        ("symplectic[dim=2]", nn.Tanh(), (4,), "dimension 2"),
        ("symplectic", nn.Linear(4, 2), (4,), "keeps the shape"),
        ("volume-preserving", nn.Linear(4, 2), (4,), "square"),
        ("gradient-field", nn.Linear(4, 2), (4,), "square"),
        ("equivariant:shift", nn.AvgPool2d(2), (1, 4, 4), "extent"),
    ],
)
def test_claims_that_make_no_sense(
    claim: str, module: nn.Module, shape: tuple[int, ...], expected: str
):
    with pytest.raises(UserError, match=expected) as error:
        judged(claim, module, *shape)
    assert "\n" not in str(error.value)


def test_large_states_take_little_memory():
    """A dense matrix of the form would have 2^30 entries, that of the convolution 2^31."""
    halves = Function(lambda x: torch.cat([x[:, 16:], -x[:, :16]], 1))
    judgement = judged("symplectic[dim=0]", halves, 32, 32, 32)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)
    wide = judged("gradient-field", nn.Conv2d(512, 512, 3, padding=1, bias=False), 512, 32, 32)
    assert "too large" in wide.evidence["text"]


def test_entries_that_many_others_are_made_of():
    """Every entry less the mean of all: 2^31 entries and more, which scipy counts in 32 bits."""
    centred = judged("gradient-field", Function(lambda x: x - x.mean((1, 2, 3), True)), 1, 224, 224)
    assert "too large" in centred.evidence["text"]


def test_normalised_entries_take_little_memory():
    """Each reads all others: an edge for every pair of them would be 2^30 edges."""
    inner = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.GroupNorm(4, 32), nn.ReLU(),
        nn.Conv2d(32, 32, 1), nn.GroupNorm(4, 32), nn.Conv2d(32, 3, 1),
    )  # fmt: skip
    coupled = Function(lambda x, f: torch.cat([x[:, :3] + f(x[:, 3:]), x[:, 3:]], 1), inner)
    judgement = judged("volume-preserving", coupled, 6, 32, 32)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)
