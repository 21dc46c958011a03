"""Forged certificates, signed by hand: each says what does not follow and was once accepted, or
crashed or hung the checker."""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from verification.auditor import Audit
from verification.certificate import certify
from verification.checker import kinds, nodes, norms, reading, replay
from verification.checker.__main__ import run
from verification.checker.chain import Chain, Spectra
from verification.checker.reading import Node, Weight, Wrong, digest
from verification.checker.verdicts import ATTESTED
from verification.checker.work import work_of
from verification.claims import parse
from verification.parts import Live
from verification.targets import Target

DTYPES = {"float64": "F64", "int64": "I64"}
ONE = {"weights/a": np.ones(1)}


def node(name: str, kind: str, inputs: list[str], shape: list[int], **about: Any) -> dict[str, Any]:
    """An entry of a graph; `constants` are pairs (tensor, factor) by use."""
    constants = {
        use: {"tensor": tensor, "factor": factor}
        for use, (tensor, factor) in about.pop("constants", {}).items()
    }
    return {"name": name, "kind": kind, "inputs": inputs, "shape": shape, "attributes": about,
            "constants": constants}  # fmt: skip


def line(start: str, end: str, law: str, upper: float, *parts: Any, **values: Any) -> Any:
    return {"start": start, "end": end, "law": law, "upper": upper, "parts": list(map(list, parts)),
            "values": values}  # fmt: skip


def norm_line(end: str, upper: float, norm: Any, smallest: Any = None, factor: str = "1") -> Any:
    return line("x", end, "norm", upper, norm=norm, smallest=smallest, factor=factor)


def activation(function: str, **parameters: Any) -> list[dict[str, Any]]:
    y = node("y", "activation", ["x"], [1], function=function, parameters=parameters)
    return [node("x", "input", [], [1]), y]


