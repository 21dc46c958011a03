"""Numbers whose squares overflow or underflow: verdicts as for all others, and no traceback."""

import pytest
import torch
import torch.nn.functional as F
from property_modules import Function, judged
from torch import Tensor

CLAIMS = (
    "orthogonal", "gradient-field", "norm-preserving", "mass-preserving", "volume-preserving",
    "symplectic", "equivariant:shift",
)  # fmt: skip


def _step(x: Tensor, weight: Tensor) -> Tensor:
    return x + torch.tanh(F.linear(x, weight))


@pytest.mark.parametrize("size", [1e160, 1e200, 1e300, 1e-200])
@pytest.mark.parametrize("function", [F.linear, _step])
def test_no_claim_of_random_weights_is_proved(size: float, function):
    torch.manual_seed(0)
    module = Function(function, size * torch.randn(4, 4, dtype=torch.float64))
    for claim in CLAIMS:
        small = size < 1 and claim == "gradient-field"  # |J - Jᵀ| is below the tolerance
        if not (small or (size < 1 and function is _step)):
            assert judged(claim, module, 4).outcome != "proved", claim


def _shear(x: Tensor, weight: Tensor) -> Tensor:
    q, p = x.chunk(2, -1)
    return torch.cat([q + torch.tanh(F.linear(p, weight)), p], -1)


def test_0_times_a_bound_that_overflows_is_0():
    """Nothing times infinity was no number, and the verdict a traceback."""
    torch.manual_seed(0)
    linear = Function(F.linear, 1e100 * torch.randn(4, 4, dtype=torch.float64))
    assert judged("norm-preserving", linear, 4).outcome != "proved"
    shear = Function(_shear, 1e200 * torch.randn(2, 2, dtype=torch.float64))
    assert judged("symplectic", shear, 4).outcome == "unknown"


def test_a_bound_that_overflows_says_nothing():
    ones = Function(F.linear, 6e153 * torch.ones(4, 4, dtype=torch.float64))
    judgement = judged("symplectic", ones, 4)
    assert (judgement.outcome, judgement.upper) == ("unknown", None)
    assert "no finite bound" in judgement.evidence["text"]
