"""Lipschitz bounds of small networks over their exact constants, or the largest Jacobian found."""

import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.operators.bounds import of_matrix
from verification import constant, sdp
from verification.capture import capture
from verification.lipschitz import derive

DOWN = 1 - 1e-12
"""Takes the rounding of a Jacobian of these sizes and of its norm off, and more."""
POINTS = 4096


@dataclass(frozen=True)
class Case:
    """A module in float64. `reference` is its constant, or a value at most that, up to rounding;
    `product` the bound that multiplies and adds norms."""

    module: nn.Module
    shape: tuple[int, ...]
    reference: float
    product: float


def over_patterns(outer: Tensor, inner: Tensor, slopes: tuple[float, float], skip: float) -> float:
    """max |outer D inner + skip I| over diagonal D of the two slopes. The norm is convex in D, so
    this is the constant of x -> outer σ(inner x) + skip x where σ is piecewise linear with these
    slopes and the rows of `inner` are independent, as then every D occurs."""
    assert int(torch.linalg.matrix_rank(inner)) == len(inner)
    patterns = torch.tensor(list(itertools.product(slopes, repeat=len(inner))), dtype=outer.dtype)
    total = (outer * patterns[:, None, :]) @ inner
    if skip:
        total = total + skip * torch.eye(total.shape[-1], dtype=outer.dtype)
    return float(torch.linalg.matrix_norm(total, 2).max())


class Residual(nn.Module):
    """x + outer σ(inner x + bias)."""

    def __init__(self, inner: nn.Linear, activation: nn.Module, outer: nn.Linear):
        super().__init__()
        self.inner, self.activation, self.outer = inner, activation, outer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.activation(self.inner(x)))


class Gradient(nn.Module):
    """x - h innerᵀ σ(inner x + bias)."""

    def __init__(self, inner: nn.Linear, activation: nn.Module, h: float):
        super().__init__()
        self.inner, self.activation, self.h = inner, activation, h

    def forward(self, x: Tensor) -> Tensor:
        z = self.activation(self.inner(x))
        return x - self.h * nn.functional.linear(z, self.inner.weight.T)


def _dense(n: int, m: int) -> nn.Linear:
    return nn.Linear(n, m, dtype=torch.float64)


def _product(matrices: list[Tensor], skip: int = 0, factor: float = 1.0) -> float:
    """Norms multiplied, for slopes of at most 1, and added to that of the skip connection."""
    norms: list[constant.Number] = [of_matrix(matrix).norm[1] for matrix in matrices]
    return constant.weighted_sum([(skip, []), (Fraction(factor), norms)])


def _shallow(activation: nn.Module, slopes: tuple[float, float]) -> Case:
    first, last = _dense(7, 6), _dense(6, 4)
    a, b = first.weight.detach(), last.weight.detach()
    module = nn.Sequential(first, activation, last)
    return Case(module, (7,), over_patterns(b, a, slopes, 0), _product([a, b]))


def _residual() -> Case:
    first, last = _dense(6, 6), _dense(6, 6)
    a, b = first.weight.detach(), last.weight.detach()
    reference = over_patterns(b, a, (0, 1), 1)
    return Case(Residual(first, nn.ReLU(), last), (6,), reference, _product([a, b], 1))


def _gradient() -> Case:
    first, h = _dense(6, 6), 0.75
    a = first.weight.detach()
    reference = over_patterns(-h * a.T, a, (0.25, 1), 1)
    return Case(
        Gradient(first, nn.LeakyReLU(0.25), h), (6,), reference, _product([a, a], 1, factor=h)
    )


def _convolutional() -> Case:
    """Both convolutions unrolled: those of the unit vectors, without the bias."""
    layers = [nn.Conv1d(1, 1, 3, padding=1, dtype=torch.float64) for _ in range(2)]
    unit = torch.eye(8, dtype=torch.float64)[:, None]
    a, b = (
        nn.functional.conv1d(unit, layer.weight.detach(), padding=1)[:, 0].T.contiguous()
        for layer in layers
    )
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    return Case(module, (1, 8), over_patterns(b, a, (0, 1), 0), _product([a, b]))