def packed(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, list[int]]) -> bytes:
    """A safetensors file, in which some tensors are said to be of other `shapes`."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = np.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": DTYPES[values.dtype.name],
                        "shape": shapes.get(name, list(values.shape)),
                        "data_offsets": [len(data), len(data) + len(raw)]}  # fmt: skip
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def forged(folder: Path, graph: list[dict[str, Any]], claim: str, **about: Any) -> str:
    """A certificate of one claim about the last node of a graph: proved with `upper`, or refuted
    by the tensors witness/x and witness/y with `lower`."""
    given = {"lines": [], "theorem": None, "lower": 0, "upper": None, "shapes": {}, "tensors": ONE}
    given |= about
    tensors, proved = given["tensors"], given["upper"] is not None
    content = {"module": "", "normalisation": None, "output": graph[-1]["name"], "nodes": graph}
    data, key = packed(tensors, given["shapes"]), digest(content)
    (folder / "forged.safetensors").write_bytes(data)
    weights = {k[8:]: v for k, v in tensors.items() if k.startswith("weights/")}
    witness = {end: f"witness/{end}" if f"witness/{end}" in tensors else None for end in "xy"}
    limit = claim.partition("<=")[2]
    certificate: dict[str, Any] = {
        "format": "dsnn-certificate/1", "version": "1", "target": "t", "environment": {},
        "weights": {"sha256": reading.canonical_sha256(weights)}, "source": None,
        "tensors": {"file": "forged.safetensors", "sha256": hashlib.sha256(data).hexdigest()},
        "attested": list(ATTESTED), "left_out": [],
        "graphs": {key: {"graph": content, "lines": given["lines"]}},
        "claims": [{
            "claim": claim, "limit": str(Fraction(limit)) if limit else "1/10000000000",
            "module": "", "graph": key, "verdict": "proved" if proved else "refuted",
            "bound": [given["lower"], given["upper"]], "arithmetic": "real",
            "theorem": given["theorem"], "witness": None if proved else witness,
        }],
    }  # fmt: skip
    certificate["digest"] = digest(certificate)
    (folder / "forged.json").write_text(json.dumps(certificate))
    return str(folder / "forged.json")


def chain_of(graph: list[dict[str, Any]], tensors: Mapping[str, np.ndarray] = ONE) -> Chain:
    content = {"module": "", "normalisation": None, "output": graph[-1]["name"], "nodes": graph}
    found, _ = reading.graph(content, tensors)
    nodes.check_shapes(found)
    return Chain(found, Spectra())


def matrix(values: Any) -> norms.Operator:
    return norms.Operator(np.array(values, float)[None, :, :, None, None])


def test_a_forgery_that_holds_is_accepted(tmp_path: Path) -> None:
    """So what is refused below is not refused for how it is written."""
    tensors = {"weights/a": np.diag([0.1, 1.0])}
    graph = [node("x", "input", [], [2]),
             node("y", "linear", ["x"], [2], constants={"weight": ("weights/a", "1")})]  # fmt: skip
    lines = [norm_line("y", 1.0, "1")]
    about = {"lines": lines, "upper": 1.0, "theorem": "norm", "tensors": tensors}
    assert run(forged(tmp_path, graph, "lipschitz<=1", **about)) == 0
    lines = [line("x", "y", "slope", 1.0)]
    graph = activation("celu", alpha="2")
    assert (
        run(forged(tmp_path, graph, "lipschitz<=1", lines=lines, upper=1.0, theorem="slope")) == 0
    )


# Singular values. --------------------------------------------------------------------------


def test_a_singular_value_below_0(tmp_path: Path) -> None:
    """x - A's(Ax): the constant is 0.995, that for s_min = -1 would be 0.5."""
    a = np.diag([0.1, 1.0])
    graph = [
        node("x", "input", [], [2]),
        node("z", "linear", ["x"], [2], constants={"weight": ("weights/a", "1")}),
        node("s", "activation", ["z"], [2], function="leaky_relu",
             parameters={"negative_slope": "1/2"}),
        node("o", "linear", ["s"], [2], constants={"weight": ("weights/b", "1")}),
        node("y", "combine", ["x", "o"], [2], coefficients=["1", "-1"]),
    ]  # fmt: skip
    for smallest, upper, code in (("-1", 0.5, 1), ("0", 1.0, 0)):
        values = {"h": "1", "a": "1/2", "s_min": smallest, "s_max": "1", "scale": "1"}
        step = line("x", "y", "T7-contractive-euler", upper, ["x", "z"], **values)
        path = forged(
            tmp_path, graph, f"lipschitz<={upper}", upper=upper, theorem="T7-contractive-euler",
            lines=[norm_line("z", 1.0, "1", smallest), step],
            tensors={"weights/a": a, "weights/b": a},
        )  # fmt: skip
        assert run(path) == code


def test_a_norm_that_underflows(tmp_path: Path) -> None:
    """A factor of 10^300 turns a matrix of 1e-200 into one of 1e100."""
    a, factor = np.full((2, 3), 1e-200), "1" + "0" * 300
    weight = {"weight": ("weights/a", factor)}
    graph = [node("x", "input", [], [3]), node("y", "linear", ["x"], [2], constants=weight)]
    path = forged(
        tmp_path, graph, "lipschitz<=1e-300", upper=0.0, theorem="norm", tensors={"weights/a": a},
        lines=[norm_line("y", 0.0, "0", factor=factor)],
    )  # fmt: skip
    assert run(path) == 1
    assert not norms.shown(matrix(a), 2.4e-200, -1)
    assert norms.shown(matrix(a), 3.1e-200, -1)


@pytest.mark.parametrize("size", [1e-163, 1e-170, 1e-155, 1e-140])
def test_bounds_next_to_underflow(size: float) -> None:
    for a in (np.full((100, 100), size), np.full((3, 5), size)):
        truth = size * (a.size**0.5)
        assert not _shows(matrix(a), truth * 0.9, -1)
    a = np.array([[16.0, 15.0], [15.0, 16.0]]) * size
    assert not _shows(matrix(a), 1.1 * size, 1)
    assert not _shows(matrix(a), 30.9 * size, -1)
    plane = norms.Operator(
        np.full((1, 1, 1, 3, 3), size), (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), False, (4, 4)
    )
    assert not _shows(plane, size, -1)
    assert not _shows(plane, size, 1)


