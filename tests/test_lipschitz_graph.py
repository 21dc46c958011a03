"""Constants of hand-built graphs: rules of composition, and steps recognised by structure."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from verification import lipschitz
from verification.constant import Constant as Line
from verification.constant import root_up, round_up
from verification.graph import Constant, Graph, Node
from verification.lipschitz import derive
from verification.norms import Operator, Spectra


class Build:
    """A graph in the making: methods add a node and give its name."""

    def __init__(self, *shape: int):
        self.nodes = [Node("x", "input", (), shape)]

    def add(self, kind: str, *inputs: str, shape: tuple[int, ...] | None = None, **about: Any):
        shapes = {node.name: node.shape for node in self.nodes}
        constants = {k: v for k, v in about.items() if isinstance(v, Constant)}
        attributes = {k: v for k, v in about.items() if k not in constants}
        name = f"n{len(self.nodes)}"
        node = Node(name, kind, inputs, shape or shapes[inputs[0]], attributes, constants, "m")
        self.nodes.append(node)
        return name

    def linear(self, x: str, weight: Tensor, factor: Fraction = Fraction(1)) -> str:
        shapes = {node.name: node.shape for node in self.nodes}
        shape = (*shapes[x][:-1], weight.shape[0])
        return self.add("linear", x, shape=shape, weight=Constant(weight, factor))

    def combine(self, *terms: tuple[Any, str]) -> str:
        return self.add(
            "combine", *(x for _, x in terms), coefficients=[Fraction(c) for c, _ in terms]
        )

    def activation(self, x: str, function: str = "relu", **parameters: float) -> str:
        exact = {key: Fraction(value) for key, value in parameters.items()}
        return self.add("activation", x, function=function, parameters=exact)

    def take(self, x: str, *index: int) -> str:
        return self.add("gather", x, shape=(len(index),), index=torch.tensor(index))

    def constant(self) -> Line:
        return derive(Graph(tuple(self.nodes), self.nodes[-1].name))


def matrix(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values))


def test_residual_blocks_count_once_each():
    """Thirty blocks x + f(x) with |f| <= 1/10: 1.1^30, and not the number of paths."""
    graph = Build(3)
    x = "x"
    for _ in range(30):
        f = graph.activation(graph.linear(x, matrix(0.5, 0.25, 0.125)))
        x = graph.combine((1, x), (Fraction(1, 5), f))
    upper = graph.constant().upper
    assert Fraction(11, 10) ** 30 <= Fraction(upper) <= Fraction(11, 10) ** 30 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("h", "slope", "law", "expected"),
    [
        (0.5, 0.0, "T8-nonexpansive-euler", 1.0),
        (4.0, 0.0, "T8-nonexpansive-euler", 3.0),
        (0.5, 0.5, "T7-contractive-euler", 1 - 0.5 * 0.5 * 0.25),
        (-0.5, 0.5, "T8'-expansive-gradient-euler", 1.5),
        (0.5, 2.0, "T7-contractive-euler", 1 - 0.5 * 0.25),
    ],
)
def test_gradient_steps(h: float, slope: float, law: str, expected: float):
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    graph = Build(2)
    z = graph.linear("x", weight)
    about = {"negative_slope": slope} if slope else {}
    inner = graph.activation(z, "leaky_relu" if slope else "relu", **about)
    outer = graph.linear(inner, weight.T, Fraction(-h))
    graph.combine((1, "x"), (1, outer))
    line = graph.constant()
    assert line.law == law
    assert expected <= line.upper <= expected * (1 + 1e-9)


def test_an_outer_matrix_that_is_nearly_the_transpose_gets_no_law():
    weight = torch.tensor([[1.0, 0.25], [0.0, 0.5]])
    for outer in (weight, torch.nextafter(weight.T, torch.tensor(2.0))):
        graph = Build(2)
        step = graph.linear(graph.activation(graph.linear("x", weight)), outer, Fraction(-1, 2))
        graph.combine((1, "x"), (1, step))
        assert graph.constant().law == "sum"


def convolution(graph: Build, x: str, kernel: Tensor, kind: str, **changes: Any) -> str:
    attributes: dict[str, Any] = {
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "groups": 1,
        "circular": False,
    }
    if kind == "adjoint":
        attributes["extent"] = (5, 5)
    shape = (kernel.shape[1 if kind == "adjoint" else 0], 5, 5)
    factor = changes.pop("factor", Fraction(1))
    about = {**attributes, **changes}
    return graph.add(kind, x, shape=shape, weight=Constant(kernel, factor), **about)


def test_convolutional_gradient_step_and_what_looks_like_one():
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3) / 10
    laws = []
    for other, changes in (
        (kernel.clone(), {}),
        (kernel + 1e-6, {}),
        (kernel.clone(), {"circular": True}),
    ):
        graph = Build(3, 5, 5)
        inner = graph.activation(convolution(graph, "x", kernel, "conv"))
        outer = convolution(graph, inner, other, "adjoint", factor=Fraction(-1, 3), **changes)
        graph.combine((1, "x"), (1, outer))
        laws.append(graph.constant().law)
    assert laws == ["T8-nonexpansive-euler", "sum", "sum"]


def test_switching_is_named_and_is_the_product_of_its_steps():
    weight, push = matrix(0.75, 0.5), matrix(0.25, 0.5)
    graph, x = Build(2), "x"
    for _ in range(2):
        g = graph.activation(graph.linear(x, push), "leaky_relu", negative_slope=0.5)
        x = graph.combine((1, x), (Fraction(1, 10), g))
        z = graph.activation(graph.linear(x, weight), "leaky_relu", negative_slope=0.5)
        x = graph.combine((1, x), (1, graph.linear(z, weight.T, Fraction(-1, 2))))
    line = graph.constant()
    assert line.law == "T9-switching"
    assert (line.values["S"], line.values["h_1"], line.values["a"]) == (2, 1, Fraction(1, 2))
    exact = ((1 + 0.05) * (1 - 0.5 * 0.5 * 0.25)) ** 2
    assert exact <= line.upper <= exact * (1 + 1e-9)


def test_sorting_pairs_keeps_distances_and_entries_used_twice_count():
    graph = Build(4)
    a, b = graph.take("x", 0, 2), graph.take("x", 1, 3)
    pair = [graph.add("maximum", a, b), graph.add("minimum", a, b)]
    graph.add("concat", *pair, shape=(4,), dim=0)
    assert graph.constant().upper == 1
    graph = Build(4)
    a, b = graph.take("x", 0, 2), graph.take("x", 0, 3)
    graph.add("maximum", a, b)
    assert graph.constant().upper == root_up(Fraction(2))


def test_pooling_counts_overlaps():
    graph = Build(1, 7)
    windows = [[0, 3], [2, 5], [4, 7]]
    graph.add("window_max", "x", shape=(1, 3), dims=[1], windows=[windows])
    assert graph.constant().upper == root_up(Fraction(2))
    graph = Build(1, 4)
    windows, weights = [[0, 2], [2, 4]], [Fraction(1, 2), Fraction(1, 2)]
    graph.add("window_sum", "x", shape=(1, 2), dims=[1], windows=[windows], weights=[weights])
    assert graph.constant().upper == root_up(Fraction(1, 2))


def test_what_is_not_known_makes_the_constant_infinite_and_says_why():
    graph = Build(3)
    y = graph.add("unknown", "x", operator="aten.foo")
    graph.combine((1, "x"), (1, y))
    line = graph.constant()
    assert line.upper == math.inf
    assert any("aten.foo" in part.reason for part in line.lines())


def test_rounding_is_upwards_and_exact_where_it_can_be():
    assert root_up(Fraction(9, 4)) == 1.5
    for value in (Fraction(2), Fraction(1, 3), Fraction(10**40, 7), Fraction(7, 10**40)):
        root = root_up(value)
        assert Fraction(root) ** 2 >= value
        assert Fraction(math.nextafter(math.nextafter(root, 0), 0)) ** 2 < value
    assert Fraction(round_up(Fraction(1, 3))) > Fraction(1, 3)
    assert round_up(Fraction(10) ** 400) == math.inf


def test_norms_are_computed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one by one, each once; errors are left to whoever asks for the norm."""
    weights = [torch.randn(6, 4), torch.randn(3, 6), torch.full((2, 3), math.inf)]
    operators = [Operator(weight, Fraction(1)) for weight in weights]
    alone = [Spectra().of(one) for one in operators[:2]]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    spectra = Spectra()
    spectra.prepare([*operators, *operators])
    with monkeypatch.context() as patch:
        patch.setattr(Spectra, "_compute", None)
        assert [spectra.of(one) for one in operators[:2]] == alone
    with pytest.raises(ArithmeticError):
        spectra.of(operators[2])


