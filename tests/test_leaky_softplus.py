"""Steps whose activation is a softplus plus a multiple of its argument: the laws of leaky ReLU, for
the auditor and for the checker, and not for what only looks like one."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from test_checker_lines import Graph as Checked
from test_lipschitz_graph import Build

from verification.checker.reading import Wrong

W = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
LEAK, SHARP = Fraction(1, 4), 8.0


def built(of: str = "z", outer: torch.Tensor | None = W.T, sign: int = -1) -> Build:
    """x + sign/2 outer (leak times `of` + (1 - leak) softplus(z)) with z = Wx."""
    graph = Build(2)
    z = graph.linear("x", W)
    other = graph.linear("x", 2 * W) if of == "other" else {"z": z, "x": "x"}[of]
    smooth = graph.activation(z, "softplus", beta=SHARP)
    moved = graph.combine((LEAK, other), (1 - LEAK, smooth))
    if outer is not None:
        moved = graph.linear(moved, outer)
    graph.combine((1, "x"), (Fraction(sign, 2), moved))
    return graph


@pytest.mark.parametrize(
    ("outer", "sign", "law", "expected"),
    [
        (W.T, -1, "T7-contractive-euler", 1 - 0.5 * 0.25 * 0.25),
        (W.T, 1, "T8'-expansive-gradient-euler", 1.5),
        (None, 1, "T8'-expansive-euler", 1.5),
        (None, -1, "T8'-expansive-euler", 1.5),
    ],
)
def test_it_has_slopes_from_the_leak_to_1(
    outer: torch.Tensor | None, sign: int, law: str, expected: float
):
    line = built(outer=outer, sign=sign).constant()
    assert line.law == law
    assert expected <= line.upper <= expected * (1 + 1e-9)


@pytest.mark.parametrize(("of", "outer"), [("other", W.T), ("other", None), ("x", W.T)])
def test_another_argument_is_no_leak(of: str, outer: torch.Tensor | None):
    assert built(of, outer).constant().law in ("sum", "centred")


def checked(of: str = "a", scale: int = 1) -> Checked:
    """The contraction above as the checker reads it, its softplus of `scale` times Wx."""
    weight = W.numpy()
    graph = Checked(2).add("a", "linear", "x", weight=weight).add("b", "linear", "x", weight=weight)
    graph.add("k", "combine", "a", coefficients=[str(scale)])
    graph.add("s", "activation", "k", function="softplus", parameters={"beta": str(SHARP)})
    graph.add("m", "combine", of, "s", coefficients=["1/4", "3/4"])
    graph.add("o", "linear", "m", weight=weight.T, f=Fraction(-1, 2))
    graph.add("end", "combine", "x", "o", coefficients=["1", "1"])
    graph.norm("x", "a", float(np.linalg.norm(weight, 2)) * (1 + 1e-9), 0.5 * (1 - 1e-9))
    return graph


def test_the_checker_derives_the_same():
    line = checked().line("x", "end", "T7-contractive-euler", ("x", "a"))
    assert 1 - 0.5 * 0.25 * 0.25 <= line.upper <= (1 - 0.5 * 0.25 * 0.25) * (1 + 1e-8)
    assert line.values["a"] == Fraction(1, 4)


@pytest.mark.parametrize(("of", "scale"), [("b", 1), ("s", 1), ("a", 2), ("a", -1)])
def test_the_checker_derives_nothing_else(of: str, scale: int):
    with pytest.raises(Wrong):
        checked(of, scale).line("x", "end", "T7-contractive-euler", ("x", "a"))
