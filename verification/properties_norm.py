"""norm-preserving: |f(x)| = |x|, segment by segment [D3, T15].

A linear segment must be an isometry. Of a nonlinear one, |f|² - |x|² is expanded in the inner
products of the vectors in it, and must vanish identically: so it does for the projection
φ |x| / |φ|, also onto fewer or more entries, and the relaxation (1 - l) φ + l y with
l = (|φ|² - |y|²) / |φ - y|², whatever φ is. Entries that change signs or places change no norm,
nor do those that are split in a positive and a negative part.
"""

import math

from dsnn.operators.rounding import up
from verification.dominators import joined, segments
from verification.entries import together
from verification.exact import LINEAR, MOVES
from verification.flow import Flow
from verification.forms import whole
from verification.graph import Graph
from verification.inner_products import Algebra, Rational, inner, number
from verification.judgement import Open, Proof
from verification.properties_constants import has_offsets
from verification.properties_orthogonal import gram_defect
from verification.two_slopes import two_slopes
from verification.wording import at_most


def analyse(graph: Graph, dim: int = -1) -> Proof | Open:
    """A bound on | |f(x)| - |x| | / |x| over all x where f is defined."""
    total, parts = 0.0, []
    for segment in _grouped(segments(graph)):
        found = _linear(segment) if _is_linear(segment) else _nonlinear(segment)
        if isinstance(found, str):
            return Open(f"at {segment.output}: {found}")
        defect, text = found
        total = up(total + defect + (total * defect if total else 0.0)) if defect else total
        parts.append(f"{segment.output}: {text} [T15]")
    if total == 0:
        return Proof(0.0, "T15", "every segment preserves the norm, exactly", tuple(parts))
    text = f"every segment preserves the norm, up to {at_most(total)} in all"
    return Proof(total, "T15", text, tuple(parts))


def _is_linear(segment: Graph) -> bool:
    return all(node.kind in LINEAR or node.kind == "input" for node in segment)


def _grouped(parts: list[Graph]) -> list[Graph]:
    """With consecutive linear segments composed: a lift and a rotation may be one isometry."""
    found: list[list[Graph]] = []
    for part in parts:
        if found and _is_linear(part) and _is_linear(found[-1][-1]):
            found[-1].append(part)
        else:
            found.append([part])
    return [joined(group) for group in found]


def _linear(segment: Graph) -> tuple[float, str] | str:
    """From |AᵀA - I| <= d follows ||Ax| - |x|| <= d |x|."""
    if has_offsets(segment):
        return "a bias moves the origin"
    defect = gram_defect(whole(segment).linear)
    how = "exactly" if defect == 0 else f"up to {at_most(defect)}"
    return defect, f"a linear isometry, {how}"


def _nonlinear(segment: Graph) -> tuple[float, str] | str:
    rays = two_slopes(segment)
    if rays is not None and rays.squares() == {1}:
        return 0.0, "entries change sign, or are split by it"
    if _sorts(segment):
        return 0.0, "entries change places"
    algebra = Algebra(segment)
    value, before = algebra.values[segment.output], algebra.values[segment.input.name]
    if isinstance(value, Rational) or isinstance(before, Rational):
        return "a single number"
    if algebra.hides(value):
        return "0 times what may be no number"
    if set(value) == {segment.output}:
        return f"nothing is known of the norm of {segment[segment.output].kind}"
    # Nodes combine vectors of their own length only, so each of the two inner products is of
    # vectors of one length; the lengths of f and of x need not agree.
    if algebra.is_zero(inner(value, value) + number(-1) * inner(before, before)):
        return 0.0, "|f|² = |x|² identically in inner products: a relaxation or projection"
    return "|f|² - |x|² does not cancel"


def _sorts(segment: Graph) -> bool:
    """Whether f(x) has the entries of x, each once, in an order that may depend on x: sorted, or
    pairs of them, as by MaxMin."""
    for node in segment.nodes[1:]:
        if node.kind not in (*MOVES, "sort", "maximum", "minimum"):
            return False
        if node.kind == "gather" and bool((node.attributes["index"] < 0).any()):
            return False  # a zero instead of an entry
        shapes = {segment[name].shape for name in node.inputs}
        if node.kind in ("maximum", "minimum") and shapes != {node.shape}:
            return False
    start, end = segment.input, segment[segment.output]
    once = together(Flow(segment), (end.name,), start.name) == {start.name: 1}
    return once and math.prod(end.shape) == math.prod(start.shape)