def test_windows_that_are_far_apart_are_not_compared():
    """All pairs of 16000 of them would take minutes."""
    graph = Build(1, 64000)
    windows, weights = [[4 * k, 4 * k + 4] for k in range(16000)], [Fraction(1, 4)] * 16000
    graph.add("window_sum", "x", shape=(1, 16000), dims=[1], windows=[windows], weights=[weights])
    assert graph.constant().upper == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_windows_in_any_order_are_counted_as_by_their_matrix(seed: int):
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, 12, (8,), generator=generator)
    stops = starts + torch.randint(1, 7, (8,), generator=generator)
    weights = torch.randint(-3, 4, (8,), generator=generator)
    place = torch.arange(20)
    rows = ((place >= starts[:, None]) & (place < stops[:, None])).long()
    products = (rows @ rows.T) * (weights[:, None] * weights).abs()
    windows = torch.stack([starts, stops], 1).tolist()
    assert lipschitz._square(windows, weights.tolist()) == int(products.sum(1).max())
    assert lipschitz._overlap(windows) == int(rows.sum(0).max())


def test_entries_that_an_extreme_repeats_count_as_often():
    """Of (max(x_0, y_i), min(x_0, y_i)), y = x, all move by |x_0| when x_0 does, and y_0 too."""
    graph = Build(3)
    one = graph.take("x", 0)
    pair = [graph.add(kind, one, "x", shape=(3,)) for kind in ("maximum", "minimum")]
    graph.add("concat", *pair, shape=(6,), dim=0)
    assert graph.constant().upper >= 2  # sqrt(3 + 1)


def test_a_scale_that_repeats_entries_is_no_multiple():
    """x + 1 relu(w'x), w = (1/2, ..., 1/2): 3 along w, where 1 + |w| is 2."""
    graph = Build(4)
    bent = graph.activation(graph.linear("x", torch.full((1, 4), 0.5)))
    moved = graph.add("scale", bent, shape=(4,), weight=Constant(torch.ones(4)))
    graph.combine((1, "x"), (1, moved))
    assert graph.constant().upper >= 3
