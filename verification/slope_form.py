"""Fields and steps of the form Px + Bσ(Ax + b) + const: constants from the slopes of σ.

The mean Jacobian between two points is P + B D A, D diagonal with entries between the slopes l and
u of their rows. With m in the middle of [l, u], r >= u - m and D = m + E, |E_i| <= r_i:

    |P + B D A| <= |P + B m A| + |B r^(1/2)| |r^(1/2) A|                               ("centred")
    sym(P + B D A) <= sym(P + B m A) + (B α Bᵀ + Aᵀ β A) / 2,   α_i β_i >= r_i²,

the latter because e (b aᵀ + a bᵀ) <= α b bᵀ + β a aᵀ whenever e² <= α β. A row with
b = -k a, k >= 0, l >= 0 only contracts: its part is at most -l k a aᵀ, with no loss.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from dsnn.operators.bounds import of_matrix
from dsnn.operators.definite import largest_eigenvalue
from dsnn.operators.rounding import UNIT, up
from verification.constant import round_down, round_up
from verification.diagonal_atoms import diagonal_atoms, ratios
from verification.exact import LINEAR
from verification.flow import PARTIAL
from verification.forms import Segment, whole
from verification.graph import Graph
from verification.slopes import slope_range
from verification.sparse import Matrix, diagonal, norm_upper

LARGEST = 512
"""Entries of a state, and of all activations, up to which matrices are taken dense."""


@dataclass(frozen=True)
class SlopeForm:
    """`linear` P, `outer` B (columns), `inner` A (rows), and the slopes [low, high] of each row."""

    linear: Matrix
    outer: Matrix
    inner: Matrix
    low: np.ndarray
    high: np.ndarray


def slope_form(graph: Graph) -> SlopeForm | str:
    """The form of what the graph computes, else the reason why it is not of this form. Raises
    ArithmeticError where its matrices are too large."""
    sizes = [math.prod(graph.input.shape), math.prod(graph[graph.output].shape)]
    sizes.append(sum(math.prod(n.shape) for n in graph if n.kind == "activation"))
    if max(sizes) > LARGEST:
        return f"{max(sizes)} entries are more than {LARGEST}"
    partial = next((node.name for node in graph if node.kind in PARTIAL), None)
    if partial is not None:  # 0 times no number is none, and two of them do not cancel
        return f"{partial} may be no number"
    if (nested := _nested(graph)) is not None:
        return f"{nested} is computed from activations"
    segment = whole(graph)
    atoms = diagonal_atoms(segment)
    if isinstance(atoms, str):
        return atoms
    found = _ranges(segment)
    if isinstance(found, str):
        return found
    return SlopeForm(segment.linear, segment.nonlinear, atoms.arguments, *found)


def _nested(graph: Graph) -> str | None:
    """A nonlinear node that others come before: cheaper to see here than in matrices."""
    after: set[str] = set()
    for node in graph:
        linear = node.kind in (*LINEAR, "input", "constant")
        below = not after.isdisjoint(node.inputs)
        if below and not linear:
            return node.name
        if below or not linear:
            after.add(node.name)
    return None


def _ranges(segment: Segment) -> tuple[np.ndarray, np.ndarray] | str:
    """The slopes of each atom, rounded outwards; [0, 0] for those that do not reach the output."""
    low, high = [], []
    for atom in segment.atoms:
        size, slopes = atom.stop - atom.start, (Fraction(0), Fraction(0))
        if not segment.output[:, atom.start : atom.stop].zero:
            known = slope_range(atom.node)
            if known is None:
                return f"no slopes known for {atom.node.attributes['function']}"
            slopes = known
        low += [round_down(slopes[0])] * size
        high += [round_up(slopes[1])] * size
    if not np.isfinite([*low, *high]).all():
        return "slopes beyond the largest double"
    return np.array(low, dtype=float), np.array(high, dtype=float)


def _middle(form: SlopeForm) -> tuple[np.ndarray, np.ndarray]:
    """(m, r): slopes lie within r of m; r = 0 where low = high."""
    middle = (form.low + form.high) / 2
    reach = np.maximum(form.high - middle, middle - form.low)
    return middle, np.where(form.low == form.high, 0.0, reach * (1 + 2.0**-40))


def centred(form: SlopeForm) -> float:
    """An upper bound on the Lipschitz constant."""
    middle, reach = _middle(form)
    root = diagonal(np.sqrt(reach) * (1 + 2.0**-40))
    mean = form.linear + form.outer @ (diagonal(middle) @ form.inner)
    spread = up(spectral_norm(form.outer @ root) * spectral_norm(root @ form.inner))
    total = spectral_norm(mean) + spread
    return up(total) if spread else total


def one_sided(form: SlopeForm) -> float:
    """An upper bound on the one-sided Lipschitz constant; exact where all is a diagonal matrix."""
    middle, reach = _middle(form)
    pulls, strength = _pulling(form)
    least = form.low * strength  # only what is lost for certain; rounded down below
    kept = diagonal(np.where(pulls, 0.0, middle))
    half = diagonal(np.full(form.linear.shape[0], 0.5))
    mean = form.linear + form.outer @ (kept @ form.inner)
    total = half @ (mean + mean.T)
    alpha, beta = _weights(form, np.where(pulls, 0.0, reach))
    pull = np.where(pulls, -least * (1 - 2.0**-40), 0.0)
    squares = diagonal(beta / 2 * (1 + 2.0**-40) + pull)
    if alpha.any():
        total = total + form.outer @ (diagonal(alpha / 2 * (1 + 2.0**-40)) @ form.outer.T)
    return eigenvalue_upper(total + form.inner.T @ (squares @ form.inner))


def _pulling(form: SlopeForm) -> tuple[np.ndarray, np.ndarray]:
    """Rows with b = -k a exactly, k >= 0 and slopes that are not negative; and k, rounded down."""
    k = -ratios(form.outer.T, form.inner)
    rest = form.outer.T + diagonal(k) @ form.inner
    exactly = np.asarray(rest.size.sum(axis=1)).ravel() == 0
    pulls = exactly & (k >= 0) & (form.low >= 0)
    return pulls, np.where(pulls, k, 0.0)


def _weights(form: SlopeForm, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, beta) with alpha beta >= reach², both about equally harmful; 0 where b or a is."""
    b = np.sqrt(np.asarray(form.outer.size.power(2).sum(axis=0)).ravel())
    a = np.sqrt(np.asarray(form.inner.size.power(2).sum(axis=1)).ravel())
    used = (a > 0) & (b > 0) & (reach > 0)
    alpha = np.where(used, reach * np.where(used, a, 1.0) / np.where(used, b, 1.0), 0.0)
    beta = np.where(used, reach * reach / np.where(used, alpha, 1.0) * (1 + 2.0**-40), 0.0)
    return alpha, beta


