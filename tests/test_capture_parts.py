"""The graphs of parts from one trace of the whole, against those of the parts captured alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import build as random_module
from random_modules import images, vectors
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dsnn.models import build
from dsnn.models.cifar import ARCHITECTURES
from verification import capture_parts
from verification.capture import Uncapturable, capture, compare, input_shapes
from verification.capture_parts import captured
from verification.graph import Graph
from verification.parts import Live

Found = dict[str, Graph | Uncapturable]


def shapes_of(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    return {**input_shapes(module, shape), "": shape}


def alone(module: nn.Module, shapes: dict[str, Any], *, executed: bool = False) -> Found:
    """All parts, each captured by itself."""
    found: Found = {}
    for name, shape in shapes.items():
        try:
            if isinstance(shape, Uncapturable):
                raise shape
            found[name] = capture(module.get_submodule(name), shape, executed=executed)
        except Uncapturable as reason:
            found[name] = reason
    return found


def assert_same(ours: Found, theirs: Found) -> None:
    """Graphs equal but for the names of nodes, and the same reasons."""
    assert ours.keys() == theirs.keys()
    for name, graph in theirs.items():
        found = ours[name]
        if isinstance(graph, Uncapturable):
            assert isinstance(found, Uncapturable), name
            assert found.reason == graph.reason
            continue
        assert isinstance(found, Graph), f"{name}: {found}"
        compare(found, graph)  # raises on a difference, names of constants included
        assert [node.module for node in found] == [node.module for node in graph], name


def check(module: nn.Module, shape: tuple[int, ...], *, executed: bool = False) -> None:
    shapes = shapes_of(module, shape)
    ours = captured(module, shapes, shapes, executed=executed)
    assert_same(ours, alone(module, shapes, executed=executed))


def cut(module: nn.Module, shape: tuple[int, ...] = (4,)) -> set[str]:
    """The parts that the one trace gives."""
    shapes = shapes_of(module, shape)
    known = {n: s for n, s in shapes.items() if not isinstance(s, Uncapturable)}
    return set(capture_parts._shared(module, known, False))


@settings(max_examples=6, deadline=None)
@given(st.one_of(vectors, images), st.booleans())
def test_parts_of_random_modules(about: tuple[Any, ...], executed: bool):
    shape, layers, seed = about
    check(random_module(shape, layers, seed), shape, executed=executed)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.one_of(vectors, images), st.booleans())
def test_parts_of_many_random_modules(about: tuple[Any, ...], executed: bool):
    shape, layers, seed = about
    check(random_module(shape, layers, seed), shape, executed=executed)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_parts_of_the_published_architectures(arch: str):
    net = build(arch, channels=(2, 3, 4))
    shapes = shapes_of(net, (3, 32, 32))
    wanted = {n: shapes[n] for n in ("", "stages.0.lift", "stages.1.flow", "stages.2", "head")}
    assert_same(captured(net, wanted, wanted), alone(net, wanted))
    known = {n: s for n, s in wanted.items() if not isinstance(s, Uncapturable)}
    assert capture_parts._shared(net, known, False).keys() == known.keys()


class Pair(nn.Module):
    """A part between two linear layers; `read` says what of it goes on to the second."""

    def __init__(self, part: nn.Module, read: str = ""):
        super().__init__()
        self.before, self.part, self.after, self.read = nn.Linear(4, 4), part, nn.Linear(4, 4), read

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        y = self.part(x)
        return self.after(getattr(self.part, self.read) if self.read else y) + x


class Keeps(nn.Module):
    """Returns the double, keeps ten times it, which the module around it reads."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = 10 * x
        return 2 * x


class Changes(nn.Module):
    """Changes its input in place, and returns something else."""

    def forward(self, x: Tensor) -> Tensor:
        y = 3 * x
        x.mul_(5.0)
        return y + x


class Dead(nn.Module):
    """Computes what nobody reads, of a kind that has no graph."""

    def forward(self, x: Tensor) -> Tensor:
        torch.cumsum(x, 1)
        return torch.relu(x)


class Borrows(nn.Module):
    """Adds what the module around it has left."""

    left: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + self.left


class Lends(Pair):
    """Leaves its own input in the part: what that returns is no function of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.part, Borrows)
        self.part.left = x
        y = self.part(self.before(x))
        self.part.left = 0.0
        return self.after(y)


class LendsMultiple(Lends):
    """The same by a number: only running the part shows what it does by itself."""

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.part, Borrows)
        self.part.left = 7.0
        y = self.part(self.before(x))
        self.part.left = 0.0
        return self.after(y)


class Twice(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(self.part(self.before(x))))


class ByKeyword(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(input=self.before(x)))


class Overwritten(Pair):
    """Changes what the part has returned, and what it was given, in place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        y = self.part(x)
        x.add_(1.0)
        return self.after(y.mul_(9.0)) + x


class Two(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, 2 * x]


class FromTwo(Pair):
    def forward(self, x: Tensor) -> Tensor:
        first, second = self.part(self.before(x))
        return self.after(first + second)


