"""Random modules: no bound that is proved is ever below a witness."""

import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_modules import Layer, build, images, vectors

from verification import witness
from verification.capture import capture
from verification.lipschitz import derive

Architecture = tuple[tuple[int, ...], list[Layer], int]


def attack(architecture: Architecture) -> None:
    shape, layers, seed = architecture
    module = build(shape, layers, seed)
    graph = capture(module, shape)
    upper = derive(graph).upper
    pair = witness.search(module, shape, graph=graph, budget_seconds=0.3, seed=seed % 100)
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
        chosen(given(vectors)(attack))()
        chosen(given(images)(attack))()

    return run


def test_no_bound_of_a_random_module_is_below_a_witness():
    campaign(8)()


@pytest.mark.slow
def test_no_bound_of_two_thousand_random_modules_is_below_a_witness():
    campaign(1000)()


def test_a_rule_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted error: a concatenation counted as the larger of its parts."""
    from verification import constant, lipschitz

    monkeypatch.setattr(lipschitz, "root_sum_square", lambda numbers: max([*numbers], default=0.0))
    monkeypatch.setattr(lipschitz, "_together", lipschitz._root)
    assert constant.root_sum_square([3, 4]) == 5
    architecture = ((6,), [("branches", "concat")], 1)
    with pytest.raises(AssertionError):
        attack(architecture)
