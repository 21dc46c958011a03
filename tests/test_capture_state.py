"""Modules that keep something from call to call, or differ in training: what is refused of them."""

from collections.abc import Callable

import pytest
import torch
from test_capture_refusals import bent
from torch import Tensor, nn

from verification.capture import Uncapturable, capture
from verification.capture_reads import reads


@pytest.mark.parametrize("read", [Tensor.tolist, Tensor.numpy, str, lambda y: y.add(1)])
def test_what_an_earlier_call_kept_is_not_read_in_any_way(read: Callable[[Tensor], object]):
    """By methods that no operator stands for, too."""
    x, constant = torch.ones(3), torch.zeros(3)
    with reads(x) as earlier:
        kept = 2 * x
    with reads(torch.ones(3), earlier) as later:
        read(constant)
        assert not later.found
        read(kept)
    assert later.found
    assert all("kept of an earlier batch" in line for line in later.found)


class Keeps(nn.Module):
    """Makes a constant when it is first called, as Cayley layers and rotary embeddings do; or is
    `bent` then."""

    made: Tensor | None = None

    def __init__(self, *, bends: bool):
        super().__init__()
        self.weight, self.bends = nn.Parameter(torch.eye(4)), bends

    def forward(self, x: Tensor) -> Tensor:
        made = torch.linalg.inv(2 * self.weight) if self.made is None else self.made
        first, self.made = self.made is None, made
        return bent(x @ made.T, not (first and self.bends))


def test_a_constant_that_the_first_call_makes_is_one():
    graph = capture(Keeps(bends=False), (4,))
    assert graph[graph.output].kind == "activation"
    (weight,) = [node.constants["weight"] for node in graph if "weight" in node.constants]
    assert torch.equal(weight.value, torch.eye(4) / 2)
    with pytest.raises(Uncapturable, match="call to call"):
        capture(Keeps(bends=True), (4,))


class Frozen(nn.Module):
    """x, and 3 x while its weight is trained."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (3 * self.weight if self.weight.requires_grad else self.weight).T


def test_whether_weights_are_trained_is_theirs_to_say():
    module = Frozen()
    assert float(module(torch.ones(1, 4)).detach().norm()) == 6.0
    with pytest.raises(Uncapturable, match="reproduce"):
        capture(module, (4,))
    assert capture(module.requires_grad_(False), (4,)).nodes[-1].kind == "linear"


class Bound(nn.Module):
    """x, and half of it while it is trained, by a function that a copy has in common with it."""

    def __init__(self):
        super().__init__()
        self.scaled = lambda x: x * (0.5 if self.training else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x)


class BoundByDefault(Bound):
    """The same by the default of an argument."""

    def __init__(self):
        super().__init__()
        self.scaled = lambda x, of=self: x * (0.5 if of.training else 1.0)


@pytest.mark.parametrize("kind", [Bound, BoundByDefault])
def test_what_a_function_says_of_a_module_in_training_is_not_said_of_it_in_eval_mode(
    kind: type[Bound],
):
    module = kind()
    with pytest.raises(Uncapturable, match="scaled is a function of it in training mode"):
        capture(module, (4,))
    assert capture(module.eval(), (4,)).nodes[-1].attributes["coefficients"] == [1]


class Counted(nn.Module):
    """x, and from its hundredth call on 5 x."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x if self.calls < 100 else 5 * x


class CountedInPlace(Counted):
    """The same, the count in a tensor that is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        count = self.seen.numpy()
        count += 1
        return x if count[0] < 100 else 5 * x


@pytest.mark.parametrize(("kind", "name"), [(Counted, "calls"), (CountedInPlace, "seen")])
def test_what_a_later_call_does_is_not_known_of_one_that_counts_them(
    kind: type[Counted], name: str
):
    with pytest.raises(Uncapturable, match=f"it changes {name} when called"):
        capture(kind(), (4,))


class Enabled(nn.Module):
    """x, and 5 x where gradients are enabled."""

    def forward(self, x: Tensor) -> Tensor:
        return 5 * x if torch.is_grad_enabled() else x


class Required(nn.Module):
    """x, and 5 x where its gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        return 5 * x if x.requires_grad else x


@pytest.mark.parametrize("kind", [Enabled, Required])
def test_a_graph_is_what_a_module_computes_with_and_without_gradients(kind: type[nn.Module]):
    with pytest.raises(Uncapturable, match="whether gradients are taken"):
        capture(kind(), (4,))
    assert capture(nn.Sequential(nn.ReLU(inplace=True)), (4,)).nodes[-1].kind == "activation"
