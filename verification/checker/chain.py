"""The chain of inequalities of one graph, line by line.

A line says: the value of node `end` is a function of that of node `start` with a Lipschitz
constant of at most `upper` in l2. Its law is one of those below, its parts are lines before it.
Everything a line states is derived again from the graph and from its parts, and must agree. The
arithmetic is exact, rounded up once a line, so agreement is equality; only singular values are
taken as stated, where a floating-point proof shows them.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from verification.checker import lipsdp, norms, rays
from verification.checker.kinds import numbers, plain
from verification.checker.laws import CONTRACTIVE, EXPANSIVE, LAWS, Values, of_gradient
from verification.checker.nodes import OWN, root_up, round_up, slopes
from verification.checker.reading import (
    Node,
    agree,
    is_fraction,
    is_number,
    listed,
    need,
    of,
    record,
)
from verification.checker.values import pulled
from verification.checker.work import CALL, cost_of, counted, spend, total

MAPS = ("linear", "conv", "adjoint")
Pair = tuple[str, str]


LIPSDP = "LipSDP, verified"
PARTIAL = ("unknown", "quotient", "normalise")
"""Kinds of nodes that may have no value at some inputs."""


@dataclass(frozen=True)
class Line:
    """One line, derived."""

    law: str
    upper: float
    values: Values


@dataclass
class Spectra:
    """Singular values by what they depend on, each computed once."""

    known: dict[str, Any] = field(default_factory=dict)

    def of(self, node: Node, extent: tuple[int, ...], what: str, *arguments: float) -> Any:
        """The function `what` of `norms` at a node's operator."""
        key = json.dumps(
            [node.constants["weight"].key, node.kind, extent, dict(node.attributes), what,
             *arguments], sort_keys=True,
        )  # fmt: skip
        if key not in self.known:
            self.known[key] = getattr(norms, what)(norms.operator(node, extent), *arguments)
        return self.known[key]


