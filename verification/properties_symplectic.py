"""symplectic: JᵀSJ = S, from shears along Hamiltonian directions and symplectic matrices [T13].

On a segment y = Px + Bσ(Ax), JᵀSJ - S = (PᵀSP - S) + (PᵀSB D A - (..)ᵀ) + AᵀD BᵀSB D A with D
diagonal: each part vanishes when P is symplectic, when the columns of PᵀSB are multiples of the
rows of A (the update is Hamiltonian), and when BᵀSB = 0 (it does not see itself). Between segments
the form is carried along with the state, whose order is free there.
"""

import math
from typing import Any

import numpy as np
import scipy
import torch

from dsnn.operators.rounding import up
from verification.diagonal_atoms import Diagonal, asymmetry, diagonal_atoms
from verification.forms import Segment, chain
from verification.graph import Graph
from verification.judgement import Open, Proof
from verification.properties_refute import symplectic_form
from verification.sparse import Matrix, exactly, norm_upper
from verification.wording import at_most

LARGEST_INVERSE = 256
"""Side of a linear part that is inverted to carry the form on, unless it only moves entries."""


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on |JᵀSJ - S| over all x."""
    canonical = _canonical(graph.input.shape, dim)
    form, segments = canonical, chain(graph)
    parts, total, growth = [], 0.0, 1.0
    for k, segment in enumerate(segments):
        atoms = diagonal_atoms(segment)
        if isinstance(atoms, str):
            return Open(f"at {segment.name}: {atoms}")
        after = canonical if k == len(segments) - 1 else _carried(form, segment.linear)
        if after is None:
            return Open(f"at {segment.name}: its linear part could not be inverted")
        defect = _defect(segment, atoms, form, after)
        total = up(total + up(growth * defect)) if defect else total
        size = norm_upper(segment.linear)
        if atoms.arguments.shape[0]:
            size += norm_upper(segment.nonlinear) * norm_upper(atoms.arguments) * atoms.steepest
        growth = up(growth * up(size * size))
        exactness = "exactly" if defect == 0 else f"up to {at_most(defect)}"
        parts.append(f"{segment.name}: a symplectic shear or matrix, {exactness} [T13]")
        form = after
    if total == 0:
        return Proof(0.0, "T13", "every step is symplectic by its structure", tuple(parts))
    return Proof(
        total, "T13", f"every step is symplectic up to {at_most(total)} in all", tuple(parts)
    )


def _canonical(shape: tuple[int, ...], dim: int) -> Matrix:
    """The matrix of `symplectic_form`: each row has a single entry, 1 or -1."""
    n = math.prod(shape)
    numbers = torch.arange(1, n + 1).reshape(shape)
    turned = symplectic_form(shape, dim)(numbers).flatten().numpy()
    entries = (np.sign(turned), (np.arange(n), np.abs(turned) - 1))
    return exactly(scipy.sparse.csr_matrix(entries, (n, n)))


def _carried(form: Matrix, linear: Matrix) -> Matrix | None:
    """A skew matrix near P⁻ᵀ S P⁻¹: any will do, since the defect is measured with it."""
    if linear.shape[0] != linear.shape[1]:
        return None
    matched = scipy.sparse.csgraph.maximum_bipartite_matching(linear.pattern, perm_type="column")
    if (matched < 0).any():
        return None
    # The order that the state has if P only moves entries, or adds moved ones to them.
    entries = np.asarray(linear.hi[np.arange(len(matched)), matched]).ravel()
    if (entries != 0).all():
        rows = (np.arange(len(matched)), matched)
        found = _transformed(form, scipy.sparse.csr_matrix((1 / entries, rows), linear.shape))
        if (linear.T @ (found @ linear) - form).zero:
            return found
    dense = linear.hi.toarray() if linear.shape[0] <= LARGEST_INVERSE else np.zeros((1, 1))
    if not np.linalg.cond(dense) < 1e8:
        return None
    return _transformed(form, scipy.sparse.csr_matrix(np.linalg.inv(dense).T))


def _transformed(form: Matrix, inverse: Any) -> Matrix:
    """The skew part of Q S Qᵀ in float64, with integers where it nearly has them."""
    found = (inverse @ form.hi @ inverse.T).tocsr()
    found = ((found - found.T) / 2).tocsr()
    whole = np.round(found.data)
    if np.abs(found.data - whole).max(initial=0.0) < 1e-3:
        found.data = whole
    found.eliminate_zeros()
    return exactly(found)


def _defect(segment: Segment, atoms: Diagonal, form: Matrix, after: Matrix) -> float:
    """Upper bound on |Jᵀ S' J - S|; 0 only if exactly 0."""
    linear, nonlinear = segment.linear, segment.nonlinear
    affine = norm_upper(linear.T @ (after @ linear) - form)
    pushed = linear.T @ (after @ nonlinear)
    shear = asymmetry(pushed, atoms)
    itself = norm_upper(nonlinear.T @ (after @ nonlinear))
    if affine == shear == itself == 0:
        return 0.0
    reach = up(norm_upper(atoms.arguments) * atoms.steepest)
    return up(affine + shear + (up(itself * reach) * reach if itself else 0.0))
