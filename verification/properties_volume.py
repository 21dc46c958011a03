"""volume-preserving: abs(det J) = 1, from shears and their compositions [T12].

On a segment with next state y = Px + Bs, atoms s = σ(z), z = Ax + Ns, where N is strictly lower
triangular since the atoms are computed one after the other, det J = det P det(I - KD) with
K = N - A P⁻¹ B and D the derivative of σ. Where no cycle of entries runs through K and D, that is
det P whatever D is: so it is for a shear, and for any nonlinearity inside one.
"""

import math
from typing import Any

import numpy as np
import scipy

from dsnn.operators.rounding import up
from verification.forms import Segment, chain
from verification.graph import Graph
from verification.judgement import Open, Proof
from verification.sparse import Matrix
from verification.wording import at_most

LARGEST_BLOCK = 256
"""Side of the largest irreducible block whose determinant is computed."""


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on | |det J| - 1 | over all x."""
    low = high = 1.0
    parts = []
    for segment in chain(graph):
        found = _segment(segment)
        if isinstance(found, str):
            return Open(f"at {segment.name}: {found}")
        (least, most), shear = found
        # Products of few numbers near 1, rounded outwards; an exact 1 stays.
        low = low if least == 1 else max(0.0, math.nextafter(low * least, -math.inf))
        high = high if most == 1 else math.nextafter(high * most, math.inf)
        kind = "a shear" if shear else "linear"
        size = "1 exactly" if least == most == 1 else f"in [{least!r}, {most!r}]"
        parts.append(f"{segment.name}: {kind}, |det| {size} [T12]")
    if low == high == 1:
        return Proof(0.0, "T12", "every step is a shear or a map of determinant ±1", tuple(parts))
    defect = up(max(high - 1, 1 - low))
    text = f"shears and linear maps whose determinants multiply to ±1 up to {at_most(defect)}"
    return Proof(defect, "T12", text, tuple(parts))


def _segment(segment: Segment) -> tuple[tuple[float, float], bool] | str:
    """Bounds of |det J|, and whether there is a nonlinearity; or why there are none."""
    if segment.output.shape[0] != segment.states:
        return "the state changes its size"
    linear = segment.linear
    matched = scipy.sparse.csgraph.maximum_bipartite_matching(linear.pattern, perm_type="column")
    if (matched < 0).any():
        return "its linear part is singular"
    shear = any(not segment.output[:, a.start : a.stop].zero for a in segment.atoms)
    # Columns in the order that puts the matching on the diagonal: Q = P Π, |det Q| = |det P|.
    ordered = linear[:, matched]
    if shear and not _acyclic(segment, matched):
        return "the new state feeds back into its own nonlinearity: no shear is known here"
    bounds = _determinant(ordered)
    if isinstance(bounds, str):
        return bounds
    return bounds, shear


def _acyclic(segment: Segment, matched: np.ndarray) -> bool:
    """Whether K D has no cycle of entries, where P⁻¹ may be nonzero only where some power of P
    is."""
    n, width = segment.states, segment.output.shape[1]
    output = segment.output.pattern
    # dx -> dz -> ds -> dy, and back from dy to dx through P⁻¹: entry x_j is solved from row
    # i with matched[i] = j, and the other entries of that row.
    entries = width
    edges: list[Any] = []
    linear, nonlinear = output[:, :n].tocoo(), output[:, n:].tocoo()
    edges.append((matched[nonlinear.row], n + nonlinear.col))
    off = linear.col != matched[linear.row]
    edges.append((matched[linear.row][off], linear.col[off]))
    for atom in segment.atoms:
        size = atom.stop - atom.start
        for form in atom.inputs:
            pattern = form.pattern
            if atom.node.kind == "activation":
                used = pattern.tocoo()
                edges.append((atom.start + used.row, used.col))
            else:
                columns = np.unique(pattern.indices)
                # All of its entries read all of these: through one vertex more, not pair by pair.
                edges.append((np.arange(atom.start, atom.stop), np.full(size, entries)))
                edges.append((np.full(len(columns), entries), columns))
                entries += 1
    rows = np.concatenate([e[0] for e in edges])
    cols = np.concatenate([e[1] for e in edges])
    graph = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, cols)), (entries, entries))
    if graph.diagonal().any():
        return False
    count, labels = scipy.sparse.csgraph.connected_components(
        graph, directed=True, connection="strong"
    )
    # A cycle among states alone is P's own business; one through an atom is not.
    sizes = np.bincount(labels, minlength=count)
    return bool((sizes[labels[n:]] == 1).all())


def _determinant(matrix: Matrix) -> tuple[float, float] | str:
    """Bounds of |det| from its irreducible blocks, exact for blocks of one entry ±1."""
    import flint

    count, labels = scipy.sparse.csgraph.connected_components(
        matrix.pattern, directed=True, connection="strong"
    )
    low = high = 1.0
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(count + 1))
    diagonal = [np.asarray(part.diagonal()) for part in matrix.parts]
    with flint.ctx.workprec(192):
        for k in range(count):
            block = order[starts[k] : starts[k + 1]]
            if len(block) > LARGEST_BLOCK:
                return f"a determinant of side {len(block)} (limit {LARGEST_BLOCK})"
            if len(block) == 1:
                i = block[0]
                if abs(diagonal[0][i]) == 1 and not diagonal[1][i] and not diagonal[2][i]:
                    continue
            part = matrix[block][:, block]
            dense = [np.asarray(p.toarray()).flatten().tolist() for p in part.parts]
            balls = [flint.arb(a) + flint.arb(b, r) for a, b, r in zip(*dense, strict=True)]
            size = abs(flint.arb_mat(len(block), len(block), balls).det())
            if not size.is_finite():
                return f"a determinant of side {len(block)} could not be enclosed"
            if size.is_exact() and size == 1:
                continue
            least = max(0.0, math.nextafter(float(size.lower()), -math.inf))
            low = max(0.0, math.nextafter(low * least, -math.inf))
            high = math.nextafter(high * math.nextafter(float(size.upper()), math.inf), math.inf)
    return low, high
