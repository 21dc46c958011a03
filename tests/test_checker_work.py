"""What checking a certificate may cost: small files that took hours, or all memory, are refused."""

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_checker_forged_verdicts import claim, graph, node, root, signed

from verification.checker import kinds, norms, proofs, replay, segments, values, verdicts, work
from verification.checker.__main__ import run
from verification.checker.chain import Line, Spectra
from verification.checker.nodes import check_shapes
from verification.checker.reading import Unreadable, Wrong

ONE = {"weights/A": np.ones(1)}


def spent(check: Callable[..., Any], *arguments: Any) -> float:
    """What a check costs."""
    with work.limited():
        check(*arguments)
        left = work._left.get()
        assert left is not None
        return work.LARGEST - left[0]


def many(folder: Path, count: int) -> Path:
    """2x is not orthogonal, in as many words."""
    double = node("y", "combine", ["x"], [2], {"coefficients": ["2"]})
    of = graph([node("x", "input", [], [2]), double])
    witness = {"x": "witness/0", "y": "witness/1"}
    about: dict[str, Any] = {"bound": [verdicts.coarse(3 * (1 - 1e-9)), None], "witness": witness}
    claims = [claim(f"orthogonal~1/{k + 2}", of, "refuted", **about) for k in range(count)]
    tensors = ONE | {"witness/0": np.ones(2), "witness/1": np.ones((1, 2))}
    return signed(folder, [(of, [])], claims, tensors)


def test_the_work_of_all_claims_adds_up_and_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    one, two, three = (
        spent(verdicts._check, verdicts.read(many(tmp_path, count)), Spectra())
        for count in (1, 2, 3)
    )
    assert three - two == pytest.approx(two - one, rel=0.01)
    assert run(str(many(tmp_path, 3))) == 0
    monkeypatch.setattr(work, "LARGEST", (two + three) / 2)
    assert run(str(many(tmp_path, 2))) == 0
    capsys.readouterr()
    assert run(str(many(tmp_path, 3))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "too much work" in said.err


# Time. ---------------------------------------------------------------------------------------


def test_a_factorisation_of_many_blocks() -> None:
    """Rows of one pixel, each coupled to all others by the dilation."""
    pads = ((2047, 2047), (0, 0))
    kernel = np.ones((1, 1, 1, 3, 1))
    op = norms.Operator(kernel, (4096, 1), (1, 1), pads, (2047, 1), False, (4096, 1))
    with pytest.raises(Unreadable, match="too much work"):
        spent(norms.on_plane, op, 2.0, -1)


def test_sums_of_fractions_whose_denominators_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = [Fraction(1, 10**300 + k) for k in range(200)]
    monkeypatch.setattr(work, "LARGEST", 200 * 1e4)
    assert spent(work.total, [Fraction(1, 10**300)] * 200) < work.LARGEST
    assert spent(work.common, [10**300 << k for k in range(200)]) < work.LARGEST
    for counted in (work.total, lambda each: work.common(t.denominator for t in each)):
        with pytest.raises(Unreadable, match="too much work"):
            spent(counted, terms)
    sums = [str(term) for term in terms]
    about = {"dims": [0], "windows": [[[0, 1]] * 200], "weights": [sums]}
    chain = root(graph([node("x", "input", [], [1]), node("y", "window_sum", ["x"], [200], about)]),
                 ONE).chain  # fmt: skip
    with pytest.raises(Unreadable, match="too much work"):
        spent(chain.derive, "x", "y", "windows", [], {}, "it")


def test_exact_products_of_long_numbers_cost_more() -> None:
    def cost(coefficient: str) -> float:
        nodes = [node("x", "input", [], [4])]
        for k in range(20):
            about = {"coefficients": [coefficient]}
            nodes.append(node(f"y{k}", "combine", [nodes[-1]["name"]], [4], about))
        chain = root(graph(nodes), {}).chain
        return spent(segments.whole, chain.graph)

    assert cost("1/" + "9" * 390) > 20 * cost("1/2")


# Memory. -------------------------------------------------------------------------------------


def test_entries_that_become_exact_numbers_or_balls_are_paid_for() -> None:
    """A fraction of an entry takes some microseconds, its value in balls ten: of 2^18 entries a
    check took 3 seconds and was said to take 0.1, so that many claims took days."""
    n = 2**10
    tanh = {"function": "tanh", "parameters": {}}
    nodes = [node("x", "input", [], [n]), node("y", "activation", ["x"], [n], tanh)]
    for of in (graph(nodes[:1]), graph(nodes)):
        chain = root(of, ONE).chain
        assert spent(replay.image, chain, of["output"], kinds.balls(np.ones((1, n)))) > 5e3 * n
    first = {"x": chain.graph["x"]}
    assert spent(proofs.prove, "mass-preserving", first, "x", -1) > 5e3 * n


def peak(call: Callable[..., Any], *arguments: Any) -> float:
    tracemalloc.start()
    call(*arguments)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_a_long_kernel_takes_its_frequencies_in_turns() -> None:
    op = norms.Operator(np.ones((1, 1, 1, 1, 4096)), (1, 2**18), outputs=(1, 2**18 - 4095))
    assert peak(next, norms._blocks(op)) < 2**28


def test_counted_entries_are_added_one_input_after_the_other() -> None:
    names, size = ["x"] * 64, 2**18
    about = {"coefficients": ["1"] * 64}
    nodes = [node("x", "input", [], [size]), node("y", "combine", names, [size], about)]
    chain = root(graph(nodes), {}).chain
    chain.lines["x", "x"] = Line("identity", 1.0, {})
    assert peak(chain.derive, "x", "y", "together", [("x", "x")], {}, "it") < 16 * 8 * size


def test_no_node_takes_far_more_memory_than_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte for one number, and for a few that are padded far."""
    nodes = [node("x", "input", [], [2**20]), node("y", "concat", ["x"] * 128, [1], {"dim": 0})]
    with pytest.raises(Wrong, match="another shape"):
        check_shapes(root(graph(nodes), {}).chain.graph)
    monkeypatch.setattr(values, "LARGEST_READ", 2**10)
    about = {"stride": [1], "padding": [[32, 31]], "dilation": [1], "groups": 1, "circular": False}
    for kind, before, after in (("conv", [32, 1], [1, 64]), ("adjoint", [1, 64], [32, 1])):
        at = about | ({"extent": [1]} if kind == "adjoint" else {})
        end = node("y", kind, ["x"], after, at, weight="weights/A")
        of = graph([node("x", "input", [], before), end])
        with pytest.raises(Wrong, match="at once"):
            check_shapes(root(of, {"weights/A": np.ones((1, 32, 1))}).chain.graph)


def test_values_of_many_entries_are_not_followed_in_balls_or_fractions() -> None:
    n = 2**13
    nodes = [node("x", "input", [], [n]), node("t", "reshape", ["x"], [n, 1]),
             node("y", "product", ["x", "t"], [n, n])]  # fmt: skip
    chain = root(graph(nodes), {}).chain
    with pytest.raises(Wrong, match="too large to hold"):
        replay.image(chain, "y", kinds.balls(np.ones((1, n))))
    plain = graph([node("x", "input", [], [2**26])])
    found = root(plain, {}).chain.graph
    with pytest.raises(Wrong, match="too many"):
        segments.affordable(found, found.values(), 1)
