"""An upper bound on the l2 Lipschitz constant of a graph, as a chain of inequalities.

Composition is over the dominator tree. The dominator of a node is the last node that every path
from the input to it passes, so the node is a function of it, and constants multiply along the
tree: a residual block counts once as a sum from its own start, and not once for every path. Of
several rules that apply to a node the one with the least constant is kept.

For a node with inputs x_k that are L_k-Lipschitz from its dominator (`RULES`, with the reasons):

========== =========================================================================================
norm       a linear map: |factor| times its largest singular value
scale      max |w|: each entry moves by its own weight; rounded ones count as a little larger
copies     a gather uses an entry at most k times: sqrt(k)
windows    sums over windows, a Kronecker product of matrices S, one a dimension: |S|^2 is at most
           the largest row sum of |S Sᵀ|, from the exact overlaps of the windows
overlap    a maximum moves by no more than one entry of its window: sqrt(windows an entry is in)
sorted     1: of all orders of two vectors, sorting both brings them closest, as it makes their
           inner product largest (the rearrangement inequality)
slope      max |slope| of the activation
softmax    1/2: its Jacobian diag(p) - p pᵀ is symmetric, with absolute row sums 2 p_i (1 - p_i)
logsoftmax sqrt(n) for n > 1 entries, else 0, the supremum: with z = v - mean(v), |z| <= |v|, its
           Jacobian I - 1 pᵀ moves v by z - (p - 1/n)ᵀz 1, orthogonal to each other, and so by at
           most |z| sqrt(1 + n |p - 1/n|^2) = |z| sqrt(n) |p|; |p| -> 1 where one entry outgrows
logsumexp  1: its gradient p has |p| <= 1
length     the l2 norm: 1, by the triangle inequality
normalise  1/sqrt(epsilon): z -> z / s, s = sqrt(|z|^2 / n + epsilon), has the Jacobian
           (I - z zᵀ / (n s^2)) / s with eigenvalues 1/s and epsilon/s^3, and z = x - mean(x) is a
           projection
sum        sum |c_k| L_k; the same with combinations of combinations multiplied out
root       sqrt(sum L_k^2): a concatenation; a maximum or minimum of two, which moves by no more
           than the larger of their moves
together   the inputs side by side, as entries of common sources: sqrt(sum of copies_j L_j^2), where
           an entry of source j occurs at most copies_j times among them, and (max(a, b),
           min(a, b)) counts as (a, b), as sorting a pair brings no two pairs further apart;
           what was sorted counts as what it was sorted from, likewise.
           Times sqrt(sum c_k^2) for a combination
two slopes sqrt(square), square the largest sum of squares of the slopes of all that one entry of
           the start moves, on one side of 0 or the other (`two_slopes`): 1 for (relu(x), relu(-x))
centred    Px + Bσ(Ax + b) with slopes m +- r: |P + B m A| + |B r^(1/2)| |r^(1/2) A| (`slope_form`),
           where that is at most 1 and the terms alone would say that a combination expands; no
           certificate holds it
========== =========================================================================================

Anything else is `unknown`: infinity, with the reason.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from fractions import Fraction

import torch

from verification import recognise, two_slopes
from verification.constant import (
    Constant,
    Number,
    product,
    root_sum_square,
    root_up,
    round_up,
    weighted_sum,
)
from verification.entries import together
from verification.flow import Flow
from verification.graph import ROUNDED, Graph, Node
from verification.norms import OPERATORS, Spectra
from verification.slope_form import centred, slope_form
from verification.slopes import slope_range


def derive(graph: Graph, spectra: Spectra | None = None) -> Constant:
    """The constant of the graph from its input to its output.

    `spectra` keeps the singular values of operators between calls; they are computed as needed.
    The lines of the result are those of the rules above and of `recognise`; along "chain" the
    constants of the parts multiply, "identity" is 1 and "constant" (no dependence) is 0.
    """
    return Derivation(graph, spectra or Spectra()).between(graph.input.name, graph.output)


class Derivation:
    """The constants of one graph between its nodes and their dominators."""

    def __init__(self, graph: Graph, spectra: Spectra):
        self.graph, self.spectra = graph, spectra
        self.flow = Flow(graph)
        self._lines: dict[str, Constant] = {}
        for node in graph.nodes[1:]:  # in order: no line waits for more than those just before it
            if self.flow.depends(node.name):
                self.line(node.name)

    def between(self, start: str, end: str) -> Constant:
        """From a node to one that it dominates, or to a constant."""
        module = self.flow.nodes[end].module
        if not self.flow.depends(end):
            return Constant(0.0, "constant", start, end, module)
        path = self.flow.path(start, end)
        lines = recognise.named([self.line(name) for name in path])
        if len(lines) == 1:
            return lines[0]
        upper = product(line.upper for line in lines)
        return Constant(upper, "chain" if lines else "identity", start, end, module, {}, (*lines,))

    def line(self, name: str) -> Constant:
        """The best constant from a node's dominator to the node."""
        if name not in self._lines:
            node = self.flow.nodes[name]
            self._lines[name] = min(self._candidates(node), key=lambda line: line.upper)
        return self._lines[name]

    def _candidates(self, node: Node) -> list[Constant]:
        start = self.flow.dominator[node.name]
        step = recognise.step(self.flow, self.spectra, node)
        if step:
            return [step]
        found = self._rule(start, node)
        if node.kind == "combine" and len(node.inputs) > 1 and min(x.upper for x in found) > 1:
            found += self._centred(start, node)
        return found

    def _centred(self, start: str, node: Node) -> list[Constant]:
        """A step of any field Px + Bσ(Ax + b), which may contract although its terms do not."""
        try:
            form = slope_form(self.flow.part(start, node.name))
            upper = math.inf if isinstance(form, str) else centred(form)
        except ArithmeticError:
            return []
        # Elsewhere the sum will do, whose parts a certificate can hold.
        return [Constant(upper, "centred", start, node.name, node.module)] if upper <= 1 else []

    def _rule(self, start: str, node: Node) -> list[Constant]:
        rule = RULES.get(node.kind)
        if rule is None:
            operator = node.attributes.get("operator", node.kind)
            reason = f"no rule for {operator}" + (f" in {node.module}" if node.module else "")
            return [unknown(start, node, reason)]
        return rule(self, start, node)


