"""Forged certificates: signed by hand, each states something false or ambiguous, and is refused."""

import hashlib
import io
import json
import math
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from dsnn.errors import UserError
from verification.checker import proofs, reading, replay, verdicts
from verification.checker.__main__ import examine, main, run
from verification.checker.chain import Chain, Spectra
from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import Root, coarse, matches
from verification.claims import parse

ONE = {"weights/A": np.ones(1)}
POINT = {"stride": [1], "padding": [[0, 0]], "dilation": [1], "groups": 1, "circular": False}
IDENTITY = {"start": "x", "end": "x", "law": "identity", "upper": 1.0, "parts": [], "values": {}}


def node(
    name: str, kind: str, inputs: list[str], shape: list[int], attributes: Any = None, **keys: str
) -> dict[str, Any]:
    """A node; a constant is the key of a tensor, and a factor after a space."""
    constants = {
        use: dict(zip(("tensor", "factor"), [*key.split(), "1"], strict=False))
        for use, key in keys.items()
    }
    return {
        "name": name, "kind": kind, "inputs": inputs, "shape": shape,
        "attributes": attributes or {}, "constants": constants,
    }  # fmt: skip


def graph(nodes: list[Any], **about: Any) -> dict[str, Any]:
    plain = {"module": "", "normalisation": None, "output": nodes[-1]["name"], "nodes": nodes}
    return plain | about


def claim(text: str, of: dict[str, Any], verdict: str, **about: Any) -> dict[str, Any]:
    written = re.split("<=|~", text)[1:] or ["1/10000000000"]
    plain = {
        "claim": text, "limit": str(Fraction(written[0])), "module": of["module"],
        "graph": reading.digest(of), "verdict": verdict, "bound": [0, None], "arithmetic": "real",
        "theorem": None, "witness": None,
    }  # fmt: skip
    return plain | about


def signed(
    folder: Path,
    graphs: list[tuple[dict[str, Any], list[Any]]],
    claims: list[Any],
    tensors: Mapping[str, np.ndarray],
    **about: Any,
) -> Path:
    """A certificate whose hashes are all right."""
    path, data = folder / "forged.json", save(dict(tensors))
    path.with_suffix(".safetensors").write_bytes(data)
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights")}
    content = {
        "format": verdicts.FORMAT, "version": "1", "target": "t", "environment": {},
        "weights": {"sha256": reading.canonical_sha256(weights)}, "source": None,
        "tensors": {"file": "forged.safetensors", "sha256": hashlib.sha256(data).hexdigest()},
        "attested": list(verdicts.ATTESTED), "left_out": [], "claims": claims,
        "graphs": {reading.digest(g): {"graph": g, "lines": lines} for g, lines in graphs},
    } | about  # fmt: skip
    path.write_text(json.dumps(content | {"digest": reading.digest(content)}))
    return path


