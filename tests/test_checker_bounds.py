"""The checker's parts, each against something that shares no code with it."""

import ast
import math
import random
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import verification.checker
from theory import theorems
from verification.activations import SLOPES
from verification.capture import capture
from verification.checker import nodes, norms, reading, replay
from verification.checker.chain import Chain, Spectra
from verification.checker.laws import LAWS
from verification.checker.reading import Node, Weight, Wrong
from verification.graph import Graph
from verification.interpret import Interpreter

MODULES = sorted(Path(verification.checker.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_it_imports_nothing_but_numpy_flint_and_itself(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "flint"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            ours = name.startswith("verification.checker")
            assert ours or name.partition(".")[0] in allowed, name


def test_it_runs_where_torch_and_the_rest_are_not_installed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'sympy', 'scipy', 'safetensors', 'dsnn', 'theory'):\n"
        "    sys.modules[name] = None\n"
        "from verification.checker.__main__ import run\n"
        f"code = run({str(tmp_path / 'none.json')!r})\n"
        "loaded = {m for m in sys.modules if m.startswith('verification')}\n"
        "assert all(m == 'verification' or 'checker' in m for m in loaded), loaded\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


# Laws. -------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [name for name in LAWS if name != "symmetric"])
def test_laws_are_those_of_theory_at_random_rational_points(law: str) -> None:
    draw = random.Random(law)
    theorem = theorems()[law].law
    for _ in range(15):
        values = {
            name: Fraction(draw.randint(-400 if name == "h" else 0, 400), draw.randint(1, 200))
            for name in ("h", "a", "s_min", "s_max")
            if name in {str(symbol) for symbol in theorem.free_symbols}
        }
        exact = theorem.subs({s: values[str(s)] for s in theorem.free_symbols})
        assert Fraction(str(exact)) == LAWS[law](**values)


def test_products_of_steps_are_the_laws_of_switching() -> None:
    values = {"a": Fraction(1, 2), "s_min": Fraction(3, 4), "s_max": Fraction(5, 4)}
    w_max, h_1, h_2, count = Fraction(9, 8), Fraction(7, 10), Fraction(-3, 10), 2
    pull = LAWS["T7-contractive-euler"](h=h_1 / 2, **values)
    at: dict[str, Any] = {**values, "w_max": w_max, "h_1": h_1, "h_2": h_2, "S": count}
    for law, product in (
        ("T9-switching", (pull * LAWS["T8'-expansive-euler"](h=h_2 / 2, s_max=w_max)) ** 2),
        (
            "T10-flexible-switching",
            pull**2 * LAWS["T8-nonexpansive-euler"](h=-h_2, s_max=w_max),
        ),
    ):
        expression = theorems()[law].law
        exact = expression.subs({s: at[str(s)] for s in expression.free_symbols})
        assert Fraction(str(exact)) == product


def test_symmetric_steps_stay_below_their_law() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        a, d = draw.normal(size=(4, 3)), draw.uniform(-0.5, 1.5, size=4)
        h, s_max = float(draw.normal()), math.nextafter(float(np.linalg.norm(a, 2)), 9) * 1.001
        law = LAWS["symmetric"](
            h=Fraction(h), low=Fraction(-1, 2), high=Fraction(3, 2), s_max=Fraction(s_max)
        )
        assert np.linalg.norm(np.eye(3) - h * a.T @ np.diag(d) @ a, 2) <= law


PARAMETERS = {
    "leaky_relu": [{"negative_slope": "-1/4"}, {"negative_slope": "1/2"}, {"negative_slope": "3"}],
    "clamp": [{"low": "-1", "high": "1"}, {"low": "1", "high": "0"}, {"low": None, "high": "2"}],
    "elu": [{"alpha": "3/2"}],
    "celu": [{"alpha": "2"}],
    "softplus": [{"beta": "3"}],
    "softshrink": [{"lambd": "1/2"}],
}


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_slopes_are_those_of_the_audit(name: str) -> None:
    for parameters in PARAMETERS.get(name, [{}]):
        node = Node("f", "activation", ("x",), (3,), {"function": name, "parameters": parameters})
        exact = {k: None if v is None else Fraction(v) for k, v in parameters.items()}
        assert nodes.slopes(node) == SLOPES[name](**exact)


@given(st.integers(0, 10**40), st.integers(1, 10**40))
def test_rounding_is_upwards(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    up, root = nodes.round_up(value), nodes.root_up(value)
    assert Fraction(up) >= value
    assert up == 0 or Fraction(math.nextafter(up, 0)) < value
    assert value <= root**2 <= value * (1 + Fraction(1, 2**118))


# Singular values. --------------------------------------------------------------------------


def convolution(kernel: np.ndarray, circular: bool, **changes: Any) -> Node:
    attributes: dict[str, Any] = {
        "stride": [1, 1],
        "padding": [[1, 1], [1, 1]],
        "dilation": [1, 1],
        "groups": 1,
        "circular": circular,
    }
    weight = Weight("w", kernel, Fraction(1))
    return Node("c", "conv", ("x",), (), {**attributes, **changes}, {"weight": weight})


def matrix_of(node: Node, extent: tuple[int, int], channels: int) -> np.ndarray:
    """The convolution as a matrix, column by column, by the operator of torch."""
    at, kernel = node.attributes, torch.from_numpy(node.constants["weight"].values).double()
    basis = torch.eye(channels * math.prod(extent), dtype=torch.float64)
    x = basis.reshape(-1, channels, *extent)
    pads = [p for pair in reversed(at["padding"]) for p in pair]
    x = nn.functional.pad(x, pads, mode="circular" if at["circular"] else "constant")
    stride, dilation = tuple(at["stride"]), tuple(at["dilation"])
    y = nn.functional.conv2d(x, kernel, None, stride, 0, dilation, at["groups"])
    return y.flatten(1).T.numpy()


@example(1833, (3, 4), (3, 3), (1, 2), [0, 2, 0, 1], True, 1, 1)  # least / largest: 0.002
@example(472553, (6, 3), (3, 3), (1, 1), [0, 0, 0, 2], False, 1, 1)  # least / largest: 0.0003
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(3, 6), st.integers(3, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
    st.booleans(),
    st.integers(1, 2),
    st.integers(1, 2),
)
def test_norms_hold_for_the_executed_operator(
    seed: int,
    extent: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    pads: list[int],
    circular: bool,
    dilation: int,
    groups: int,
) -> None:
    draw = np.random.default_rng(seed)
    m, n = groups * int(draw.integers(1, 4)), int(draw.integers(1, 3))
    node = convolution(
        draw.normal(size=(m, n, *size)), circular, stride=list(stride), groups=groups,
        padding=[pads[:2], pads[2:]], dilation=[dilation, dilation],
    )  # fmt: skip
    room = [e + p + q for e, p, q in zip(extent, pads[::2], pads[1::2], strict=True)]
    if any(r < dilation * (k - 1) + 1 for r, k in zip(room, size, strict=True)):
        return
    dense = matrix_of(node, extent, n * groups)
    spectrum = np.linalg.svd(dense, compute_uv=False)
    truth = float(spectrum[0])
    smallest = float(spectrum[-1]) if dense.shape[0] >= dense.shape[1] else 0.0
    op = norms.operator(node, extent)
    assert norms.largest(op) >= truth * (1 - 1e-13)
    assert not shows(op, truth * 0.999, -1)
    assert not shows(op, smallest * 1.001 + 1e-9, 1)
    whole = op.is_torus() or not circular
    assert shows(op, truth * 1.001, -1) or not whole
    assert shows(op, smallest * 0.999, 1) or not whole or smallest < 2e-3 * truth


def shows(op: norms.Operator, bound: float, sign: int) -> bool:
    try:
        return norms.shown(op, bound, sign)
    except Wrong:
        return False


def test_norms_are_tight_where_they_are_exact() -> None:
    draw = np.random.default_rng(1)
    node = convolution(draw.normal(size=(4, 3, 3, 3)), True)
    spectrum = np.linalg.svd(matrix_of(node, (5, 6), 3), compute_uv=False)
    op = norms.operator(node, (5, 6))
    assert norms.largest(op) <= spectrum[0] * (1 + 1e-9)
    assert shows(op, spectrum[-1] * (1 - 1e-9), 1)
    weight = Weight("w", draw.normal(size=(5, 3)), Fraction(1))
    spectrum = np.linalg.svd(weight.values, compute_uv=False)
    op = norms.operator(Node("l", "linear", ("x",), (), {}, {"weight": weight}), ())
    assert spectrum[0] <= norms.largest(op) <= spectrum[0] * (1 + 2e-9)
    assert shows(op, spectrum[-1] * (1 - 1e-9), 1)
    assert not shows(op, spectrum[-1] * (1 + 1e-13), 1)
    permutation = Weight("w", np.eye(3)[[2, 0, 1]], Fraction(1))
    assert shows(norms.operator(Node("l", "linear", ("x",), (), {}, {"weight": permutation}), ()),
                 1.0, -1)  # fmt: skip


def test_a_torus_too_small_for_the_dilation_would_cancel_taps() -> None:
    """On a torus of side 4 the taps 0 and 4 of this kernel are one, and their sum is 0."""
    node = convolution(np.array([[[[1.0, 0.0, -1.0]]]]), False, dilation=[1, 2])
    node = replace(node, attributes={**node.attributes, "padding": [[0, 0], [2, 2]]})
    truth = np.linalg.svd(matrix_of(node, (1, 3), 1), compute_uv=False)[0]
    assert truth == 1
    assert norms.largest(norms.operator(node, (1, 3))) >= truth


def test_long_images_have_the_norm_of_their_torus() -> None:
    draw = np.random.default_rng(3)
    for _ in range(10):
        node = convolution(draw.normal(size=(1, 1, 1, 3)), False, padding=[[0, 0], [1, 1]])
        truth = float(np.linalg.norm(matrix_of(node, (1, 300), 1), 2))
        assert truth <= norms.largest(norms.operator(node, (1, 300))) <= truth * 1.01
        assert norms.largest(norms.operator(node, (1, 10_000))) <= truth * 1.01


def test_a_zero_padded_map_gets_no_smallest_value_from_the_torus() -> None:
    """The torus dominates from above only: here its s_min is 1 and that of the map less."""
    kernel = np.zeros((1, 1, 1, 3))
    kernel[0, 0, 0, 0] = 1
    node = convolution(kernel, False, padding=[[0, 0], [1, 1]])
    assert np.linalg.svd(matrix_of(node, (3, 4), 1), compute_uv=False)[-1] == 0
    assert not shows(norms.operator(node, (3, 4)), 1e-3, 1)


# Replay. -----------------------------------------------------------------------------------


class Everything(nn.Module):
    """One of nearly every node that can be replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.b = nn.Conv2d(4, 4, 3, padding=2, dilation=2, padding_mode="circular")
        self.c = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1)
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.norm, self.prelu = nn.BatchNorm2d(4), nn.PReLU(4)
        self.line = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.norm(self.a(x)))
        y = y + torch.tanh(self.b(y)) / 3
        z = nn.functional.leaky_relu(self.c(y), 0.1).flip(-1)
        z = torch.cat([z, torch.maximum(z, x), self.pool(z).repeat(1, 1, 2, 2)], 1)
        z = nn.functional.pixel_shuffle(self.mean(z)[:, :4], 2)
        return self.line(torch.sigmoid(z)[:, 0]).clamp(-1, 0.5)


def parsed(graph: Graph) -> tuple[Chain, str]:
    """A graph as the checker reads it from a certificate."""
    from verification.certificate import Subject, _Writer

    writer = _Writer(Subject("", {}))
    found, output = reading.graph(writer._graph(graph, "", False), writer.tensors)
    nodes.check_shapes(found)
    return Chain(found, Spectra()), output


def test_replay_computes_what_the_module_computes_within_its_error() -> None:
    torch.manual_seed(0)
    net = Everything().eval().double()
    graph = capture(net, (2, 8, 8))
    assert "unknown" not in {node.kind for node in graph}
    chain, output = parsed(graph)
    x = torch.randn(2, 8, 8, dtype=torch.float64)
    found = replay.evaluate(chain, output, replay.Value(x.numpy(), 0.0))
    expected = Interpreter(graph)(x[None])[0].detach().numpy()
    distance = float(np.linalg.norm(found.array - expected))
    assert distance <= found.error <= 1e-11
    assert distance <= 1e-13
    moved = replay.Value(x.numpy() + 1e-3, 0.0)
    other = Interpreter(graph)(x[None] + 1e-3)[0].detach().numpy()
    shown = replay.moved(chain, output, moved, replay.Value(x.numpy(), 0.0))
    truth = float(np.linalg.norm(other - expected))
    assert truth * (1 - 1e-7) <= shown <= truth
