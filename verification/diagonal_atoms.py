"""Nonlinear nodes whose derivative is diagonal, D, and when B D A is symmetric whatever D is.

B D A is the sum over the entries i of d_i b_i a_iᵀ: symmetric for every D if and only if each
column b_i of B is a multiple of the row a_i of A.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dsnn.operators.rounding import up
from verification.activations import SLOPES
from verification.exact import exact
from verification.forms import Segment
from verification.graph import Node
from verification.sparse import Matrix, diagonal, norm_upper, nothing, stacked


@dataclass(frozen=True)
class Diagonal:
    """All atoms of a segment: ds = D A dx with 0 <= |D| <= steepest, for the state x."""

    arguments: Matrix
    steepest: float


def diagonal_atoms(segment: Segment) -> Diagonal | str:
    """The atoms of a segment when they are activations of linear forms of its state alone; else
    the reason why not. Atoms that do not reach the output do not count."""
    rows, steepest = [nothing(0, segment.states)], 0.0
    for atom in segment.atoms:
        if segment.output[:, atom.start : atom.stop].zero:
            rows.append(nothing(atom.stop - atom.start, segment.states))
            continue
        if atom.node.kind != "activation":
            return f"{atom.node.kind} ({atom.node.name}) is no activation"
        (form,) = atom.inputs
        if not form[:, segment.states :].zero:
            return f"{atom.node.name} is an activation of activations"
        rows.append(form[:, : segment.states])
        steepest = max(steepest, slope_bound(atom.node))
    return Diagonal(stacked(rows), steepest)


def slope_bound(node: Node) -> float:
    """Upper bound on |f'| for an activation."""
    name = node.attributes["function"]
    if name == "prelu":
        slope = node.constants["slope"]
        return max(1.0, up(float(exact(slope.value, slope.factor).largest())))
    steepest = max(map(abs, SLOPES[name](**node.attributes["parameters"])))
    near = float(steepest)
    return near if Fraction(near) == steepest else up(near)


def asymmetry(columns: Matrix, atoms: Diagonal) -> float:
    """Upper bound on |B D A - (B D A)ᵀ| over all D, for B = `columns`; 0 only if exactly 0.

    With b_i = c_i a_i + r_i it is that of R D A, at most 2 |R| |A| |D|.
    """
    rows = atoms.arguments
    remainder = _remainder(columns.T, rows)
    if remainder.zero:
        return 0.0
    return up(2 * up(norm_upper(remainder) * norm_upper(rows)) * atoms.steepest)


def _remainder(columns: Matrix, rows: Matrix) -> Matrix:
    """Rows b_i - c_i a_i for the best of a few c_i: the quotient of the entries where a_i is
    largest, as divided in float64 and its two neighbours."""
    ratio = ratios(columns, rows)
    best: Matrix | None = None
    for factors in (ratio, np.nextafter(ratio, np.inf), np.nextafter(ratio, -np.inf)):
        remainder = columns - diagonal(factors) @ rows
        if remainder.zero:
            return remainder
        if best is None:
            best = remainder
            continue
        better = _row_sizes(remainder) < _row_sizes(best)
        kept, taken = diagonal(np.where(better, 0.0, 1.0)), diagonal(np.where(better, 1.0, 0.0))
        best = kept @ best + taken @ remainder
    assert best is not None
    return best


def _row_sizes(matrix: Matrix) -> np.ndarray:
    return np.asarray(matrix.size.sum(axis=1)).ravel()


def ratios(columns: Matrix, rows: Matrix) -> np.ndarray:
    """c_i with b_i ~ c_i a_i; 0 where a_i is 0."""
    found = np.zeros(rows.shape[0])
    if not rows.hi.nnz:
        return found
    largest = np.asarray(abs(rows.hi).argmax(axis=1)).ravel()
    index = np.arange(rows.shape[0])
    above = np.asarray(columns.hi[index, largest]).ravel()
    below = np.asarray(rows.hi[index, largest]).ravel()
    used = (below != 0) & np.isfinite(above)
    found[used] = above[used] / below[used]
    return np.where(np.isfinite(found), found, 0.0)
