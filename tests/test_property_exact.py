"""Exact linear nodes: the adjoint identity <Ax, y> = <x, Aᵀy> holds to the last bit, and the sparse
matrix of a node is the same map."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from verification import exact
from verification.exact import Exact
from verification.graph import Constant, Node
from verification.node_matrices import all_matrices

IMAGE = {
    "stride": [1, 1],
    "padding": [[1, 1], [1, 1]],
    "dilation": [1, 1],
    "groups": 1,
    "circular": False,
}
CIRCULAR = {**IMAGE, "circular": True}


def _weight(*shape: int) -> dict[str, Constant]:
    return {"weight": Constant(torch.randn(shape), Fraction(-2, 3))}


def _nodes() -> list[tuple[Node, list[tuple[int, ...]]]]:
    torch.manual_seed(0)
    half = {"stride": [2], "padding": [[1, 0]], "dilation": [2], "groups": 2, "circular": False}
    thirds = [[Fraction(1, 3), Fraction(1, 2)], [Fraction(1), Fraction(1, 7)]]
    windows = [[[0, 2], [1, 3]], [[0, 1], [1, 3]]]
    pool = {"dims": [0, 1], "windows": windows, "weights": thirds}
    index = torch.tensor([[4, 0], [-1, 4], [2, 3]])
    return [
        (Node("n", "linear", ("x",), (2, 5), {}, _weight(5, 3)), [(2, 3)]),
        (
            Node("n", "conv", ("x",), (4, 5, 5), CIRCULAR, _weight(4, 3, 3, 3)),
            [(3, 5, 5)],
        ),
        (
            Node("n", "conv", ("x",), (4, 5, 5), IMAGE, _weight(4, 3, 3, 3)),
            [(3, 5, 5)],
        ),
        (Node("n", "conv", ("x",), (4, 3), half, _weight(4, 2, 3)), [(4, 8)]),
        (
            Node(
                "n",
                "adjoint",
                ("x",),
                (3, 5, 5),
                {**CIRCULAR, "extent": [5, 5]},
                _weight(4, 3, 3, 3),
            ),
            [(4, 5, 5)],
        ),
        (Node("n", "scale", ("x",), (3, 4), {}, _weight(3, 1)), [(3, 4)]),
        (Node("n", "gather", ("x",), (3, 2), {"index": index}), [(5,)]),
        (Node("n", "reshape", ("x",), (3, 4), {}), [(2, 6)]),
        (
            Node("n", "combine", ("x", "y"), (3,), {"coefficients": [Fraction(1, 3), Fraction(2)]}),
            [(3,), (3,)],
        ),
        (Node("n", "concat", ("x", "y"), (2, 5), {"dim": 1}), [(2, 3), (2, 2)]),
        (
            Node(
                "n",
                "window_sum",
                ("x",),
                (2, 2),
                pool,
            ),
            [(3, 3)],
        ),
    ]


def _inner(a: Exact, b: Exact) -> Fraction:
    return sum((x * y for x, y in zip(a.fractions(), b.fractions(), strict=True)), Fraction(0))


@pytest.mark.parametrize(("node", "shapes"), _nodes(), ids=lambda x: getattr(x, "kind", ""))
def test_adjoint_and_matrix_are_the_map(node: Node, shapes: list[tuple[int, ...]]):
    torch.manual_seed(1)
    xs = [exact.exact(torch.randn(1, *shape).double()) for shape in shapes]
    y = exact.exact(torch.randn(node.shape))
    image = exact.forward(node, xs)
    pulled = exact.backward(node, y, shapes)
    assert _inner(image.reshape((-1,)), y) == sum(map(_inner, pulled, xs))
    matrices = all_matrices(node, shapes)
    total = np.full(math.prod(node.shape), Fraction(0), dtype=object)
    slack = np.full(math.prod(node.shape), Fraction(0), dtype=object)
    for matrix, x in zip(matrices, xs, strict=True):
        hi, lo, rad = (
            [[Fraction(v) for v in row] for row in p.toarray().tolist()] for p in matrix.parts
        )
        values = x.fractions()
        for i in range(len(total)):
            total[i] += sum((a + b) * v for a, b, v in zip(hi[i], lo[i], values, strict=True))
            slack[i] += sum(r * abs(v) for r, v in zip(rad[i], values, strict=True))
    assert all(abs(t - v) <= s for t, v, s in zip(total, image.fractions(), slack, strict=True))


def test_cancellation_is_decided_exactly():
    """h + t - h - t = 0, and 2^-200 is not 0."""
    h, t = exact.exact(torch.tensor([0.1])), exact.exact(torch.tensor([1e-30], dtype=torch.float64))
    assert exact.added([h, t, h.times(Fraction(-1)), t.times(Fraction(-1))]).zero
    assert not exact.added(
        [h, exact.exact(torch.tensor([2.0**-200], dtype=torch.float64)), h.times(Fraction(-1))]
    ).zero


def test_infinite_constants_are_refused():
    with pytest.raises(ArithmeticError):
        exact.exact(torch.tensor([math.inf]))
