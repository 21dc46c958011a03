"""The linear part of a node as a sparse matrix on flat entries."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import scipy
import torch
import torch.nn.functional as F

from verification.exact import MOVES, RUN
from verification.graph import ROUNDED, Constant, Node
from verification.sparse import MOST_ENTRIES, Matrix, blurred, exactly, identity, nothing, times


def matrices(node: Node, shapes: Sequence[tuple[int, ...]]) -> list[Matrix]:
    """For each input, of the given shape, the matrix that takes it to its share of the output;
    only for nodes that compute (`linear`, `conv`, `adjoint`, `scale`, `combine`, `window_sum`)."""
    n = [math.prod(shape) for shape in shapes]
    if node.kind == "combine":
        coefficients = node.attributes["coefficients"]
        return [times(identity(k), Fraction(c)) for k, c in zip(n, coefficients, strict=True)]
    if node.kind == "window_sum":
        return [_window_sum(node, shapes[0])]
    weight = node.constants["weight"]
    value = weight.value.detach().to("cpu", torch.float64)
    if not bool(value.isfinite().all()):
        raise ArithmeticError("the constants are not finite")
    places = {"linear": shapes[0][:-1], "conv": node.shape[1:], "adjoint": shapes[0][1:]}
    if int(value.count_nonzero()) * math.prod(places.get(node.kind, ())) > 2 * MOST_ENTRIES:
        raise ArithmeticError("the matrices of this graph are too large")
    if node.kind == "scale" and shapes[0] != node.shape:
        raise ArithmeticError("a scale repeats entries")
    if node.kind == "scale":
        entries = value.expand(node.shape).flatten().numpy()
        plain = exactly(scipy.sparse.diags(entries).tocsr())
    elif node.kind == "linear":
        lead = math.prod(shapes[0][:-1])
        plain = exactly(
            scipy.sparse.kron(
                scipy.sparse.identity(lead), scipy.sparse.csr_matrix(value.numpy()), format="csr"
            )
        )
    elif node.kind == "conv":
        plain = exactly(_convolution(node, value, shapes[0]))
    else:
        plain = exactly(_convolution(node, value, node.shape).T.tocsr())
    return [_factored(plain, weight)]


def all_matrices(node: Node, shapes: Sequence[tuple[int, ...]]) -> list[Matrix]:
    """As `matrices`, and for the nodes that only move entries."""
    if node.kind not in MOVES:
        return matrices(node, shapes)
    sizes = [math.prod(shape) for shape in shapes]
    ends = np.cumsum([0, *sizes])
    parts = [
        torch.arange(start, stop).reshape(1, *shape)
        for (start, stop), shape in zip(itertools.pairwise(ends), shapes, strict=True)
    ]
    sources = RUN[node.kind](node, [1 + part for part in parts], {}).flatten().numpy() - 1
    found = []
    for start, stop in itertools.pairwise(ends):
        rows = np.flatnonzero((sources >= start) & (sources < stop))
        entries = (np.ones(len(rows)), (rows, sources[rows] - start))
        found.append(exactly(scipy.sparse.csr_matrix(entries, (len(sources), stop - start))))
    return found


def _factored(matrix: Matrix, constant: Constant) -> Matrix:
    return times(blurred(matrix, ROUNDED) if constant.rounded else matrix, constant.factor)


def _convolution(node: Node, weight: torch.Tensor, shape: Sequence[int]) -> Any:
    """Of the convolution of an input of `shape` (n, *extent)."""
    a = node.attributes
    numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(1, *shape)
    pads = [p for pair in reversed(a["padding"]) for p in pair]
    mode = "circular" if a["circular"] else "constant"
    padded = (F.pad(numbers, pads, mode=mode) if any(pads) else numbers)[0].to(torch.int64)
    size = weight.shape[2:]
    counts = [
        (padded.shape[1 + k] - d * (size[k] - 1) - 1) // s + 1
        for k, (s, d) in enumerate(zip(a["stride"], a["dilation"], strict=True))
    ]
    m, per_group, groups = weight.shape[0], weight.shape[1], a["groups"]
    out = torch.arange(m * math.prod(counts)).reshape(groups, m // groups, 1, -1)
    rows, cols, data = [], [], []
    for tap in np.ndindex(*size):
        cut = padded
        for k, t in enumerate(tap):
            start = t * a["dilation"][k]
            stop = start + (counts[k] - 1) * a["stride"][k] + 1
            cut = cut.narrow(1 + k, start, stop - start)
            steps = torch.arange(0, stop - start, a["stride"][k])
            cut = cut.index_select(1 + k, steps)
        source = cut.reshape(groups, 1, per_group, -1)
        value = weight[(slice(None), slice(None), *tap)].reshape(groups, m // groups, per_group, 1)
        wide = torch.broadcast_shapes(out.shape, source.shape, value.shape)
        parts = [t.expand(wide).flatten() for t in (out, source, value)]
        used = (parts[1] > 0) & (parts[2] != 0)
        rows.append(parts[0][used].numpy())
        cols.append(parts[1][used].numpy() - 1)
        data.append(parts[2][used].numpy())
    # Two taps may reach one entry around a small torus: then it is a sum, which is not exact.
    row, col, values = (np.concatenate(part) for part in (rows, cols, data))
    full = (m * math.prod(counts), math.prod(shape))
    matrix = scipy.sparse.coo_matrix((values, (row, col)), full).tocsr()
    if matrix.nnz != len(values):
        raise ArithmeticError("a kernel that reaches around the whole image")
    return matrix


def _window_sum(node: Node, shape: Sequence[int]) -> Matrix:
    """One dimension after the other, each an exact matrix where its weights are."""
    a = node.attributes
    extents = list(shape)
    total = identity(math.prod(shape))
    for dim, windows, weights in zip(a["dims"], a["windows"], a["weights"], strict=True):
        one = np.zeros((len(windows), extents[dim]))
        for row, (start, stop) in enumerate(windows):
            one[row, start:stop] = 1
        before, after = math.prod(extents[:dim]), math.prod(extents[dim + 1 :])
        around = scipy.sparse.kron(
            scipy.sparse.kron(scipy.sparse.identity(before), one),
            scipy.sparse.identity(after),
            format="csr",
        )
        extents[dim] = len(windows)
        total = _weighted(exactly(around), weights, before, after) @ total
    return total


def _weighted(matrix: Matrix, weights: Sequence[Any], before: int, after: int) -> Matrix:
    if len(set(weights)) == 1:
        return times(matrix, Fraction(weights[0]))
    total = nothing(*matrix.shape)
    for weight in set(weights):
        chosen = np.array([w == weight for w in weights], dtype=float)
        rows = np.kron(np.kron(np.ones(before), chosen), np.ones(after))
        total = total + times(exactly(scipy.sparse.diags(rows).tocsr()) @ matrix, Fraction(weight))
    return total