def _shows(op: norms.Operator, bound: float, sign: int) -> bool:
    try:
        return norms.shown(op, bound, sign)
    except Wrong:
        return False


def test_a_stride_that_does_not_end() -> None:
    for stride in (2**22, 2**38):
        op = norms.Operator(np.ones((1, 1, 1, 1, 1)), stride=(1, stride))
        with pytest.raises(Wrong, match="too many"):
            norms.shown(op, 0.5, -1)
    strided = norms.Operator(np.ones((1, 1, 1, 3, 3)), (224, 224), (2, 2), ((1, 1), (1, 1)),
                             outputs=(112, 112))  # fmt: skip
    assert norms.shown(strided, 9.0, -1)


def test_empty_images_have_no_norm() -> None:
    at: Any = {"stride": [1], "padding": [[0, 0]], "dilation": [1], "groups": 1, "circular": True}
    weight = {"weight": Weight("w", np.ones((1, 1, 1)), Fraction(1))}
    with pytest.raises(Wrong, match="empty"):
        norms.operator(Node("y", "conv", ("x",), (1, 0), at, weight), (0,))


# Numbers. ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [Fraction(37, 10**325), 10**309, Fraction(1, 2**901)])
def test_a_factor_that_float64_does_not_hold(factor: Fraction) -> None:
    with pytest.raises(Wrong, match="factor"):
        kinds.plain(np.ones(1), Fraction(factor))


def test_a_product_that_underflows() -> None:
    with pytest.raises(Wrong, match="underflows"):
        kinds.plain(np.array([1e-150, 1.0]), Fraction(1, 10**170))
    for factor in (0, 1, -1):
        assert kinds.plain(np.array([5e-324, 0.0]), Fraction(factor))[0] == factor * 5e-324


def test_a_replay_with_such_a_factor() -> None:
    """1e308 x by 3.7e-324 by 1e15 is 0.37 x; with a factor of 4.9e-324 it would be 0.49 x."""
    tensors = {"weights/a": np.array([1e308]), "weights/b": np.array([1e15])}
    small = {"weight": ("weights/a", str(Fraction(37, 10**325)))}
    graph = [
        node("x", "input", [], [1]),
        node("z", "scale", ["x"], [1], constants=small),
        node("y", "scale", ["z"], [1], constants={"weight": ("weights/b", "1")}),
    ]
    chain = chain_of(graph, tensors)
    with pytest.raises(Wrong, match="factor"):
        replay.moved(chain, "y", *(replay.Value(np.array([v]), 0.0) for v in (1.0, 0.0)))


# Activations. ------------------------------------------------------------------------------

