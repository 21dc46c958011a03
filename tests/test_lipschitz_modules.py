"""Random modules: no bound that is proved is ever below a witness."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import just
from random_modules import Layer, Step, build, images, vectors
from torch import Tensor, nn

from verification import witness
from verification.capture import capture
from verification.lipschitz import derive

Architecture = tuple[tuple[int, ...], list[Layer], int]


def attack(architecture: Architecture, seconds: float) -> None:
    shape, layers, seed = architecture
    module = build(shape, layers, seed)
    graph = capture(module, shape)
    upper = derive(graph).upper
    options = {"target": upper, "budget_seconds": seconds, "seed": seed % 100}
    pair = witness.search(module, shape, graph=graph, **options)
    assert math.isfinite(upper)
    assert pair is None or upper >= pair.ratio


def campaign(examples: int) -> Callable[..., None]:
    """The attack on `examples` modules of each family; a failure is shrunk to few layers."""
    checks = [HealthCheck.too_slow, HealthCheck.differing_executors]
    phases = (Phase.generate, Phase.shrink)
    chosen = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
        phases=phases,
    )

    def run() -> None:
        chosen(given(vectors, just(0.3))(attack))()
        chosen(given(images, just(0.3))(attack))()

    return run


def test_no_bound_of_a_random_module_is_below_a_witness():
    campaign(8)()


@pytest.mark.slow
def test_no_bound_of_two_thousand_random_modules_is_below_a_witness():
    campaign(1000)()


def exact(build: Callable[[Tensor], Tensor], units: int, slopes: tuple[float, float]) -> float:
    """The largest norm of a Jacobian over all patterns of slopes, each of which occurs somewhere
    when the rows of the first matrix are independent."""
    patterns = itertools.product(slopes, repeat=units)
    diagonals = torch.diag_embed(torch.tensor(list(patterns), dtype=torch.float64))
    return float(torch.linalg.matrix_norm(build(diagonals), 2).max())


@pytest.mark.parametrize("h", [0.3, 0.9, -0.5])
def test_a_gradient_step_has_its_exact_constant(h: float):
    """T7 and T8' are sharp, up to s_min of a wide matrix, which is 0."""
    torch.manual_seed(3)
    inner = nn.Linear(6, 6).double()
    step = Step(inner, -h, nn.LeakyReLU(0.25), False)
    a = inner.weight.detach()
    true = exact(lambda d: torch.eye(6, dtype=torch.float64) - h * a.T @ d @ a, 6, (0.25, 1.0))
    upper = derive(capture(step, (6,))).upper
    assert true * (1 - 1e-13) <= upper <= true * (1 + 1e-6)


def test_a_layer_pair_is_within_its_product():
    torch.manual_seed(4)
    first, second = nn.Linear(8, 6).double(), nn.Linear(6, 5).double()
    a, b = first.weight.detach(), second.weight.detach()
    true = exact(lambda d: b @ d @ a, 6, (0.0, 1.0))
    upper = derive(capture(nn.Sequential(first, nn.ReLU(), second), (8,))).upper
    assert true * (1 - 1e-13) <= upper <= 2 * true


def test_a_rule_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted error: a concatenation counted as the larger of its parts."""
    from verification import constant, lipschitz

    monkeypatch.setattr(lipschitz, "root_sum_square", lambda numbers: max([*numbers], default=0.0))
    monkeypatch.setattr(lipschitz, "_together", lipschitz._root)
    assert constant.root_sum_square([3, 4]) == 5
    architecture = ((6,), [("branches", "concat")], 1)
    with pytest.raises(AssertionError):
        attack(architecture, seconds=60)  # it stops at the first pair above the bound
