"""Properties of what a graph computes, judged: proved, refuted, or unknown.

A proof is an upper bound on the defect at every input, from the structure of the graph; a
refutation is a point where the defect, evaluated in ball arithmetic, is larger than the tolerance.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import torch

from dsnn.errors import UserError
from verification import (
    properties_gradient,
    properties_mass,
    properties_norm,
    properties_orthogonal,
    properties_shift,
    properties_symplectic,
    properties_volume,
)
from verification.claims import Claim
from verification.graph import Graph, Node
from verification.judgement import Analysis, Judgement, Open, Proof
from verification.properties_refute import Found, search
from verification.pulled_scalars import pulled_scalars
from verification.wording import at_least, at_most

ANALYSES: dict[str, Analysis] = {
    "orthogonal": properties_orthogonal.analyse,
    "gradient-field": properties_gradient.analyse,
    "norm-preserving": properties_norm.analyse,
    "mass-preserving": properties_mass.analyse,
    "volume-preserving": properties_volume.analyse,
    "symplectic": properties_symplectic.analyse,
    "equivariant:shift": properties_shift.analyse,
}
"""By property, what tries to prove it."""
DEFAULT_TOLERANCE = {torch.float32: Fraction(1, 10**5), torch.float64: Fraction(1, 10**10)}
"""By dtype of the module; that of float32 for all others."""
_MEASURED = {
    "orthogonal": "|JᵀJ - I|",
    "gradient-field": "|J - Jᵀ| / max(1, |J|)",
    "norm-preserving": "||f(x)| - |x|| / |x|",
    "mass-preserving": "|1ᵀf(x) - 1ᵀx| / |x|_1",
    "volume-preserving": "||det J| - 1|",
    "symplectic": "|JᵀSJ - S| / max(1, |J|²)",
    "equivariant:shift": "|f(Tx) - Tf(x)| / |f(x)|",
}


def judge(
    claim: Claim,
    graph: Graph,
    *,
    dtype: torch.dtype = torch.float32,
    budget_seconds: float = 5.0,
) -> Judgement:
    """The verdict on an equality `claim` about what `graph` computes.

    `dtype` is that of the module and sets the tolerance where the claim has none. Raises UserError
    when the claim makes no sense for the shapes of the graph.
    """
    check_shapes(claim, graph)
    tolerance = claim.tolerance or DEFAULT_TOLERANCE.get(dtype, DEFAULT_TOLERANCE[torch.float32])
    proof = prove(claim, graph)
    if isinstance(proof, Proof) and proof.defect <= tolerance:
        return Judgement("proved", 0.0, proof.defect, _proved(proof))
    upper = proof.defect if isinstance(proof, Proof) else None
    found = search(claim.name, graph, claim.dim, float(tolerance), budget_seconds)
    lower = 0.0 if found is None else found.lower
    if found is not None and lower > tolerance:
        evidence = _refuted(claim, found)
        return Judgement("refuted", lower, upper, evidence, found.x, found.directions)
    reason = (
        proof.reason
        if isinstance(proof, Open)
        else f"the defect is {at_most(proof.defect)} at most"
    )
    text = f"{reason}; no point found where {_MEASURED[claim.name]} exceeds {float(tolerance):g}"
    return Judgement("unknown", lower, upper, {"kind": "gap", "text": text})


def prove(claim: Claim, graph: Graph) -> Proof | Open:
    """What the structure of the graph proves of the claim."""
    nodes = graph.by_name
    for node in graph:
        if node.kind == "unknown":
            return Open(f"nothing is known of the operator {node.attributes.get('operator')}")
        if claim.name != "norm-preserving" and _may_have_no_value(node, nodes):
            return Open(f"{node.name} divides by what may be 0: there it is no number")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # `sparse` refuses what comes of it
            found = ANALYSES[claim.name](pulled_scalars(graph), claim.dim)
    except ArithmeticError as error:
        return Open(str(error))
    if isinstance(found, Proof) and not math.isfinite(found.defect):
        return Open("no finite bound on the defect is known")
    return found


def _may_have_no_value(node: Node, nodes: Mapping[str, Node]) -> bool:
    """Whether it may divide by 0. No structure but that of a norm, which holds wherever the map is
    defined, speaks of such a map: 0 times no number, or two of them that cancel, are none."""
    if node.kind == "normalise":
        return node.attributes["epsilon"] <= 0
    return node.kind == "quotient" and not _has_no_zero(nodes[node.inputs[1]])


def _has_no_zero(node: Node) -> bool:
    """Whether it is a constant, such as a standard deviation, without an entry 0."""
    if node.kind != "constant":
        return False
    constant = node.constants["value"]
    return bool(constant.factor) and not constant.rounded and bool((constant.value != 0).all())


def _proved(proof: Proof) -> dict[str, object]:
    evidence: dict[str, object] = {
        "kind": "theorem",
        "theorem": proof.theorem,
        "exact": proof.defect == 0,
        "text": proof.text,
    }
    return evidence | ({"parts": list(proof.parts)} if proof.parts else {})


def _refuted(claim: Claim, found: Found) -> dict[str, object]:
    text = f"at a point of norm {float(found.x.norm()):.3g}, {_MEASURED[claim.name]} is at least "
    return {"kind": "point", "text": text + at_least(found.lower), "defect": found.lower}


def check_shapes(claim: Claim, graph: Graph) -> None:
    """Raise UserError where the property makes no sense for these shapes."""
    before, after = graph.input.shape, graph[graph.output].shape
    problem = _SHAPES.get(claim.name, lambda before, after, dim: None)(before, after, claim.dim)
    if problem:
        raise UserError(f"claim {claim.text!r}: {problem}")


Shape = tuple[int, ...]


def _square(before: Shape, after: Shape, dim: int) -> str | None:
    n, m = math.prod(before), math.prod(after)
    if n != m:
        return f"the module maps {n} numbers to {m}; its Jacobian must be square for this property"
    return None


def _halves(before: Shape, after: Shape, dim: int) -> str | None:
    if before != after:
        return f"the module maps shape {before} to {after}; a symplectic map keeps the shape"
    if not -len(before) <= dim < len(before):
        return f"dimension {dim} of a state of shape {before}: choose one of its {len(before)}"
    if before[dim] % 2:
        return f"dimension {dim} of a state of shape {before} is odd; its halves are q and p"
    return None


def _spatial(before: Shape, after: Shape, dim: int) -> str | None:
    count = 2 if len(before) >= 3 else 1
    if len(before) != len(after) or before[-count:] != after[-count:]:
        return f"the module maps shape {before} to {after}; both need the same extent to be shifted"
    return None


_SHAPES: dict[str, Callable[[Shape, Shape, int], str | None]] = {
    "gradient-field": _square,
    "volume-preserving": _square,
    "symplectic": _halves,
    "equivariant:shift": _spatial,
}
