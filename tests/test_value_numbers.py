"""Entries with one number are equal for every input: shapes count, not only what lies in memory."""

import pytest
import torch
from property_modules import Function
from torch import Tensor, nn

from verification import audit
from verification.capture import capture
from verification.interpret import Interpreter
from verification.value_numbers import ZERO, value_numbers


def _views(kind: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same operator on two views of the same six entries, along what is dimension 1 of both."""
    wide, tall = x.reshape(-1, 2, 3), x.reshape(-1, 3, 2)
    if kind == "softmax":
        return wide.softmax(1).flatten(1), tall.softmax(1).flatten(1)
    if kind == "sort":
        return wide.sort(1)[0].flatten(1), tall.sort(1)[0].flatten(1)
    if kind == "norm":
        norms = (v.norm(dim=1, keepdim=True).expand_as(v).flatten(1) for v in (wide, tall))
        return next(norms), next(norms)
    if kind == "maximum":
        tops = (v.amax(1, keepdim=True).expand_as(v).flatten(1) for v in (wide, tall))
        return next(tops), next(tops)
    if kind == "mean":
        means = (v.mean(1, keepdim=True).expand_as(v).flatten(1) for v in (wide, tall))
        return next(means), next(means)
    wide, tall = (v - v.mean(2, keepdim=True) for v in (wide, tall))
    return (
        torch.nn.functional.layer_norm(wide, wide.shape[2:]).flatten(1),
        torch.nn.functional.layer_norm(tall, tall.shape[2:]).flatten(1),
    )


KINDS = ("softmax", "norm", "maximum", "normalise", "sort", "mean")


@pytest.mark.parametrize("kind", KINDS)
def test_two_views_are_two_computations(kind: str):
    def both(x: Tensor) -> Tensor:
        left, right = _views(kind, x)
        return torch.cat([left, right, torch.tanh(left), torch.tanh(right)], 1)

    graph = capture(Function(both), (6,))
    numbers = value_numbers(graph)[graph.output].flatten().tolist()
    values = Interpreter(graph).double()(torch.randn(16, 6, dtype=torch.float64)).T
    for i, one in enumerate(numbers):
        for j in range(i):
            if one == numbers[j] and one != ZERO:
                assert torch.allclose(values[i], values[j]), (i, j)
    apart = [a != b for a, b in zip(numbers[:6], numbers[6:12], strict=True)]
    assert any(apart)


@pytest.mark.parametrize("kind", KINDS[:-2])  # sorts and means of any views keep the sum
@pytest.mark.parametrize("claim", ["mass-preserving", "orthogonal", "volume-preserving"])
def test_what_would_cancel_if_the_views_were_one_is_not_proved(kind: str, claim: str):
    def step(x: Tensor) -> Tensor:
        left, right = _views(kind, x)
        return x + left - right

    assert audit(Function(step), claim, (6,), budget=0.5).verdicts[0].outcome != "proved"


def test_two_group_norms_are_no_contraction():
    """Proved with 0.9 while the Jacobian at a random point has norm above 10."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.two, self.four = nn.GroupNorm(2, 8), nn.GroupNorm(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return 0.9 * x + (self.two(x) - self.four(x))

    (verdict,) = audit(Two(), "contractive", (8, 3), budget=0.5).verdicts
    assert verdict.outcome != "proved"
    assert verdict.upper > 10


def test_the_same_twice_is_one_number():
    """What the sharing is for: the difference cancels."""
    (verdict,) = audit(
        Function(lambda x: x + x.softmax(1) - x.clone().softmax(1)), "orthogonal", (6,)
    ).verdicts
    assert (verdict.outcome, verdict.upper) == ("proved", 0.0)
