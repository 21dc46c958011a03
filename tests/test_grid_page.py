"""The paper's picture is in the kept networks of the narrow grid, at every margin."""

import pytest

from experiments.protocol import MARGINS
from paper_repro import grid_page

LARGE = (0.5, 0.6, 0.8, 1.0)


@pytest.mark.parametrize("margin", MARGINS)
def test_the_unconstrained_network_is_best_clean_and_worst_under_large_attacks(margin: float):
    found = {
        regime: shares for (regime, m), shares in grid_page.kept("cifar10").items() if m == margin
    }
    unconstrained = found.pop("unconstrained")
    assert unconstrained[0] > max(shares[0] for shares in found.values())
    for epsilon in LARGE:
        assert unconstrained[epsilon] < min(shares[epsilon] for shares in found.values())