def unknown(start: str, node: Node, reason: str) -> Constant:
    """The line of which nothing is known."""
    return Constant(math.inf, "unknown", start, node.name, node.module, reason=reason)


Rule = Callable[[Derivation, str, Node], list[Constant]]
RULES: dict[str, Rule] = {}


def _rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def _one(start: str, node: Node, law: str, upper: float, **values: Number) -> list[Constant]:
    """The line of a node with one input, which is its dominator."""
    return [Constant(upper, law, start, node.name, node.module, values)]


@_rule(*OPERATORS)
def _linear(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    return [recognise.norm(derivation.flow, derivation.spectra, node)]


@_rule("scale")
def _scale(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    weight = node.constants["weight"]
    largest, factor = float(weight.value.abs().max()), weight.factor
    if not math.isfinite(largest):
        return [unknown(start, node, "a weight is not finite")]
    if derivation.flow.nodes[node.inputs[0]].shape != node.shape:
        return [unknown(start, node, "no rule for a scale that repeats entries")]
    if weight.rounded:
        largest = round_up(Fraction(largest) * (1 + Fraction(ROUNDED)))
    return _one(start, node, "scale", product([largest, abs(factor)]), w_max=largest, factor=factor)


@_rule("reshape")
def _reshape(_: Derivation, start: str, node: Node) -> list[Constant]:
    return _one(start, node, "copies", 1.0, copies=1)


@_rule("gather")
def _gather(_: Derivation, start: str, node: Node) -> list[Constant]:
    index = torch.as_tensor(node.attributes["index"]).flatten()
    used = index[index >= 0]
    copies = int(torch.bincount(used).max()) if len(used) else 0
    return _one(start, node, "copies", root_up(Fraction(copies)), copies=copies)


@_rule("window_sum")
def _window_sum(_: Derivation, start: str, node: Node) -> list[Constant]:
    squares = map(_square, node.attributes["windows"], node.attributes["weights"])
    square = math.prod(squares, start=Fraction(1))
    return _one(start, node, "windows", root_up(square), square=square)


def _square(windows: list, weights: list) -> Fraction:
    """A bound on |S|^2 for S with rows weight * indicator of [start, stop)."""
    pairs = zip(windows, weights, strict=True)
    rows = sorted((int(a), int(b), abs(Fraction(w))) for (a, b), w in pairs)
    starts, longest = [a for a, _, _ in rows], max(b - a for a, b, _ in rows)
    total = Fraction(0)
    for a, b, v in rows:
        near = rows[bisect_right(starts, a - longest) : bisect_left(starts, b)]  # no others overlap
        overlaps = (w * max(0, min(b, d) - max(a, c)) for c, d, w in near)
        total = max(total, v * sum(overlaps, Fraction(0)))
    return total


@_rule("window_max")
def _window_max(_: Derivation, start: str, node: Node) -> list[Constant]:
    overlap = math.prod(map(_overlap, node.attributes["windows"]))
    return _one(start, node, "overlap", root_up(Fraction(overlap)), overlap=overlap)


def _overlap(windows: list) -> int:
    """The largest number of windows that one entry is in: found where some window starts."""
    starts, stops = (sorted(int(ends[k]) for ends in windows) for k in (0, 1))
    return max(bisect_right(starts, place) - bisect_right(stops, place) for place in starts)


@_rule("activation")
def _activation(_: Derivation, start: str, node: Node) -> list[Constant]:
    found = slope_range(node)
    if found is None:
        return [unknown(start, node, f"no slopes known for {node.attributes['function']}")]
    low, high = found
    return _one(start, node, "slope", round_up(max(abs(low), abs(high))), low=low, high=high)


@_rule("sort")
def _sort(_: Derivation, start: str, node: Node) -> list[Constant]:
    return _one(start, node, "sorted", 1.0)


@_rule("softmax")
def _softmax(_: Derivation, start: str, node: Node) -> list[Constant]:
    return _one(start, node, "softmax", 0.5)


@_rule("log_softmax")
def _log_softmax(_: Derivation, start: str, node: Node) -> list[Constant]:
    count = node.shape[node.attributes["dim"]]
    upper = root_up(Fraction(count)) if count > 1 else 0.0
    return _one(start, node, "logsoftmax", upper)


@_rule("logsumexp")
def _logsumexp(_: Derivation, start: str, node: Node) -> list[Constant]:
    return _one(start, node, "logsumexp", 1.0)


@_rule("norm")
def _length(_: Derivation, start: str, node: Node) -> list[Constant]:
    return _one(start, node, "length", 1.0)


@_rule("normalise")
def _normalise(_: Derivation, start: str, node: Node) -> list[Constant]:
    epsilon = Fraction(node.attributes["epsilon"])
    if epsilon <= 0:
        return [unknown(start, node, "a normalisation without epsilon has no Lipschitz constant")]
    return _one(start, node, "normalise", root_up(1 / epsilon), epsilon=epsilon)


@_rule("combine")
def _combine(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    direct = list(zip(node.attributes["coefficients"], node.inputs, strict=True))
    forms = [[(Fraction(c), name) for c, name in direct]]
    expanded = recognise.terms(derivation.flow, node, start)
    lines = []
    for form in forms if sorted(expanded) == sorted(forms[0]) else [*forms, expanded]:
        parts = [derivation.between(start, name) for _, name in form]
        values = {f"c_{k}": c for k, (c, _) in enumerate(form)}
        upper = weighted_sum((c, [part.upper]) for (c, _), part in zip(form, parts, strict=True))
        lines.append(Constant(upper, "sum", start, node.name, node.module, values, (*parts,)))
    if len(forms[0]) > 1:
        square = sum((c * c for c, _ in forms[0]), Fraction(0))
        lines.append(_together(derivation, start, node, square))
    return lines + _rays(derivation, start, node)


@_rule("concat")
def _concat(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    lines = [_root(derivation, start, node), _together(derivation, start, node)]
    return lines + _rays(derivation, start, node)


@_rule("maximum", "minimum")
def _extreme(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    if any(derivation.flow.nodes[name].shape != node.shape for name in node.inputs):
        return [unknown(start, node, f"no rule for a {node.kind} that repeats entries")]
    return _concat(derivation, start, node)


def _rays(derivation: Derivation, start: str, node: Node) -> list[Constant]:
    """What the entries of the start move along two rays each."""
    flow = derivation.flow
    near = all(name == start or flow.nodes[name].kind in two_slopes.RULES for name in node.inputs)
    found = two_slopes.two_slopes(flow.part(start, node.name)) if near else None
    if found is None:
        return []
    square = max(found.squares(), default=Fraction(0))
    return _one(start, node, "two slopes", root_up(square), square=square)


def _root(derivation: Derivation, start: str, node: Node) -> Constant:
    parts = tuple(derivation.between(start, name) for name in node.inputs)
    upper = root_sum_square(part.upper for part in parts)
    return Constant(upper, "root", start, node.name, node.module, {}, parts)


def _together(
    derivation: Derivation, start: str, node: Node, square: Fraction = Fraction(1)
) -> Constant:
    found = together(derivation.flow, node.inputs, start)
    parts = tuple(derivation.between(start, name) for name in found)
    upper = math.inf
    if all(math.isfinite(part.upper) for part in parts):
        counted = zip(found.values(), parts, strict=True)
        total = sum((copies * Fraction(part.upper) ** 2 for copies, part in counted), Fraction(0))
        upper = root_up(square * total)
    values: dict[str, Number] = {f"copies_{k}": n for k, n in enumerate(found.values())}
    values["square"] = square
    return Constant(upper, "together", start, node.name, node.module, values, parts)