def spectral_norm(matrix: Matrix) -> float:
    """An upper bound on the largest singular value, 0 only for the zero matrix."""
    if matrix.zero:
        return 0.0
    simple = norm_upper(matrix)
    near = of_matrix(torch.from_numpy(np.asarray(matrix.hi.toarray()))).norm[1]
    return min(simple, up(near + _unknown(matrix)))


def _unknown(matrix: Matrix) -> float:
    """A bound on the Frobenius norm of what is not in `hi`."""
    rest = (abs(matrix.lo) + matrix.rad).tocsr()
    return up(math.sqrt(float(np.square(rest.data).sum())) * (1 + 2.0**-40)) if rest.nnz else 0.0


def eigenvalue_upper(matrix: Matrix) -> float:
    """An upper bound on the largest eigenvalue of a symmetric matrix; the largest entry of a
    diagonal one exactly."""
    dense = np.asarray(matrix.hi.toarray())
    off = dense - np.diag(np.diag(dense))
    if matrix.plain and not off.any():
        return float(np.diag(dense).max())
    shift = up(norm_upper(matrix))
    shifted = torch.from_numpy(np.tril(dense)) + shift * torch.eye(len(dense), dtype=torch.float64)
    shifted = shifted.tril() + shifted.tril(-1).T
    bound = largest_eigenvalue(shifted) - shift
    return bound + up(2 * _unknown(matrix) + 8 * UNIT * shift + 4 * UNIT * abs(bound))