@dataclass
class Chain:
    """The lines of one graph that were derived so far."""

    graph: dict[str, Node]
    spectra: Spectra
    lines: dict[Pair, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contracting: set[Pair] = set()
        self.moving: set[str] = set()
        self.partial: set[str] = set()
        for node in self.graph.values():
            if node.kind in PARTIAL or any(name in self.partial for name in node.inputs):
                self.partial.add(node.name)
            if node.kind in ("input", "unknown") or any(
                name in self.moving for name in node.inputs
            ):
                self.moving.add(node.name)

    def loose(self, root: Pair, stated: list[Any]) -> list[Pair]:
        """Lines that nothing rests on, or with a smallest singular value that nothing uses."""
        rests = {(p, q) for line in stated for p, q in line["parts"]} | {root}
        return [
            pair
            for pair, line in self.lines.items()
            if pair not in rests
            or (line.values.get("smallest") is not None and pair not in self.contracting)
        ]

    # -- what a node is made of --

    def multiple(self, node: Node) -> Fraction | None:
        """c where the node is c times its one input, up to a constant; else None."""
        if node.kind == "combine" and len(node.inputs) == 1:
            return Fraction(node.attributes["coefficients"][0])
        if node.kind == "scale":
            weight = node.constants["weight"]
            spend(weight.values.size)
            entries = weight.values.reshape(-1)
            if entries.size and bool((entries == entries[0]).all()):
                return weight.factor * Fraction(float(entries[0]))
        return None

    def peel(self, name: str) -> tuple[Fraction, Node]:
        """A node as a number times another one, up to a constant."""
        terms = list(self.terms(name, ()).items())
        source, factor = terms[0] if len(terms) == 1 else (name, Fraction(1))
        return factor, self.graph[source]

    def terms(self, end: str, stop: Iterable[str]) -> dict[str, Fraction]:
        """A node as a combination of others, up to a constant: combinations of combinations are
        multiplied out, down to the nodes `stop`. What cancels is kept where it may be no number."""
        spend(CALL + 100 * len(self.graph))
        stop = set(stop)
        found: dict[str, Fraction] = {}
        pending = {end: Fraction(1)}
        for name in reversed(self.graph):
            if name not in pending:
                continue
            node, number = self.graph[name], pending.pop(name)
            multiple = self.multiple(node)
            if name in stop or (node.kind != "combine" and multiple is None):
                if name in stop or name in self.moving or name in self.partial:
                    found[name] = number
                continue
            inner = [multiple] if multiple is not None else node.attributes["coefficients"]
            for c, source in zip(inner, node.inputs, strict=True):
                pending[source] = _small(pending.get(source, Fraction(0)) + number * Fraction(c))
        return {
            name: c for name, c in found.items() if c != 0 or name in stop or name in self.partial
        }

    def extent(self, node: Node) -> tuple[int, ...]:
        """The extent of a convolution's input."""
        return self.graph[node.inputs[0]].shape[1:]

    # -- the laws --

    def check(self, content: Any) -> Pair:
        """Derive one line as stated. Raises Unreadable or Wrong."""
        record(
            content, "a line", start=of(str), end=of(str), law=of(str), upper=is_number,
            values=lambda v: isinstance(v, dict)
            and all(x is None or is_number(x) or is_fraction(x) for x in v.values()),
            parts=listed(lambda v: listed(of(str))(v) and len(v) == 2),
        )  # fmt: skip
        spend(10 * CALL * (1 + len(content["parts"]) + len(content["values"])))
        start, end, law = content["start"], content["end"], content["law"]
        what = f"line {start} -> {end} ({law})"
        need(start in self.graph and end in self.graph, f"{what} is about nodes that do not exist")
        agree((start, end) not in self.lines, f"{what} is there twice")
        parts = [(p, q) for p, q in content["parts"]]
        for pair in parts:
            agree(pair in self.lines, f"{what} rests on a line {pair} that is not before it")
        stated = {k: None if v is None else Fraction(v) for k, v in content["values"].items()}
        line = self.derive(start, end, law, parts, stated, what)
        agree(line.values == stated, f"{what}: its values are {_show(line.values)}")
        agree(line.upper == content["upper"], f"{what}: its constant is {line.upper!r}")
        self.lines[start, end] = line
        return start, end

    def derive(
        self, start: str, end: str, law: str, parts: list[Pair], stated: Values, what: str
    ) -> Line:
        """The line from `start` to `end` by `law`. Of `stated`, only the singular values of a
        linear map and the numbers of LipSDP are used, and proved."""
        node = self.graph[end]
        if law in LAWS:
            return self._step(start, end, law, parts, what)
        if law in ("sum", "root", "together", "chain"):
            agree(bool(parts), f"{what} has no parts")
            rule = {"sum": self._sum, "root": self._root, "together": self._together}
            if law in rule:
                agree(all(p == start for p, _ in parts), f"{what}: its parts start elsewhere")
                names = [name for _, name in parts]
                agree(len(set(names)) == len(names), f"{what} counts a part twice")
                upper, values = rule[law](node, names, [self.lines[p] for p in parts], what)
                return Line(law, round_up(upper), values)
            return self._chain(start, end, parts, what)
        agree(not parts, f"{what} has parts")
        if law == LIPSDP:
            agree(start == next(iter(self.graph)), f"{what} does not start at the input")
            square = lipsdp.semidefinite(self.graph, end, stated)
            return Line(law, round_up(root_up(square)), stated)
        if law == "identity":
            agree(start == end, f"{what} joins different nodes")
            return Line(law, 1.0, {})
        if law == "constant":
            agree(end not in self.moving, f"{what}: that node depends on the input")
            agree(end not in self.partial, f"{what}: that node may be no number")
            return Line(law, 0.0, {})
        if law == "two slopes":
            square = max(rays.squares(self.graph, start, end), default=Fraction(0))
            return Line(law, round_up(root_up(square)), {"square": square})
        agree(node.inputs == (start,), f"{what}: the node has other inputs")
        if law == "norm" and node.kind in MAPS:
            return self._norm(node, stated, what)
        name, rule = OWN.get(node.kind, ("unknown", None))
        agree(law == name and rule is not None, f"{what}: no such law for {node.kind}")
        assert rule is not None
        spend(cost_of(node, self.graph))
        return Line(law, round_up(rule(node)), {})

    def _norm(self, node: Node, stated: Values, what: str) -> Line:
        """The singular values of a linear map without its factor: as stated, if proved here."""
        agree(set(stated) == {"norm", "smallest", "factor"}, f"{what} has other values")
        extent, norm, smallest = self.extent(node), stated["norm"], stated["smallest"]
        agree(norm is not None and norm >= 0, f"{what} has no norm")
        agree(smallest is None or smallest >= 0, f"{what}: {smallest} is no singular value")
        assert norm is not None
        for bound, sign in ((norm, -1), (smallest, 1)):
            if bound is not None:
                proved = self.spectra.of(node, extent, "shown", float(bound), sign)
                agree(proved and Fraction(float(bound)) == bound, f"{what}: {bound} is not shown")
        factor = node.constants["weight"].factor
        return Line("norm", round_up(abs(factor) * norm), {**stated, "factor": factor})

    def _sum(self, node: Node, names: list[str], lines: list[Line], what: str) -> Any:
        terms = self.terms(node.name, names)
        agree(set(terms) == set(names), f"{what} is no combination of its parts")
        numbers = [terms[name] for name in names]
        upper = total(abs(c) * _exact(x) for c, x in zip(numbers, lines, strict=True))
        return upper, {f"c_{k}": c for k, c in enumerate(numbers)}

    def _root(self, node: Node, names: list[str], lines: list[Line], what: str) -> Any:
        joins = node.kind in ("concat", "maximum", "minimum")
        agree(joins and node.inputs == tuple(names), f"{what}: its parts are not its inputs")
        self._alike(node, what)
        return root_up(total(_exact(line) ** 2 for line in lines)), {}

    def _alike(self, node: Node, what: str) -> None:
        shapes = {self.graph[name].shape for name in node.inputs}
        agree(node.kind == "concat" or shapes == {node.shape}, f"{what}: it repeats entries")

    def _together(self, node: Node, names: list[str], lines: list[Line], what: str) -> Any:
        agree(node.kind in ("combine", "concat", "maximum", "minimum"), f"{what}: {node.kind} node")
        self._alike(node, what)
        numbers = map(Fraction, node.attributes.get("coefficients", ()))
        square = total(c * c for c in numbers) if node.kind == "combine" else Fraction(1)
        copies = self._copies(node.inputs, names, what)
        apart = total(n * _exact(x) ** 2 for n, x in zip(copies, lines, strict=True))
        values = {f"copies_{k}": Fraction(n) for k, n in enumerate(copies)}
        return root_up(square * apart), {**values, "square": square}

    def _copies(self, inputs: tuple[str, ...], names: list[str], what: str) -> list[int]:
        """How often an entry of each of `names` occurs at most among those of all `inputs`.
        Movements are followed back; the larger and the smaller of a and b count as a and b, sorted
        entries as all that were sorted together, as often as any of them."""
        reached: dict[str, Any] = {}
        halves: dict[tuple[str, ...], tuple[str, Any]] = {}
        found = dict.fromkeys(names, 0)

        def add(sources: tuple[str, ...], counts: Iterable[Any]) -> None:
            for name, count in zip(sources, counts, strict=True):
                reached[name] = reached.get(name, 0) + count

        spend(sum(CALL + 5.0 * math.prod(self.graph[name].shape) for name in inputs))
        add(inputs, (np.ones((1, *self.graph[name].shape)) for name in inputs))
        for node in reversed(self.graph.values()):
            if node.name not in reached:
                continue
            spend(cost_of(node, self.graph))
            counts, shapes = reached.pop(node.name), [self.graph[s].shape for s in node.inputs]
            if node.name in found:
                found[node.name] = int(counts.max(initial=0))
            elif node.kind in ("gather", "reshape", "concat"):
                add(node.inputs, pulled(node, numbers(node, plain), counts, shapes))
            elif node.kind == "sort":
                most = counts.max(1 + node.attributes["dim"], keepdims=True)
                add(node.inputs, [np.broadcast_to(most, counts.shape)])
            elif node.kind in ("maximum", "minimum") and set(shapes) == {node.shape}:
                pair = tuple(sorted(node.inputs))
                kind, others = halves.pop(pair, (node.kind, None))
                if others is None:
                    halves[pair] = (node.kind, counts)
                    continue
                agree(kind != node.kind and np.array_equal(counts, others), f"{what}: left out")
                add(node.inputs, [counts, counts])
            else:
                agree(
                    node.name not in self.moving | self.partial, f"{what}: {node.name} is left out"
                )
        agree(not halves, f"{what}: entries are left out")
        return list(found.values())

    def _chain(self, start: str, end: str, parts: list[Pair], what: str) -> Line:
        places = [start, *(q for _, q in parts)]
        agree([p for p, _ in parts] == places[:-1] and places[-1] == end, f"{what} has a gap")
        factors = [_exact(self.lines[pair]) for pair in parts]
        return Line("chain", round_up(math.prod(factors, start=Fraction(1))), {})

    # -- steps --

    def _step(self, start: str, end: str, law: str, parts: list[Pair], what: str) -> Line:
        """`end` = scale (x + step g(x)) up to a constant, with g = A' s(A x + b) or s(A x + b) up
        to factors, which the step takes up."""
        agree(len(parts) == 1, f"{what} has not the one part it needs")
        norm = self.lines[parts[0]]
        agree(norm.law == "norm" and parts[0][1] in self.graph, f"{what} has no norm")
        inner = self.graph[parts[0][1]]
        terms = self.terms(end, [start])
        scale = terms.pop(start, Fraction(0))
        agree(scale != 0, f"{what} is no step from {start}")
        outer, size = None, 1 / scale
        if len(terms) == 1 and self.graph[next(iter(terms))].kind in MAPS:
            ((name, step),) = terms.items()
            outer = self.graph[name]
            size *= step * outer.constants["weight"].factor
            terms = self.terms(outer.inputs[0], [])
        step, first, low, high = self._activation(terms, what)
        behind, source = self.peel(inner.inputs[0])
        agree(first == inner.name and source.name == start, f"{what} is no step from {start}")
        step *= size * behind * inner.constants["weight"].factor
        s_max, s_min = norm.values["norm"], norm.values["smallest"]
        values: Values
        if outer is None:
            found, values = EXPANSIVE, {"h": step * max(abs(low), abs(high)), "s_max": s_max}
        else:
            agree(self._adjoint(outer, inner), f"{what}: the outer map is not the inner's adjoint")
            found, values = of_gradient(-step, low, high, s_max, s_min)
        agree(law == found, f"{what} is one by {found}")
        agree(None not in values.values(), f"{what}: it needs the smallest singular value")
        if law == CONTRACTIVE:
            self.contracting.add(parts[0])
        upper = abs(scale) * LAWS[law](**values)
        return Line(law, round_up(upper), {**values, "scale": scale})

    def _activation(
        self, terms: dict[str, Fraction], what: str
    ) -> tuple[Fraction, str, Fraction, Fraction]:
        """A combination d s(k z) as (d k, z, slopes of s); c z + d s(z) as (1, z, c + d times
        those of s)."""
        bent = [name for name in terms if self.graph[name].kind == "activation"]
        agree(len(bent) == 1, f"{what} has not the one activation it needs")
        d, last = terms[bent[0]], self.graph[bent[0]]
        before, first = self.peel(last.inputs[0])
        low, high = slopes(last)
        if len(terms) == 1:
            return d * before, first.name, low, high
        agree(len(terms) == 2 and before == 1, f"{what} is no step of one map")
        agree(first.name in terms, f"{what} adds another map than the one that bends")
        low, high = sorted(terms[first.name] + d * slope for slope in (low, high))
        return Fraction(1), first.name, low, high

    def _adjoint(self, outer: Node, inner: Node) -> bool:
        """Whether the outer map is exactly the adjoint of the inner one, factors aside."""
        spend(cost_of(outer, self.graph) + cost_of(inner, self.graph))
        one, other = (n.constants["weight"].values.astype(np.float64) for n in (outer, inner))
        if "linear" in (outer.kind, inner.kind):
            return outer.kind == inner.kind and np.array_equal(one, other.T)
        turned, straight = (outer, inner) if outer.kind == "adjoint" else (inner, outer)
        attributes = {k: v for k, v in turned.attributes.items() if k != "extent"}
        return (
            outer.kind != inner.kind
            and np.array_equal(one, other)
            and attributes == dict(straight.attributes)
            and tuple(turned.attributes["extent"]) == self.extent(straight)
        )


def _exact(line: Line) -> Fraction:
    return Fraction(line.upper)


def _small(value: Fraction) -> Fraction:
    """The same number, refused when its digits grow without bound."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    agree(bits <= 20_000, "a coefficient has too many digits")
    return counted(value)


def _show(values: Values) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items())[:300]