OUTSIDE = [
    ("celu", {"alpha": "-1"}), ("celu", {"alpha": "0"}), ("softplus", {"beta": "-1"}),
    ("softplus", {"beta": "0"}), ("softshrink", {"lambd": "-1"}),
]  # fmt: skip
MISSING = [
    ("celu", {}), ("celu", {"alpha": None}), ("elu", {}), ("elu", {"alpha": None}),
    ("softplus", {}), ("softplus", {"beta": None}), ("softshrink", {}), ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": None}), ("prelu", {}),
]  # fmt: skip
UNKNOWN = [
    ("relu", {"foo": None}), ("tanh", {"y": "1"}), ("clamp", {"low": "0", "top": "1"}),
    ("prelu", {"negative_slope": "1/2"}), ("selu", {"alpha": "1"}), ("gelu", {"b": "1"}),
    ("leaky_relu", {"negative_slope": "1/2", "slope": None}), ("elu", {"alpha": "1", "x": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "parameters"), [*OUTSIDE, *MISSING, *UNKNOWN])
def test_parameters_for_which_no_slopes_are_known(
    function: str, parameters: dict[str, Any], tmp_path: Path
) -> None:
    graph = activation(function, **parameters)
    lines = [line("x", "y", "slope", 1.0)]
    assert (
        run(forged(tmp_path, graph, "lipschitz<=1", lines=lines, upper=1.0, theorem="slope")) == 1
    )
    points = {"witness/x": np.array([-1.0]), "witness/y": np.array([-2.0])}
    path = forged(tmp_path, graph, "lipschitz<=1e-9", lower=0.1, tensors=ONE | points)
    assert run(path) == 1
    with pytest.raises(Wrong):
        nodes.slopes(Node("y", "activation", ("x",), (1,), graph[1]["attributes"]))


def test_slopes_are_those_of_a_prelu_and_there_are_some() -> None:
    x = node("x", "input", [], [1, 0])
    slope = {"slope": ("weights/a", "1")}
    for function, tensors in (("relu", ONE), ("prelu", {"weights/a": np.ones((1, 0))})):
        about: Any = {"function": function, "parameters": {}, "constants": slope}
        with pytest.raises(Wrong, match="slopes"):
            chain_of([x, node("y", "activation", ["x"], [1, 0], **about)], tensors)


def test_a_function_of_which_nothing_is_known(tmp_path: Path) -> None:
    """(q, p + 1 / q), which is nothing at q = 0, was said to keep the volume, and the logarithm of
    a constant to be one."""
    one, other = ({"index": (f"folded/{k}", "1")} for k in range(2))
    tensors = {**ONE, "folded/0": np.array([0]), "folded/1": np.array([1])}
    for function, code in (("tanh", 0), ("reciprocal", 1), ("", 1)):
        bent: Any = {"function": function, "parameters": {}}
        shear = [
            node("x", "input", [], [2]), node("q", "gather", ["x"], [1], constants=one),
            node("p", "gather", ["x"], [1], constants=other),
            node("s", "activation", ["q"], [1], **bent),
            node("t", "combine", ["p", "s"], [1], coefficients=["1", "1"]),
            node("y", "concat", ["q", "t"], [2], dim=0),
        ]  # fmt: skip
        about: Any = {"upper": 0.0, "theorem": "T12", "tensors": tensors}
        assert run(forged(tmp_path, shear, "volume-preserving", **about)) == code
        constant = [
            node("x", "input", [], [1]),
            node("c", "constant", [], [1], constants={"value": ("weights/a", "-1")}),
            node("y", "activation", ["c"], [1], **bent),
        ]
        about = {"upper": 0.0, "theorem": "constant", "lines": [line("x", "y", "constant", 0.0)]}
        assert run(forged(tmp_path, constant, "lipschitz<=1", **about)) == code


# Shapes and work. --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[0, 2**40, 2**40], [2**40, 2**40, 0]])
def test_extents_next_to_a_0(shape: list[int], tmp_path: Path) -> None:
    graph = [node("x", "input", [], [1])]
    about: Any = {"lines": [line("x", "x", "identity", 1.0)], "upper": 1.0, "theorem": "identity"}
    tensors = {"weights/a": np.ones(0)}
    path = forged(tmp_path, graph, "lipschitz<=1", **about, tensors=tensors,
                  shapes={"weights/a": shape})  # fmt: skip
    assert run(path) == 2
    assert run(forged(tmp_path, [node("x", "input", [], shape)], "lipschitz<=1", **about)) == 2


def test_zeros_between_balls() -> None:
    """NumPy's zeros of objects are integers, which have no functions of their own."""
    tensors = {"folded/i": np.array([0, -1]), "weights/a": np.ones((1, 1, 1))}
    padded = node("p", "gather", ["x"], [2], constants={"index": ("folded/i", "1")})
    about: Any = {
        "tanh": {"function": "tanh", "parameters": {}}, "softmax": {"dim": 0},
        "norm": {"dims": [0]}, "normalise": {"dims": [0], "epsilon": "1/10"},
    }  # fmt: skip
    for name, attributes in about.items():
        kind, shape = "activation" if name == "tanh" else name, [1] if name == "norm" else [2]
        graph = [node("x", "input", [], [1]), padded, node("y", kind, ["p"], shape, **attributes)]
        found = replay.image(chain_of(graph, tensors), "y", kinds.balls(np.array([[0.5]])))
        assert all(ball.is_finite() for ball in found.flat)
    at: Any = {"stride": [2], "padding": [[0, 0]], "dilation": [1], "groups": 1, "circular": False}
    spread = node("y", "adjoint", ["x"], [1, 3], **at, extent=[3],
                  constants={"weight": ("weights/a", "1")})  # fmt: skip
    graph = [node("x", "input", [], [1, 2]), spread]
    found = replay.image(chain_of(graph, tensors), "y", kinds.balls(np.array([[[3.0, 4.0]]])))
    assert replay.length(found) == 5
    assert replay.length(found[..., 1:2]) == 0
    graph = [node("x", "input", [], [1]), padded, node("y", "quotient", ["p", "p"], [2])]
    found = replay.image(chain_of(graph, tensors), "y", kinds.balls(np.array([[0.5]])))
    assert found[0, 0] == 1
    assert not found[0, 1].is_finite()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.ZeroPad1d(1), nn.Tanh(), nn.Conv1d(1, 1, 3, bias=False)), (1, 6)),
        (nn.Sequential(nn.ConvTranspose1d(1, 1, 1, 2, bias=False), nn.Tanh(),
                       nn.Conv1d(1, 1, 6, bias=False)), (1, 6)),
    ],
)  # fmt: skip
def test_an_audit_of_padded_activations(
    module: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    audit = Audit(Target("t", Live(module.eval(), shape)), budget=2.0, folder=tmp_path, stem="w")
    report = audit.run([parse("norm-preserving"), parse("lipschitz<=0.0001")])
    assert report.verdicts[1].outcome == "refuted"
    assert certify(tmp_path / "a.json", audit, report) == []
    assert run(str(tmp_path / "a.json")) == 0


def test_work_counts_what_is_summed() -> None:
    def counted(kind: str, shape: tuple[int, ...], *inputs: tuple[int, ...], **about: Any) -> float:
        constants = {"weight": Weight("w", about.pop("weight"), Fraction(1))} if about.get(
            "weight") is not None else {}  # fmt: skip
        sources = {str(k): Node(str(k), "unknown", (), v) for k, v in enumerate(inputs)}
        return work_of(Node("y", kind, tuple(sources), shape, about, constants), sources)

    n = 2**16
    assert counted("matmul", (64, 64), (64, n), (n, 64)) == 64 * 64 * n
    assert counted("window_sum", (4,), (n,), dims=[0], windows=[[[0, n]] * 4]) >= 4 * n
    assert counted("norm", (1,), (n,), dims=[0]) == n
    assert counted("combine", (4,), *[(4,)] * 100) == 400
    assert counted("linear", (5, 3), (5, 2), weight=np.ones((3, 2))) == 30
    assert counted("linear", (), (), weight=np.ones((3, 2))) == 6
    kernel = np.ones((4, 3, 5))
    assert counted("conv", (4, 7), (3, 11), weight=kernel) == 60 * 7
    assert counted("adjoint", (3, 1), (4, 2**20), weight=kernel) == 60 * 2**20


def test_a_product_with_a_long_inner_dimension(tmp_path: Path) -> None:
    n = 2**16
    graph = [node("x", "input", [], [64, n]), node("t", "reshape", ["x"], [n, 64]),
             node("y", "matmul", ["x", "t"], [64, 64])]  # fmt: skip
    chain = chain_of(graph)
    with pytest.raises(Wrong, match="too large"):
        replay.image(chain, "y", np.broadcast_to(kinds.balls(np.ones(1))[0], (8, 64, n)))
