"""Lines that agree with themselves and do not hold must not be derived, nor replays shown that
exact arithmetic does not confirm."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from verification.checker import kinds, nodes, replay
from verification.checker.chain import Chain, Line, Pair, Spectra
from verification.checker.reading import Node, Unreadable, Weight, Wrong

RELU = {"function": "relu", "parameters": {}}
SAME = {"stride": [1], "padding": [[1, 1]], "dilation": [1], "groups": 1, "circular": False}
A = np.random.default_rng(0).normal(size=(3, 3)) / 4
K = np.random.default_rng(1).normal(size=(2, 2, 3)) / 4


class Graph:
    """A graph in the making, with the lines derived so far."""

    def __init__(self, *shape: int) -> None:
        self.nodes = {"x": Node("x", "input", (), shape)}
        self.chain: Chain | None = None

    def add(self, name: str, kind: str, *inputs: str, shape: Any = None, **about: Any) -> "Graph":
        constants = {
            use: Weight(f"{name}/{use}", np.array(about.pop(use)), Fraction(about.pop("f", 1)))
            for use in ("weight", "index", "value", "bias")
            if use in about
        }
        shape = shape or self.nodes[inputs[0] if inputs else "x"].shape
        self.nodes[name] = Node(name, kind, inputs, tuple(shape), about, constants)
        return self

    def line(self, start: str, end: str, law: str, *parts: Pair, **stated: Any) -> Line:
        if self.chain is None:
            nodes.check_shapes(self.nodes)
            self.chain = Chain(self.nodes, Spectra())
        exact = {k: None if v is None else Fraction(v) for k, v in stated.items()}
        found = self.chain.derive(start, end, law, list(parts), exact, "line")
        self.chain.lines[start, end] = found
        return found

    def norm(self, start: str, end: str, norm: float, smallest: float | None = None) -> Line:
        return self.line(start, end, "norm", norm=norm, smallest=smallest, factor=1)


def step(outer: np.ndarray, start: str = "x", factor: int = -1) -> Graph:
    """x + factor outer relu(A start) / 2, with a line for A."""
    graph = Graph(3).add("y", "activation", "x", **RELU)
    graph.add("a", "linear", start, weight=A).add("r", "activation", "a", **RELU)
    graph.add("o", "linear", "r", weight=outer, f=Fraction(factor, 2))
    graph.add("end", "combine", "x", "o", coefficients=["1", "1"])
    graph.norm(start, "a", float(np.linalg.norm(A, 2)) * (1 + 1e-9))
    return graph


def test_a_gradient_step_is_one_only_with_the_exact_transpose() -> None:
    assert step(A.T).line("x", "end", "T8-nonexpansive-euler", ("x", "a")).upper == 1.0
    for outer in (np.nextafter(A.T, 9), A, -A.T + 1e-9):
        with pytest.raises(Wrong, match="adjoint"):
            step(outer).line("x", "end", "T8-nonexpansive-euler", ("x", "a"))


def test_the_law_of_a_step_is_that_of_its_sign_and_slopes() -> None:
    graph = step(A.T, factor=1)
    with pytest.raises(Wrong, match="gradient-euler"):
        graph.line("x", "end", "T8-nonexpansive-euler", ("x", "a"))
    assert graph.line("x", "end", "T8'-expansive-gradient-euler", ("x", "a")).upper > 1
    with pytest.raises(Wrong, match="no step"):
        step(A.T, "y").line("x", "end", "T8-nonexpansive-euler", ("y", "a"))


def test_factors_inside_a_step_join_its_size() -> None:
    """x - A' relu(4 A (3 x)) / 2 for A of norm below 1: h = 6."""
    graph = Graph(3).add("b", "combine", "x", coefficients=["3"])
    graph.add("a", "linear", "b", weight=A).add("c", "scale", "a", weight=[2.0] * 3, f=2)
    graph.add("r", "activation", "c", **RELU)
    graph.add("o", "linear", "r", weight=A.T, f=Fraction(-1, 2))
    graph.add("end", "combine", "x", "o", coefficients=["1", "1"])
    graph.norm("b", "a", float(np.linalg.norm(A, 2)) * (1 + 1e-9))
    line = graph.line("x", "end", "T8-nonexpansive-euler", ("b", "a"))
    assert line.values["h"] == 6


@pytest.mark.parametrize("change", [{"circular": True}, {"dilation": [2], "padding": [[2, 2]]}, {}])
def test_a_convolution_is_paired_only_with_its_own_adjoint(change: dict[str, Any]) -> None:
    graph = Graph(2, 6).add("a", "conv", "x", weight=K, **SAME).add("r", "activation", "a", **RELU)
    graph.add("o", "adjoint", "r", weight=K, f=-1, extent=[6], **{**SAME, **change})
    graph.add("end", "combine", "x", "o", coefficients=["1", "1"])
    graph.norm("x", "a", nodes_norm(graph, "a"))
    if not change:
        assert graph.line("x", "end", "T8-nonexpansive-euler", ("x", "a")).upper >= 1
        return
    with pytest.raises(Wrong, match="adjoint"):
        graph.line("x", "end", "T8-nonexpansive-euler", ("x", "a"))


