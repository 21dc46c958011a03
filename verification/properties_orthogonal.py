"""orthogonal: f is affine with JᵀJ = I, from the exact matrix of the graph."""

import torch

from dsnn.operators.definite import largest_eigenvalue, smallest_eigenvalue
from dsnn.operators.rounding import UNIT, gamma, up
from verification.forms import whole
from verification.graph import Graph
from verification.judgement import Open, Proof
from verification.sparse import Matrix, identity, norm_upper
from verification.wording import at_most

LARGEST = 2048
"""Most inputs for which the eigenvalues of the Gram matrix are bounded."""


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on |JᵀJ - I|, for an affine f."""
    segment = whole(graph)
    for atom in segment.atoms:
        if not segment.output[:, atom.start : atom.stop].zero:
            return Open(f"{atom.node.kind} ({atom.node.name}) is not affine")
    defect = gram_defect(segment.linear)
    if defect == 0:
        return Proof(0.0, "orthogonal", "its matrix is orthogonal, exactly")
    return Proof(defect, "orthogonal", f"its matrix is orthogonal up to {at_most(defect)}")


def gram_defect(matrix: Matrix) -> float:
    """Upper bound on |AᵀA - I|; 0 only if exactly 0."""
    gram = matrix.T @ matrix
    rough = norm_upper(gram - identity(gram.shape[0]))
    if rough < 1e-12 or gram.shape[0] > LARGEST:
        return rough
    # The eigenvalues are those of the symmetrised midpoint: the exact Gram matrix is within the
    # radii of the midpoint, and so, being symmetric, of its transpose.
    dense = torch.from_numpy(gram.hi.toarray())
    dense = (dense + dense.T) / 2
    spread = norm_upper(Matrix(abs(gram.lo) + abs(gram.rad), gram.lo * 0, gram.rad * 0))
    symmetrised = up(gamma(4) * float(torch.linalg.matrix_norm(dense)))
    above = largest_eigenvalue(dense) - 1
    below = 1 - smallest_eigenvalue(dense)
    bound = up(max(above, below, 0.0) + 8 * UNIT) + 2 * spread + symmetrised
    return min(rough, up(bound))