def _deep(activation: nn.Module) -> Case:
    """The largest Jacobian at points of several scales: from below only."""
    layers = [_dense(5, 6), _dense(6, 5), _dense(5, 3)]
    module = nn.Sequential(layers[0], activation, layers[1], activation, layers[2])
    x = torch.randn(POINTS, 5, dtype=torch.float64) * torch.logspace(-2, 1, POINTS)[:, None]
    jacobians = torch.func.vmap(torch.func.jacrev(module))(x).detach()
    found = float(torch.linalg.matrix_norm(jacobians, 2).max())
    return Case(module, (5,), found, _product([layer.weight.detach() for layer in layers]))


EXACT = "exact"
FAMILIES: dict[str, tuple[int, str, Callable[[], Case]]] = {
    "one hidden layer, relu": (60, EXACT, lambda: _shallow(nn.ReLU(), (0, 1))),
    "one hidden layer, leaky relu": (
        40, EXACT, lambda: _shallow(nn.LeakyReLU(0.25), (0.25, 1)),
    ),
    "residual x + B relu(Ax + b)": (40, EXACT, _residual),
    "gradient step, leaky relu": (40, EXACT, _gradient),
    "two convolutions, relu": (20, EXACT, _convolutional),
    "two hidden layers, relu": (40, "from below", lambda: _deep(nn.ReLU())),
    "two hidden layers, tanh": (20, "from below", lambda: _deep(nn.Tanh())),
}  # fmt: skip
"""Name -> (how many, what the reference is, the next one with weights as torch draws them)."""
BOUNDS = ("product", "theorems", "LipSDP")


def bounds(case: Case) -> tuple[float, float, float]:
    """By `BOUNDS`; each for itself, where an audit takes the least. Raises UserError where LipSDP
    has no answer."""
    graph = capture(case.module, case.shape)
    found = sdp.bound(graph, 2 * case.product)
    if found is None:
        raise UserError("LipSDP gave no bound: install the extra sdp (pip install 'dsnn[sdp]')")
    return case.product, derive(graph).upper, found.upper


def cases(count: int, make: Callable[[], Case]) -> Iterator[Case]:
    """`count` cases, the same ones every time."""
    for seed in range(count):
        torch.manual_seed(seed)
        yield make()


def run() -> list[dict[str, object]]:
    """A row per family and bound, then one per bound over all whose constant is exact: the bound
    over the reference, and how often it is below."""
    rows: list[dict[str, object]] = []
    exact: list[tuple[float, tuple[float, ...]]] = []
    for name, (count, kind, make) in FAMILIES.items():
        found = [(case.reference, bounds(case)) for case in cases(count, make)]
        rows += _rows(name, kind, found)
        exact += found if kind == EXACT else []
    return rows + _rows("all with an exact constant", EXACT, exact)


def _rows(
    family: str, kind: str, found: list[tuple[float, tuple[float, ...]]]
) -> list[dict[str, object]]:
    return [_row(family, kind, bound, k, found) for k, bound in enumerate(BOUNDS)]


def _row(
    family: str, kind: str, bound: str, k: int, found: list[tuple[float, tuple[float, ...]]]
) -> dict[str, object]:
    ratios = [values[k] / reference for reference, values in found]
    spread = {
        "min": min(ratios),
        "median": statistics.median(ratios),
        "90 %": statistics.quantiles(ratios, n=10, method="inclusive")[-1],
        "max": max(ratios),
    }
    return {
        "family": family,
        "n": len(found),
        "reference": kind,
        "bound over it": bound,
        **{name: round(value, 4) for name, value in spread.items()},
        "below": sum(values[k] < reference * DOWN for reference, values in found),
    }