def nodes_norm(graph: Graph, name: str) -> float:
    from verification.checker import norms

    node = graph.nodes[name]
    return norms.largest(norms.operator(node, graph.nodes[node.inputs[0]].shape[1:])) * (1 + 1e-9)


def test_singular_values_better_than_the_truth_are_not_shown() -> None:
    values = np.linalg.svd(A, compute_uv=False)
    for norm, smallest in ((0.999 * values[0], None), (-1.0, None),
                           (values[0] * (1 + 1e-9), 1.001 * values[-1])):  # fmt: skip
        with pytest.raises(Wrong):
            Graph(3).add("a", "linear", "x", weight=A).norm("x", "a", float(norm), smallest)
    graph = Graph(2, 6).add("a", "conv", "x", weight=K, **SAME)
    dense = [replay_of(graph, "a", row) for row in np.eye(12).reshape(12, 2, 6)]
    truth = float(np.linalg.norm(np.array(dense).reshape(12, -1), 2))
    graph.norm("x", "a", truth * 1.0001)
    with pytest.raises(Wrong):
        Graph(2, 6).add("a", "conv", "x", weight=K, **SAME).norm("x", "a", truth * 0.9999)


def replay_of(graph: Graph, name: str, x: np.ndarray) -> np.ndarray:
    return replay.evaluate(Chain(graph.nodes, Spectra()), name, replay.Value(x, 0.0)).array


def both() -> Graph:
    """relu(x), and relu(x) + 2 max(x, relu(x)) - x."""
    graph = Graph(4).add("r", "activation", "x", **RELU).add("m", "maximum", "x", "r")
    graph.add("s", "combine", "r", "m", "x", coefficients=["1", "2", "-1"])
    graph.line("x", "r", "slope")
    graph.line("x", "x", "identity")
    return graph


def test_a_sum_needs_all_its_terms() -> None:
    graph = both()
    graph.line("x", "m", "root", ("x", "x"), ("x", "r"))
    for parts in ([("x", "r"), ("x", "m")], [("x", "r"), ("x", "x")], [("x", "r")]):
        with pytest.raises(Wrong, match="no combination"):
            graph.line("x", "s", "sum", *parts)
    line = graph.line("x", "s", "sum", ("x", "r"), ("x", "m"), ("x", "x"))
    assert line.upper >= 2 + 2 * 2**0.5


def test_entries_of_sources_are_all_counted() -> None:
    graph = both()
    with pytest.raises(Wrong, match="left out"):
        graph.line("x", "m", "together", ("x", "r"))
    graph.line("x", "m", "together", ("x", "x"), ("x", "r"))
    twice = Graph(4).add("g", "gather", "x", shape=[6], index=[0, 1, 2, 3, 0, -1])
    twice.add("c", "concat", "g", "x", shape=[10], dim=0).line("x", "x", "identity")
    assert twice.line("x", "c", "together", ("x", "x")).upper >= 3**0.5
    assert twice.line("x", "g", "copies").upper >= 2**0.5
    alone = Graph(4).add("r", "activation", "x", **RELU).add("m", "maximum", "x", "r")
    alone.add("n", "minimum", "x", "r").add("c", "concat", "m", "m", shape=[8], dim=0)
    alone.add("d", "concat", "m", "n", shape=[8], dim=0)
    alone.line("x", "x", "identity")
    alone.line("x", "r", "slope")
    with pytest.raises(Wrong, match="left out"):
        alone.line("x", "c", "together", ("x", "x"), ("x", "r"))
    assert alone.line("x", "d", "together", ("x", "x"), ("x", "r")).upper >= 2**0.5


def test_a_larger_value_that_repeats_entries_has_no_law() -> None:
    graph = Graph(1).add("k", "constant", shape=[3], value=[0.0, 0.0, 0.0])
    graph.add("m", "maximum", "x", "k", shape=[3])
    graph.line("x", "x", "identity")
    graph.line("x", "k", "constant")
    for law in ("root", "together"):
        with pytest.raises(Wrong, match="repeats"):
            graph.line("x", "m", law, ("x", "x"), ("x", "k"))