class Padded(nn.Module):
    """The convolution of what was padded outside of it."""

    def __init__(self):
        super().__init__()
        self.pad, self.conv = nn.ZeroPad2d(1), nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class Shared(nn.Module):
    """One weight under three names, and a parameter that a part uses which is not its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.second = nn.Sequential(self.first[0], nn.ReLU())
        self.third = nn.Linear(4, 4)
        self.third.weight = self.first[0].weight  # type: ignore[assignment]
        self.fourth = Uses([self.third])

    def forward(self, x: Tensor) -> Tensor:
        return self.fourth(self.third(self.second[1](self.first(x))))


class Uses(nn.Module):
    def __init__(self, others: list[nn.Linear]):
        super().__init__()
        self.others = tuple(others)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.others[0].weight.T + x


class Hooked(nn.Module):
    """A part whose own hooks change what goes in and what comes out."""

    def __init__(self):
        super().__init__()
        self.part, self.after = nn.Linear(4, 4), nn.Tanh()
        self.part.register_forward_pre_hook(lambda _, args: (2 * args[0],))
        self.part.register_forward_hook(lambda _, args, output: output + args[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(torch.relu(x)))


CUT = {  # whether the one trace gives the part, or it has to be captured alone
    "keeps": (lambda: Pair(Keeps(), "kept"), True),
    "changes its input": (lambda: Pair(Changes()), True),
    "dead branch": (lambda: Pair(Dead()), True),
    "overwritten": (lambda: Overwritten(nn.Tanh()), True),
    "own hooks": (Hooked, True),
    "borrows": (lambda: Lends(Borrows()), False),
    "borrows a number": (lambda: LendsMultiple(Borrows()), False),
    "twice": (lambda: Twice(nn.ReLU()), False),
    "keyword": (lambda: ByKeyword(nn.ReLU()), False),
    "two results": (lambda: FromTwo(Two()), False),
}


@pytest.mark.parametrize("name", CUT)
def test_hostile_parts_are_what_they_are_alone(name: str):
    make, is_cut = CUT[name]
    torch.manual_seed(0)
    module = make().eval()
    check(module, (4,))
    assert ("part" in cut(module)) == is_cut


def test_what_is_padded_outside_of_a_part_stays_outside():
    module = Padded().eval()
    check(module, (2, 5, 5))
    assert cut(module, (2, 5, 5)) == {"", "pad"}


def test_tensors_and_modules_have_the_names_that_the_part_has_for_them():
    module = Shared().eval()
    check(module, (4,))
    found = captured(module, shapes_of(module, (4,)), ["", "third", "fourth"])
    names = {}
    for name, graph in found.items():
        assert isinstance(graph, Graph)
        names[name] = [c.name for node in graph for use, c in node.constants.items()]
    assert names["third"] == ["weight", "bias"]
    assert names["fourth"] == [""]
    assert names[""][:2] == ["first.0.weight", "first.0.bias"]


def test_parametrised_and_double_modules():
    torch.manual_seed(0)
    layer = parametrizations.orthogonal(nn.Linear(4, 4))
    check(nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)).eval(), (4,))
    check(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double().eval(), (4,))


def test_a_module_that_cannot_be_traced_leaves_its_parts():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.part(x)
            return y if float(y.sum()) > 0 else -y

    check(Branches().eval(), (4,))


def test_only_what_is_expected_is_captured_together(monkeypatch: pytest.MonkeyPatch):
    asked: list[set[str]] = []

    def counted(module: nn.Module, shapes: Any, names: Any, *, executed: bool = False) -> Found:
        asked.append(set(names))
        return captured(module, shapes, asked[-1], executed=executed)

    monkeypatch.setattr("verification.parts.captured", counted)
    live = Live(Pair(nn.ReLU()).eval(), (4,))
    live.graph("")
    assert asked == [{""}]
    live.graph("after")
    assert asked == [{""}, {"after"}]
    live = Live(Pair(nn.ReLU()).eval(), (4,))
    live.expect(["part", "before"])
    for name in ("part", "", "before", "part"):
        live.graph(name)
    assert asked[2:] == [{"", "part", "before"}]
    assert isinstance(live.executed("part"), Graph)
    assert {node.name for node in live.executed("part")} == {n.name for n in live.graph("part")}  # type: ignore[union-attr]


def test_a_cut_at_what_outside_code_reads_is_found_wrong(monkeypatch: pytest.MonkeyPatch):
    """The check can fail: a part that ends where the module around it reads it, and not at what
    it returns, differs from the part."""
    original = capture_parts._Calls.after

    def read(self: Any, part: nn.Module, args: Any, output: Any) -> None:
        original(self, part, args, getattr(part, "kept", output))

    monkeypatch.setattr(capture_parts._Calls, "after", read)
    module = Pair(Keeps(), "kept").eval()
    assert "part" not in cut(module)  # ten times its input is not what the part computes
    monkeypatch.setattr(capture_parts, "reproduces", lambda *_: None)
    assert "part" in cut(module)
    with pytest.raises(Uncapturable, match="differently"):
        check(module, (4,))
