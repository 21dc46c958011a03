"""gradient-field: J = Jᵀ, from J = P + B D A with D diagonal [T2'].

The sum of a symmetric affine part and terms Aᵀ diag(c) Σ(Ax + b): the gradient of
xᵀPx / 2 + cᵀΓ(Ax + b), Γ' = Σ. Dense or convolutional, in whatever way it was written.
"""

from dsnn.operators.rounding import up
from verification.diagonal_atoms import asymmetry, diagonal_atoms
from verification.forms import whole
from verification.graph import Graph
from verification.judgement import Open, Proof
from verification.sparse import norm_upper
from verification.wording import at_most


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on |J - Jᵀ| over all x."""
    segment = whole(graph)
    atoms = diagonal_atoms(segment)
    if isinstance(atoms, str):
        return Open(f"no potential is known: {atoms}")
    affine = norm_upper(segment.linear - segment.linear.T)
    rest = asymmetry(segment.nonlinear, atoms)
    if not atoms.arguments.shape[0]:
        form = "its matrix is symmetric"
    else:
        form = "f is Px + Aᵀ diag(c) Σ(Ax + b) with P symmetric"
    if affine == rest == 0:
        return Proof(0.0, "T2'", f"{form}, exactly: a gradient")
    defect = up(affine + rest)
    return Proof(defect, "T2'", f"{form}, up to {at_most(defect)} in its Jacobian")