@pytest.mark.parametrize(
    ("start", "end", "law", "parts"),
    [
        ("x", "r", "constant", []),
        ("x", "u", "constant", []),
        ("x", "v", "constant", []),
        ("x", "r", "identity", []),
        ("r", "m", "slope", []),
        ("x", "p", "scale", []),
        ("x", "u", "slope", []),
        ("x", "n", "normalise", []),
        ("x", "g", "copies", [("x", "r")]),
        ("x", "s", "root", [("x", "r"), ("x", "x")]),
        ("x", "g", "chain", [("x", "r"), ("x", "x")]),
        ("x", "r", "chain", [("x", "r"), ("x", "r")]),
        ("x", "g", "sum", []),
        ("x", "g", "T8-nonexpansive-euler", [("x", "r")]),
        ("x", "r", "T11-network", []),
    ],
)
def test_laws_do_not_hold_for_what_they_are_not_about(
    start: str, end: str, law: str, parts: list[Pair]
) -> None:
    graph = both().add("u", "unknown", "x", operator="f").add("v", "unknown", operator="noise")
    graph.add("p", "product", "x", "r").add("g", "gather", "r", index=[0, 0, 1, 1])
    graph.add("n", "normalise", "x", dims=[0], epsilon="0")
    graph.chain = None
    graph.line("x", "x", "identity")
    graph.line("x", "r", "slope")
    with pytest.raises(Wrong):
        graph.line(start, end, law, *parts)


def test_no_two_points_are_further_apart_than_the_lines_say() -> None:
    draw = np.random.default_rng(2)
    graph = step(A.T).add("k", "gather", "end", shape=[5], index=[0, 1, 1, 2, -1])
    graph.add("t", "activation", "k", function="tanh", parameters={})
    graph.chain = None
    graph.norm("x", "a", float(np.linalg.norm(A, 2)) * (1 + 1e-9))
    graph.line("x", "end", "T8-nonexpansive-euler", ("x", "a"))
    graph.line("end", "k", "copies")
    graph.line("k", "t", "slope")
    upper = graph.line("x", "t", "chain", ("x", "end"), ("end", "k"), ("k", "t")).upper
    assert graph.chain is not None
    for _ in range(200):
        x = draw.normal(size=3)
        y = x + draw.normal(size=3) * 10.0 ** draw.integers(-6, 2)
        shown = replay.moved(graph.chain, "t", replay.Value(x, 0.0), replay.Value(y, 0.0))
        assert shown / replay.distance(x, y) <= upper


def exactly(matrix: np.ndarray, x: list[Fraction]) -> list[Fraction]:
    rows = [[Fraction(float(w)) for w in row] for row in matrix]
    return [sum((w * v for w, v in zip(row, x, strict=True)), Fraction(0)) for row in rows]


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_the_error_of_a_replay_covers_exact_arithmetic(scale: float) -> None:
    """Twelve steps x - W x / 3, then a difference of large numbers, in exact fractions."""
    draw = np.random.default_rng(4)
    graph, x = Graph(40), draw.normal(size=40) * scale
    exact, last = [Fraction(float(v)) for v in x], "x"
    for k in range(12):
        weight = draw.normal(size=(40, 40)) / 6
        graph.add(f"w{k}", "linear", last, weight=weight)
        graph.add(f"y{k}", "combine", last, f"w{k}", coefficients=["1", "-1/3"])
        moved = exactly(weight, exact)
        exact = [v - w / 3 for v, w in zip(exact, moved, strict=True)]
        last = f"y{k}"
    ends = draw.normal(size=(2, 40))
    ends[1] = ends[0] + 2.0**-40
    graph.add("d", "linear", last, shape=[2], weight=ends)
    graph.add("e", "linear", "d", shape=[1], weight=[[1.0, -1.0]])
    exact = exactly(np.array([[1.0, -1.0]]), exactly(ends, exact))
    found = replay.evaluate(Chain(graph.nodes, Spectra()), "e", replay.Value(x, 0.0))
    assert abs(Fraction(float(found.array[0])) - exact[0]) <= Fraction(found.error)
    assert found.error <= 1e-6 * scale


def test_a_replayed_product_pays_for_its_roundings() -> None:
    """One inner product whose terms cancel: its error is far above its value."""
    draw = np.random.default_rng(5)
    for _ in range(20):
        weight = draw.normal(size=(1, 300)) * 10.0 ** draw.integers(0, 9, size=(1, 300))
        x = draw.normal(size=300)
        x[0] -= (weight @ x)[0] / weight[0, 0]
        graph = Graph(300).add("w", "linear", "x", shape=[1], weight=weight)
        found = replay.evaluate(Chain(graph.nodes, Spectra()), "w", replay.Value(x, 0.0))
        (truth,) = exactly(weight, [Fraction(float(v)) for v in x])
        assert abs(Fraction(float(found.array[0])) - truth) <= Fraction(found.error)


def test_without_flint_a_smooth_activation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "flint", None)
    graph = Graph(2).add("t", "activation", "x", function="tanh", parameters={})
    with pytest.raises(Unreadable, match="python-flint"):
        replay_of(graph, "t", np.ones(2))


def test_the_errors_of_both_terms_are_carried() -> None:
    graph = Graph(2).add("a", "gather", "x", shape=[1], index=[0])
    graph.add("b", "gather", "x", shape=[1], index=[1])
    graph.add("c", "combine", "a", "b", coefficients=["1", "-2"])
    example = replay.Value(np.array([1e16, 0.5]), 0.25)
    found = replay.evaluate(Chain(graph.nodes, Spectra()), "c", example)
    assert found.error >= 0.75 + 1  # 1e16 - 1 is rounded to 1e16
