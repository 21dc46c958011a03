"""norm-preserving and orthogonal: isometries, projections and relaxations, and explicit Euler."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import Function, dense, heun, judged, relaxed, skew_field
from torch import Tensor, nn

from dsnn.models import NormProjection
from dsnn.operators.linear import Convolution


def _field(a: nn.Linear):
    return lambda x: skew_field(x, a)


def _projected(x: Tensor, a: nn.Linear) -> Tensor:
    phi = x + 0.2 * skew_field(x, a)
    return phi * (x.norm(dim=-1, keepdim=True) / phi.norm(dim=-1, keepdim=True))


def _normalised(x: Tensor, a: nn.Linear) -> Tensor:
    """The same, and φ is any network at all."""
    phi = torch.tanh(a(x))[:, :3]
    return x.norm(dim=-1, keepdim=True) * (phi / phi.norm(dim=-1, keepdim=True))


def _relaxed(x: Tensor, a: nn.Linear) -> Tensor:
    return relaxed(x, heun(x, _field(a)))


def _directional(x: Tensor, a: nn.Linear) -> Tensor:
    """φ + l (x - φ), with l from inner products."""
    d = heun(x, _field(a)) - x
    l = 1 + 2 * (x * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True)
    return (x + d) - l * d


def _shortened(x: Tensor) -> Tensor:
    return NormProjection(3, 2)(x)


def _lengthened(x: Tensor, a: nn.Linear) -> Tensor:
    """Nine entries from three."""
    phi = a(x)
    return phi * (x.norm(dim=-1, keepdim=True) / phi.norm(dim=-1, keepdim=True))


def _lifted() -> nn.Module:
    torch.manual_seed(1)
    lift = nn.utils.parametrizations.orthogonal(nn.Linear(3, 5, bias=False))
    inner = Function(_relaxed, dense(5, 25))
    return nn.Sequential(lift, inner, Function(lambda x: -x.flip(-1)), Function(torch.abs))


@pytest.mark.parametrize(
    ("module", "exact"),
    [
        (Function(_projected, dense(3, 9)), True),
        (Function(_normalised, dense(3, 9)), True),
        (Function(_relaxed, dense(3, 9)), True),
        (Function(_directional, dense(3, 9)).double(), True),
        (Function(_shortened).double(), True),
        (Function(_lengthened, nn.Linear(3, 9, bias=False)), True),
        (_lifted(), False),
    ],
    ids=[
        "projection",
        "normalisation",
        "relaxation",
        "directional",
        "to fewer",
        "to more",
        "network",
    ],
)
def test_norm_is_proved(module: nn.Module, exact: bool):
    judgement = judged("norm-preserving", module, 3)
    assert judgement.outcome == "proved"
    assert judgement.evidence["exact"] is exact
    assert judgement.upper is not None
    assert judgement.upper < 1e-6
    x = torch.randn(50, 3, dtype=torch.float64)
    change = module.double()(x).norm(dim=1) / x.norm(dim=1) - 1
    assert float(change.abs().max()) <= judgement.upper + 1e-12


def _euler(x: Tensor, a: nn.Linear) -> Tensor:
    return x + 0.2 * skew_field(x, a)


def _wrong_relaxation(x: Tensor, a: nn.Linear) -> Tensor:
    phi = heun(x, _field(a))
    gap = (phi**2).sum(-1, keepdim=True) - (x**2).sum(-1, keepdim=True)
    l = gap / ((phi - x) ** 2).sum(-1, keepdim=True)
    return (1 - l) * phi + 1.001 * l * x


def _safe_projection(x: Tensor, a: nn.Linear) -> Tensor:
    """An epsilon in the denominator breaks the identity."""
    phi = x + 0.2 * skew_field(x, a)
    return phi * (x.norm(dim=-1, keepdim=True) / (phi.norm(dim=-1, keepdim=True) + 1e-3))


def _wrong_norm(x: Tensor, a: nn.Linear) -> Tensor:
    """To two entries, with the norm of the two instead of all three."""
    phi = x[:, :2] + 0.2 * skew_field(x, a)[:, :2]
    return phi * (x[:, :2].norm(dim=-1, keepdim=True) / phi.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("function", [_euler, _wrong_relaxation, _safe_projection, _wrong_norm])
def test_norm_is_refuted(function):
    torch.manual_seed(0)
    module = Function(function, dense(3, 9))
    judgement = judged("norm-preserving", module, 3)
    assert judgement.outcome == "refuted"
    x = judgement.point
    assert x is not None
    assert judgement.lower is not None
    change = abs(float(module.double()(x[None]).norm() / x.norm()) - 1)
    assert 1e-5 < judgement.lower <= change * (1 + 1e-6)


def test_a_bias_moves_the_origin():
    orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    assert judged("norm-preserving", orthogonal, 3).outcome == "refuted"
    assert judged("orthogonal", orthogonal, 3).outcome == "proved"


def _delta() -> nn.Module:
    torch.manual_seed(0)
    return Convolution(4, 4, 3, circular=True)


@pytest.mark.parametrize(
    ("module", "shape", "exact"),
    [
        (nn.utils.parametrizations.orthogonal(nn.Linear(5, 7)), (5,), False),
        (nn.utils.parametrizations.orthogonal(nn.Linear(5, 5).double()), (5,), False),
        (_delta(), (4, 4, 4), False),
        (nn.PixelShuffle(2), (4, 3, 3), True),
        (Function(lambda x: torch.cat([x.roll(1, -1), 0 * x], -1)), (3,), True),
    ],
)
def test_orthogonal_is_proved(module: nn.Module, shape: tuple[int, ...], exact: bool):
    judgement = judged("orthogonal", module, *shape)
    assert judgement.outcome == "proved"
    assert judgement.evidence["exact"] is exact


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(4, 4), (4,)),
        (nn.utils.parametrizations.orthogonal(nn.Linear(7, 5)), (7,)),
        (nn.Conv2d(2, 2, 3, padding=1), (2, 4, 4)),
        (nn.ReLU(), (4,)),
        (Function(lambda x: 1.0001 * x), (4,)),
    ],
)
def test_orthogonal_is_refuted(module: nn.Module, shape: tuple[int, ...]):
    judgement = judged("orthogonal", module, *shape)
    assert judgement.outcome == "refuted"
    assert judgement.directions is not None
    assert judgement.lower is not None
    assert judgement.lower > 1e-5
    if judgement.upper is not None:
        assert judgement.lower <= judgement.upper


def test_an_isometry_that_is_not_affine_is_not_proved():
    judgement = judged("orthogonal", Function(torch.abs), 4)
    assert judgement.outcome != "proved"
    assert judged("norm-preserving", Function(torch.abs), 4).outcome == "proved"


@pytest.mark.parametrize("claim", ["orthogonal", "volume-preserving"])
def test_examples_that_are_single_numbers(claim: str):
    """Of shape (): their Jacobian is a matrix all the same."""
    assert judged(claim, Function(torch.tanh)).outcome == "refuted"
    assert judged(claim, Function(torch.neg)).outcome == "proved"


def _max_min(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: _max_min(*x.chunk(2, 1)), (6,)),
        (lambda x: _max_min(x[:, 0::2], x[:, 1::2]).flip(-1), (4, 3, 3)),
        (lambda x: torch.cat([_max_min(x[:, :1], x[:, 2:]), x[:, 1:2]], 1), (3,)),
    ],
)
def test_pairs_that_are_sorted_keep_the_norm(function, shape: tuple[int, ...]):
    judgement = judged("norm-preserving", Function(function), *shape)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.sort(1).values, (5,)),
        (lambda x: x.unflatten(1, (2, 3)).sort(2, descending=True)[0].flatten(1, 2), (6, 2, 2)),
        (lambda x: torch.cat([x.amin(1, keepdim=True), x.max(1, keepdim=True)[0]], 1), (2, 3)),
        (lambda x: torch.cat([x[:, 3:].sort(1)[0], x[:, :3].sort(1)[0].flip(1)], 1), (7,)),
        (lambda x: torch.cat([x.sort(1)[0][:, 2:], x.sort(1)[0][:, :2]], 1), (5,)),
    ],
)
def test_sorted_entries_keep_the_norm(function, shape: tuple[int, ...]):
    judgement = judged("norm-preserving", Function(function), *shape)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)
    judgement = judged("mass-preserving", Function(function), *shape)
    assert (judgement.outcome, judgement.upper) == ("proved", 0.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sort(1)[0][:, 1:],
        lambda x: x.sort(1)[0][:, [0, 0, 2]],
        lambda x: torch.cat([x.sort(1)[0][:, 1:], x[:, :1]], 1),
        lambda x: x.sort(1)[0] * torch.tensor([1.0, 2.0, 1.0]),
        lambda x: F.pad(x, (1, 0)).sort(1)[0][:, :3],
    ],
)
@pytest.mark.parametrize("claim", ["norm-preserving", "mass-preserving"])
def test_some_of_the_sorted_entries_do_not(function, claim: str):
    assert judged(claim, Function(function), 3).outcome == "refuted"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: _max_min(x[:, :1], torch.zeros_like(x[:, :1])),
        lambda x: _max_min(x[:, :1], x[:, :1]),
        lambda x: _max_min(x[:, :1].roll(1, 1), torch.nn.functional.pad(x[:, :1], (1, 0))[:, :1]),
        lambda x: torch.maximum(x, x.flip(-1)),
    ],
)
def test_other_extremes_do_not(function):
    assert judged("norm-preserving", Function(function), 2).outcome == "refuted"