def root(of: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Root:
    nodes, output = reading.graph(of, tensors)
    return Root("", of["normalisation"], output, Chain(nodes, Spectra()))


def prove(name: str, nodes: list[Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """The theorem and the defect, or why there is no proof."""
    found, output = reading.graph(graph(nodes), tensors)
    return proofs.prove(name, found, output, -1)


# Equalities. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "theorem"),
    [("orthogonal", "orthogonal"), ("volume-preserving", "T12"), ("mass-preserving", "T14"),
     ("norm-preserving", "T15")],
)  # fmt: skip
def test_a_node_of_an_invented_name_is_another_node(
    tmp_path: Path, name: str, theorem: str
) -> None:
    """2x², whose product without the factor was taken for the forged node x/2."""
    nodes = [
        node("x", "input", [], [2]),
        node("p, plain", "combine", ["x"], [2], {"coefficients": ["1/2"]}),
        node("c", "combine", ["x"], [2], {"coefficients": ["2"]}),
        node("p", "product", ["c", "x"], [2]),
    ]
    of = graph(nodes)
    assert isinstance(prove(name, nodes, {}), str)
    entry = claim(name, of, "proved", bound=[0, 0], theorem=theorem)
    assert run(str(signed(tmp_path, [(of, [])], [entry], ONE))) == 1


@pytest.mark.parametrize("kind", ["conv", "adjoint"])
def test_a_bias_is_not_added_to_what_is_pulled_back(kind: str) -> None:
    extent = {"extent": [4]} if kind == "adjoint" else {}
    keys = {"weight": "weights/W", "bias": "weights/b"}
    nodes = [node("x", "input", [], [2, 4]),
             node("y", kind, ["x"], [2, 4], POINT | extent, **keys)]  # fmt: skip
    tensors = {
        "weights/W": np.array([[0.0, 0.0], [0.0, 2.0]])[..., None],
        "weights/b": np.array([1.0, -1.0]),
    }
    found = prove("mass-preserving", nodes, tensors)
    assert isinstance(found, str) or found[1] >= 1
    kept = tensors | {"weights/W": np.array([[0.5, 0.25], [0.5, 0.75]])[..., None]}
    if kind == "adjoint":
        kept["weights/W"] = kept["weights/W"].transpose(1, 0, 2).copy()
    assert prove("mass-preserving", nodes, kept) == ("T14", 0)


def test_a_large_state_is_refused_before_anything_is_allocated() -> None:
    nodes = [node("x", "input", [], [2**13]),
             node("y", "combine", ["x"], [2**13], {"coefficients": ["1"]})]  # fmt: skip
    prove("mass-preserving", nodes[:1], {})  # imports
    tracemalloc.start()
    assert "too large" in prove("symplectic", nodes, {})
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


# Replays. ------------------------------------------------------------------------------------


def refuted(
    folder: Path, nodes: list[Any], limit: str, lower: float | None, tensors: Mapping[str, Any]
) -> Path:
    of = graph(nodes)
    witness = {"x": "witness/0", "y": "witness/1"}
    entry = claim(f"lipschitz<={limit}", of, "refuted", bound=[lower, None], witness=witness)
    return signed(folder, [(of, [])], [entry], tensors)


@pytest.mark.parametrize("kind", ["maximum", "minimum"])
def test_the_error_of_an_entry_that_is_broadcast_counts_as_often(kind: str) -> None:
    """3 (x / 3) - x is 0, but for an error that each of n entries of the extreme repeats."""
    n, sign = 2**16, 1 if kind == "maximum" else -1
    nodes = [
        node("x", "input", [], [1]),
        node("s", "scale", ["x"], [1], weight="weights/A 1/3"),
        node("y", "combine", ["s", "x"], [1], {"coefficients": ["3", "-1"]}),
        node("c", "constant", [], [n], value="folded/far"),
        node("m", kind, ["c", "y"], [n]),
    ]
    tensors = ONE | {"folded/far": np.full(n, -sign * 2.0**-24)}
    chain = root(graph(nodes), tensors).chain
    for v in 1 + np.random.default_rng(0).random(64):
        found = replay.evaluate(chain, "m", replay.Value(np.array([v]), 0.0))
        assert math.sqrt(float(found.array @ found.array)) <= found.error


def test_an_overflow_refutes_nothing(tmp_path: Path) -> None:
    nodes = [node("x", "input", [], [1]), node("y", "scale", ["x"], [1], weight="weights/W")]
    tensors = {"weights/W": np.array([1.2e154])}
    pair = [np.array([1.0]), np.array([-1.0])]
    with pytest.raises(Wrong, match="overflows"), np.errstate(all="ignore"):
        root(graph(nodes), tensors).replayed(pair)
    tensors |= dict(zip(("witness/0", "witness/1"), pair, strict=True))
    assert run(str(refuted(tmp_path, nodes, "1e300", None, tensors))) == 2


@pytest.mark.parametrize(
    ("kind", "weight", "factor"),
    [("scale", 1e308, "37/1" + "0" * 325), ("scale", 1e-200, "74/1" + "0" * 125),
     ("combine", 1.0, "37/1" + "0" * 325)],
)  # fmt: skip
def test_numbers_that_underflow_are_not_replayed(kind: str, weight: float, factor: str) -> None:
    """A factor of 3.7e-324 is 33 % larger as a double."""
    small = node("y", "scale", ["x"], [1], weight=f"weights/W {factor}")
    if kind == "combine":
        small = node("y", "combine", ["x"], [1], {"coefficients": [factor]})
    nodes = [node("x", "input", [], [1]), small,
             node("z", "scale", ["y"], [1], weight="weights/V")]  # fmt: skip
    tensors = {"weights/W": np.array([weight]), "weights/V": np.array([1e15])}
    with pytest.raises(Wrong, match=r"too small|underflows"):
        root(graph(nodes), tensors).replayed([np.array([1e308]), np.array([0.0])])


def test_carried_errors_do_not_underflow() -> None:
    nodes = [node("x", "input", [], [1]),
             node("y", "combine", ["x"], [1], {"coefficients": [f"1/{2**1080}"]})]  # fmt: skip
    chain = root(graph(nodes), {}).chain
    given = [replay.Value(np.zeros(1), 2.0**1000)]
    assert replay._carried(chain, chain.graph["y"], given) >= 2.0**-80


def test_a_constant_beside_the_input_has_a_jacobian_too() -> None:
    nodes = [
        node("x", "input", [], [2]),
        node("c", "constant", [], [2], value="folded/c"),
        node("s", "combine", ["x", "c"], [2], {"coefficients": ["2", "1"]}),
        node("y", "concat", ["s", "c"], [4], {"dim": 0}),
    ]
    chain = root(graph(nodes), {"folded/c": np.ones(2)}).chain
    found = replay.jacobian(chain, "y", replay.kinds.balls(np.zeros(2)))
    assert np.array_equal(found.astype(float), [[2, 0], [0, 2], [0, 0], [0, 0]])


# The file as a whole. ------------------------------------------------------------------------


def test_a_module_has_one_graph(tmp_path: Path) -> None:
    same = graph([node("x", "input", [], [1])], module="m")
    twice = node("y", "combine", ["x"], [1], {"coefficients": ["2"]})
    other = graph([node("x", "input", [], [1]), twice], module="m")
    tensors = ONE | {"witness/0": np.array([1.0]), "witness/1": np.array([0.0])}
    lower = coarse(root(other, tensors).replayed([np.ones(1), np.zeros(1)]) * (1 - verdicts.SLACK))
    claims = [
        claim("m:lipschitz<=1", same, "proved", bound=[0, 1.0], theorem="identity"),
        claim("m:lipschitz<=3/2", other, "refuted", bound=[lower, None],
              witness={"x": "witness/0", "y": "witness/1"}),
    ]  # fmt: skip
    path = signed(tmp_path, [(same, [IDENTITY]), (other, [])], claims, tensors)
    with pytest.raises(Wrong, match="two graphs"):
        verdicts.check(verdicts.read(path))


def identity(folder: Path, text: str, module: str = "", upper: float = 1.0, **about: Any) -> Path:
    """A certificate about the identity."""
    of = graph([node("x", "input", [], about.pop("shape", [1]))], module=module)
    of |= {"normalisation": about.pop("normalisation", None)}
    entry = claim(text, of, "proved", bound=[0, upper], theorem="identity")
    return signed(folder, [(of, [IDENTITY])], [entry], about.pop("tensors", ONE), **about)


def test_a_file_that_is_not_read_is_not_said_to_hold_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(b"whatever it holds")
    source = {"file": "weights.pt", "sha256": hashlib.sha256(b"whatever it holds").hexdigest()}
    path = identity(tmp_path, "lipschitz<=1", source=source)
    assert run(str(path), str(target)) == 0
    assert "embedded weights were not compared" in capsys.readouterr().out
    assert any(".safetensors" in text for text in verdicts.ATTESTED)


def test_names_with_a_nul_are_refused(tmp_path: Path) -> None:
    """Two states of one hash."""
    name = "a\0int8\x002\0xyb"
    two = {"a": np.frombuffer(b"xy", np.int8), "b": np.zeros(1, np.float32)}
    one = {name: np.zeros(1, np.float32)}
    assert reading.canonical_sha256(two) == reading.canonical_sha256(one)
    path = identity(tmp_path, "lipschitz<=1", tensors={"weights/a": np.zeros(1, np.float32)})
    file = path.with_suffix(".safetensors")
    header = {f"weights/{name}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(Unreadable, match="ambiguous"):
        reading.tensors(file.read_bytes(), "it")


def test_pixels_have_as_many_channels_as_their_statistics(tmp_path: Path) -> None:
    def pixels(count: int) -> int:
        given = {"mean": [0.5] * count, "std": [128] * count}
        path = identity(tmp_path, "lipschitz[pixel]<=1/100", upper=1 / 128, shape=[3, 2, 2],
                        normalisation=given)  # fmt: skip
        return run(str(path))

    assert (pixels(3), pixels(2), pixels(4)) == (0, 1, 1)
    assert any("normalised" in text for text in verdicts.ATTESTED)


@pytest.mark.parametrize(
    ("glob", "module", "found"),
    [("**." * 25 + "b", "a." * 40 + "a", 1), ("*a" * 30 + "b", "a" * 60, 1),
     ("**." * 25 + "a", "a." * 40 + "a", 0), ("a." * 3000 + "a", "a." * 3000 + "a", 2)],
)  # fmt: skip
def test_globs_end(tmp_path: Path, glob: str, module: str, found: int) -> None:
    start = time.monotonic()
    assert run(str(identity(tmp_path, f"{glob}:lipschitz<=1", module))) == found
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("glob", "module", "found"),
    [("", "", True), ("*", "", False), ("**", "", True), ("a.*", "a.b", True),
     ("a.*", "a.b.c", False), ("a.**", "a", True), ("a.**.c", "a.b.b.c", True),
     ("a*c", "abc", True), ("a*c", "ab", False), ("*", "a", True), ("a", "a.b", False),
     ("**.b", "a.b.a", False), ("a.b*.*1", "a.b.x1", True), (".", "x", False)],
)  # fmt: skip
def test_what_a_glob_matches(glob: str, module: str, found: bool) -> None:
    split: Callable[[str], list[str]] = lambda text: text.split(".") if text else []  # noqa: E731
    assert matches(split(glob), split(module)) == found


def test_a_certificate_of_nothing_but_what_was_left_out(tmp_path: Path) -> None:
    left = [{"claim": "orthogonal", "module": "", "reason": "no proof"}]
    assert run(str(signed(tmp_path, [], [], ONE, left_out=left))) == 3
    assert run(str(signed(tmp_path, [], [], ONE))) == 1


def test_a_long_claim_is_said_whole(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A limit of 1000 was cut off behind its 1."""
    module = "m" * (400 - len(":lipschitz<=1"))
    path = identity(tmp_path, f"{module}:lipschitz<=1000", module)
    outcome = examine(str(path))
    assert outcome.exit_code == 0
    assert outcome.as_json()["verdicts"][0]["claim"] == f"{module}:lipschitz<=1000"
    assert run(str(path)) == 0
    assert f"{module}:lipschitz<=1000 " in capsys.readouterr().out


def test_a_name_looks_like_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A reader, or grep, found a line that says what was never shown."""
    module = "contractive  (network)  [0.0, 0.5]  derived again"
    path = identity(tmp_path, f"{module}:lipschitz<=1", module)
    assert run(str(path)) == 0
    assert not capsys.readouterr().out.startswith("proved   contractive")


def test_pixels_are_those_of_the_whole_network(tmp_path: Path) -> None:
    """As for an audit, which refuses such a claim."""
    given = {"mean": [0.0], "std": [1]}
    for text, module, code in (("lipschitz[pixel]<=1", "", 0), ("m:lipschitz[pixel]<=1", "m", 2)):
        path = identity(tmp_path, text, module, shape=[1, 2], normalisation=given)
        assert run(str(path)) == code
    with pytest.raises(UserError):
        parse("m:lipschitz[pixel]<=1")


def test_what_stdout_cannot_encode_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = identity(tmp_path, "é:lipschitz<=1", "é")
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "argv", ["check", str(path)])
    assert main() == 0
    stdout.flush()
    assert b"\\xe9:lipschitz<=1" in stdout.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_default_tolerance_needs_weights_of_one_type(tmp_path: Path) -> None:
    """(1 + 1e-7) x keeps the sum up to the tolerance of float32, and not up to that of float64: of
    weights of both types either verdict was accepted."""
    w = 1 + 1e-7
    of = graph([node("x", "input", [], [1]), node("y", "scale", ["x"], [1], weight="weights/W")])
    alone = {"weights/W": np.array([w]), "witness/0": np.ones(1)}
    about: Any = {"bound": [coarse(w - 1), None], "witness": {"x": "witness/0", "y": None}}
    entries = [
        claim("mass-preserving", of, "proved", bound=[0, w - 1], theorem="T14")
        | {"limit": "1/100000"},
        claim("mass-preserving", of, "refuted", **about),
    ]
    for entry, code in zip(entries, (1, 0), strict=True):
        assert run(str(signed(tmp_path, [(of, [])], [entry], alone))) == code
        both = alone | {"weights/b": np.zeros(1, np.float32)}
        assert run(str(signed(tmp_path, [(of, [])], [entry], both))) == 1
