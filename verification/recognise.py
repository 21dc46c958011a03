"""Steps of known form in a graph, by structure: the laws of `theory` at their measured spectra.

A step ends in a node that equals, as a function of its dominator x and up to constants,

    scale (x - h Aᵀσ(Ax + b)): the outer operator is exactly the adjoint of the inner one, up to
        factors, which h takes up [T7, T8, T8'];
    scale (x + h σ(Wx + v)) [T8'].

σ may be an activation plus a multiple of its argument, as a leaky softplus is.
An activation with slopes in [l, u], u > 0, is u times one with slopes in [l/u, 1]: u joins h. For
one with l < 0 < u, I - h AᵀDA is still symmetric with spectrum in 1 - h [l |A|^2, u |A|^2]
("symmetric"). Steps in a row are named [T9, T10]; their constants multiply. Nothing that only
looks like a step gets a law: weights are compared entry by entry, attributes one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from heapq import heappop, heappush

from theory.nonexpansive import (
    contractive_euler,
    expansive_euler,
    expansive_gradient_euler,
    nonexpansive_euler,
)
from verification.constant import Constant, Number, evaluate, product, round_up
from verification.flow import Flow
from verification.graph import Node
from verification.norms import OPERATORS, Operator, Spectra, operator
from verification.slopes import slope_range

CONTRACTIVE, NONEXPANSIVE = "T7-contractive-euler", "T8-nonexpansive-euler"
EXPANSIVE, UPHILL = "T8'-expansive-euler", "T8'-expansive-gradient-euler"
SWITCHING, FLEXIBLE = "T9-switching", "T10-flexible-switching"

LAWS = {
    theorem.id: theorem
    for theorem in (
        contractive_euler,
        nonexpansive_euler,
        expansive_euler,
        expansive_gradient_euler,
    )
}

Terms = list[tuple[Fraction, str]]


def step(flow: Flow, spectra: Spectra, node: Node) -> Constant | None:
    """The line of the step that ends in `node`, None where none is recognised."""
    if node.kind not in ("combine", "scale"):
        return None
    start = flow.dominator[node.name]
    found = {name: c for c, name in terms(flow, node, start)}
    scale = found.pop(start, Fraction(0))
    if scale == 0:
        return None
    line = _step(flow, spectra, start, {name: c / scale for name, c in found.items()})
    if line is None:
        return None
    values = {**line.values, "scale": scale}
    upper = product([abs(scale), line.upper])
    return replace(line, upper=upper, start=start, end=node.name, module=node.module, values=values)


def _step(flow: Flow, spectra: Spectra, start: str, moved: dict[str, Fraction]) -> Constant | None:
    """x + g(x), where g(x) is a combination of the nodes `moved`, up to a constant."""
    outer, size = None, Fraction(1)
    if len(moved) == 1:
        ((name, step),) = moved.items()
        last = flow.nodes[name]
        if last.kind in OPERATORS:
            outer = _operator(flow, last)
            if outer is None:
                return None
            size = step
            moved = {name: c for c, name in terms(flow, flow.nodes[last.inputs[0]], start)}
    found = _activation(flow, moved, start)
    if found is None:
        return None
    step, before, first, slopes = found
    if first.kind not in OPERATORS or (inner := _operator(flow, first)) is None:
        return None
    behind, source = peel(flow, first.inputs[0], start)
    if source.name != start:
        return None
    step *= size * before * behind * inner.factor
    if outer is None:
        return _push(norm(flow, spectra, first), step, slopes)
    if not outer.adjoint_of(inner):
        return None
    return _gradient(norm(flow, spectra, first), -step * outer.factor, slopes)


def _activation(
    flow: Flow, moved: dict[str, Fraction], start: str
) -> tuple[Fraction, Fraction, Node, tuple[Fraction, Fraction]] | None:
    """A combination d σ(k z), up to constants, as (d, k, z, slopes of σ), and c z + d σ(z) as
    (1, 1, z, c + d times those of σ): a leaky softplus is one."""
    of_kind = {flow.nodes[name].kind == "activation": name for name in moved}
    if True not in of_kind or len(of_kind) != len(moved):
        return None
    last = flow.nodes[of_kind[True]]
    if (slopes := slope_range(last)) is None:
        return None
    d, (before, first) = moved[last.name], peel(flow, last.inputs[0], start)
    if len(moved) == 1:
        return d, before, first, slopes
    if before != 1 or first.name != of_kind[False]:
        return None
    low, high = sorted(moved[first.name] + d * slope for slope in slopes)
    return Fraction(1), Fraction(1), first, (low, high)


def _gradient(line: Constant, h: Fraction, slopes: tuple[Fraction, Fraction]) -> Constant | None:
    """x - h Aᵀσ(Ax + b) with the singular values of A in `line`."""
    low, high = slopes
    if high <= 0:
        low, high, h = -high, -low, -h
    s_min, s_max = line.values["smallest"], line.values["norm"]
    if high == 0 or not math.isfinite(s_max):
        return None
    if low < 0:
        square = Fraction(s_max) ** 2
        ends = [abs(1 - h * slope * square) for slope in (low, high)]
        values = {"h": h, "low": low, "high": high, "s_max": s_max}
        return Constant(round_up(max(ends)), "symmetric", line.start, values=values, parts=(line,))
    a, h = low / high, h * high
    if h < 0:
        law, values = UPHILL, {"h": -h}
    elif a == 0:
        law, values = NONEXPANSIVE, {"h": h}
    else:
        law, values = CONTRACTIVE, {"h": h, "a": a, "s_min": s_min}
    return _law(law, {**values, "s_max": s_max}, line)


def _push(line: Constant, step: Fraction, slopes: tuple[Fraction, Fraction]) -> Constant | None:
    """x + step σ(Wx + v) with the norm of W in `line`."""
    h = step * max(map(abs, slopes))
    values = {"h": h, "a": Fraction(0), "s_max": line.values["norm"]}
    return _law(EXPANSIVE, values, line) if math.isfinite(values["s_max"]) else None


def _law(law: str, values: dict[str, Number], line: Constant) -> Constant:
    upper = evaluate(LAWS[law].law, values)
    return Constant(upper, law, line.start, values=values, parts=(line,))


def norm(flow: Flow, spectra: Spectra, node: Node) -> Constant:
    """The line of a linear map: its norm, and its smallest singular value, without its factor."""
    found, start = _operator(flow, node), node.inputs[0]
    if found is None:
        return Constant(math.inf, "unknown", start, node.name, node.module, reason=_unbounded(node))
    try:
        singular = spectra.of(found)
    except ArithmeticError as error:
        return Constant(math.inf, "unknown", start, node.name, node.module, reason=str(error))
    values = {
        "norm": singular.norm[1],
        "smallest": singular.smallest[0],
        "factor": found.factor,
    }
    upper = product([abs(found.factor), singular.norm[1]])
    return Constant(upper, "norm", start, node.name, node.module, values)


def _operator(flow: Flow, node: Node) -> Operator | None:
    return operator(node, flow.nodes[node.inputs[0]].shape)


def _unbounded(node: Node) -> str:
    return f"no bound for this form of {node.kind}" + (f" in {node.module}" if node.module else "")


def peel(flow: Flow, name: str, stop: str) -> tuple[Fraction, Node]:
    """A node as a number times another one not before `stop`, up to a constant: (number, node)."""
    factor, node = Fraction(1), flow.nodes[name]
    while node.name != stop and (number := _multiple(flow, node)) is not None:
        factor, node = factor * number, flow.nodes[node.inputs[0]]
    return factor, node


def _multiple(flow: Flow, node: Node) -> Fraction | None:
    """The number that a node multiplies its one input by, None where it does something else."""
    if node.kind == "combine" and len(node.inputs) == 1:
        return Fraction(node.attributes["coefficients"][0])
    if node.kind == "scale":
        weight = node.constants["weight"]
        entries = weight.value.flatten()
        one = bool((entries == entries[0]).all()) and math.isfinite(entries[0])
        alike = flow.nodes[node.inputs[0]].shape == node.shape  # else it repeats entries
        if one and alike and not weight.rounded:
            return weight.factor * Fraction(float(entries[0]))
    return None


def terms(flow: Flow, node: Node, stop: str) -> Terms:
    """A node as a combination of others, combinations of combinations multiplied out down to the
    node `stop`; constants are left out. In the order of computation, the last one first. What
    cancels is left out too, unless it may be no number: 0 times that is none."""
    coefficients = {node.name: Fraction(1)}
    pending = [(-flow.place[node.name], node.name)]
    found: Terms = []
    while pending:
        _, name = heappop(pending)
        here, number = flow.nodes[name], coefficients[name]
        if not flow.depends(name) or (number == 0 and (name == stop or flow.total(stop, name))):
            continue
        if name == stop or (here.kind != "combine" and _multiple(flow, here) is None):
            found.append((number, name))
            continue
        multiple = _multiple(flow, here)
        inner = here.attributes["coefficients"] if multiple is None else [multiple]
        for c, source in zip(inner, here.inputs, strict=True):
            if source not in coefficients:
                coefficients[source] = Fraction(0)
                heappush(pending, (-flow.place[source], source))
            coefficients[source] += number * Fraction(c)
    return found


# Steps in a row. ---------------------------------------------------------------------------


def named(lines: Sequence[Constant]) -> list[Constant]:
    """The lines with rows of steps that a theorem is about put together under its name: the
    constant is the product of those of the steps."""
    found: list[Constant] = []
    k = 0
    while k < len(lines):
        taken = _flexible(lines[k : k + 3]) or _switching(lines[k:]) or lines[k]
        found.append(taken)
        k += len(taken.parts) if taken is not lines[k] else 1
    return found


def _same(*lines: Constant) -> bool:
    """Whether the lines are one step repeated, with one operator."""
    return all(line.law == lines[0].law and line.values == lines[0].values for line in lines)


def _flexible(lines: Sequence[Constant]) -> Constant | None:
    """T10: a contractive step twice, then a gradient step of either sign with slopes in [0, 1]."""
    if len(lines) != 3 or lines[0].law != CONTRACTIVE or not _same(*lines[:2]):
        return None
    last = lines[2]
    if last.law not in (NONEXPANSIVE, UPHILL) or any(_scaled(line) for line in lines):
        return None
    first = lines[0].values
    h_2 = last.values["h"] * (1 if last.law == UPHILL else -1)
    values = {"h_1": 2 * first["h"], "h_2": h_2, "w_max": last.values["s_max"]}
    values |= {key: first[key] for key in ("a", "s_min", "s_max")}
    return _together(FLEXIBLE, lines, values)


def _switching(lines: Sequence[Constant]) -> Constant | None:
    """T9: an expansive and then a contractive step, S times in a row with one step size each."""
    substeps = 0
    while len(lines) >= 2 * substeps + 2 and _pair(lines[2 * substeps :]):
        pair = lines[2 * substeps : 2 * substeps + 2]
        if not all(_same(x, y) for x, y in zip(pair, lines[:2], strict=True)):
            break
        substeps += 1
    if substeps == 0:
        return None
    push, pull = lines[0].values, lines[1].values
    values = {"h_1": substeps * pull["h"], "h_2": substeps * push["h"], "S": substeps}
    values |= {key: pull[key] for key in ("a", "s_min", "s_max")} | {"w_max": push["s_max"]}
    return _together(SWITCHING, lines[: 2 * substeps], values)


def _pair(lines: Sequence[Constant]) -> bool:
    plain = not any(_scaled(line) for line in lines[:2])
    return lines[0].law == EXPANSIVE and lines[1].law == CONTRACTIVE and plain


def _scaled(line: Constant) -> bool:
    return line.values.get("scale", 1) != 1


def _together(law: str, lines: Sequence[Constant], values: dict[str, Number]) -> Constant:
    upper = product(line.upper for line in lines)
    first, last = lines[0], lines[-1]
    return Constant(upper, law, first.start, last.end, last.module, values, tuple(lines))
