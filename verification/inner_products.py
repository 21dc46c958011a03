"""Vectors and scalars of a graph as rational expressions in the inner products of a few vectors.

Every node is a combination of vectors that stay unexplained, with coefficients that are quotients
of polynomials in their inner products and norms: what relaxation and projection compute. An
identity between such quotients is decided exactly, by multiplying out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from verification.flow import PARTIAL
from verification.graph import Constant, Graph, Node
from verification.properties_constants import has_constants

Monomial = tuple[str, ...]
Polynomial = dict[Monomial, Fraction]
MOST_TERMS = 20_000


@dataclass(frozen=True)
class Rational:
    """top / bottom, polynomials without common denominators taken out."""

    top: Polynomial
    bottom: Polynomial

    def __add__(self, other: "Rational") -> "Rational":
        if self.bottom == other.bottom:
            return Rational(plus(self.top, other.top), self.bottom)
        crossed = plus(times(self.top, other.bottom), times(other.top, self.bottom))
        return Rational(crossed, times(self.bottom, other.bottom))

    def __mul__(self, other: "Rational") -> "Rational":
        return Rational(times(self.top, other.top), times(self.bottom, other.bottom))

    def over(self, other: "Rational") -> "Rational":
        return Rational(times(self.top, other.bottom), times(self.bottom, other.top))


def plus(a: Polynomial, b: Polynomial) -> Polynomial:
    found = dict(a)
    for monomial, c in b.items():
        found[monomial] = found.get(monomial, Fraction(0)) + c
        if not found[monomial]:
            del found[monomial]
    return found


def times(a: Polynomial, b: Polynomial) -> Polynomial:
    if len(a) * len(b) > MOST_TERMS:
        raise ArithmeticError("the scalars of this graph are too long")
    found: Polynomial = {}
    for m, c in a.items():
        for n, d in b.items():
            monomial = tuple(sorted((*m, *n)))
            found[monomial] = found.get(monomial, Fraction(0)) + c * d
    return {monomial: c for monomial, c in found.items() if c}


def number(value: Fraction | int) -> Rational:
    return Rational({(): Fraction(value)} if value else {}, {(): Fraction(1)})


def symbol(name: str) -> Rational:
    return Rational({(name,): Fraction(1)}, {(): Fraction(1)})


Vector = dict[str, Rational]
"""By unexplained vector, its coefficient."""
Pointwise = dict[tuple[str, str], Rational]
"""By pair of them, the coefficient of their entrywise product."""


class Algebra:
    """The values of the nodes of one graph, and what is known of the norms in them."""

    def __init__(self, graph: Graph):
        self.squares: dict[str, Rational] = {}
        self.values: dict[str, Vector | Rational] = {}
        self.pointwise: dict[str, Pointwise] = {}
        self.partial: set[str] = set()  # what has no value where something that it reads has none
        for node in graph:
            self._compute(node, graph.by_name)

    def _compute(self, node: Node, nodes: Mapping[str, Node]) -> None:
        if node.kind in PARTIAL or not self.partial.isdisjoint(node.inputs):
            self.partial.add(node.name)
        value = self._known(node, nodes)
        if isinstance(value, Rational):
            self.values[node.name] = value
        else:
            self.values[node.name] = {node.name: number(1)} if value is None else value

    def _known(self, node: Node, nodes: Mapping[str, Node]) -> Vector | Rational | None:
        if node.kind == "input":
            return None
        if node.kind == "constant":
            return _single(node.constants["value"]) if math.prod(node.shape) == 1 else None
        if has_constants(node, "bias"):
            return self._shifted(node)
        inputs = [self.values[name] for name in node.inputs]
        if node.kind == "reshape":
            if node.inputs[0] in self.pointwise:
                self.pointwise[node.name] = self.pointwise[node.inputs[0]]
            return inputs[0]
        if node.kind == "combine":
            return self._combined(node, inputs)
        if node.kind in ("product", "quotient"):
            return self._product(node, inputs, [nodes[name] for name in node.inputs])
        if node.kind == "window_sum" and _is_total(node, nodes[node.inputs[0]].shape):
            factor = number(math.prod(Fraction(w[0]) for w in node.attributes["weights"]))
            return self._total(node.inputs[0], factor)
        if node.kind == "norm" and _is_over_all(node, nodes[node.inputs[0]].shape):
            (vector,) = inputs
            if isinstance(vector, Rational):
                return None
            self.squares[node.name] = inner(vector, vector)
            return symbol(node.name)
        return None

    def _shifted(self, node: Node) -> Rational | None:
        """A combination of scalars plus a number, as 1 - l."""
        bias = _single(node.constants["bias"])
        if node.kind != "combine" or bias is None:
            return None
        values = [self.values[name] for name in node.inputs]
        if not all(isinstance(value, Rational) for value in values):
            return None
        total = self._combined(node, values)
        return total + bias if isinstance(total, Rational) else None

    def _combined(self, node: Node, inputs: list[Vector | Rational]) -> Vector | Rational | None:
        coefficients = [number(Fraction(c)) for c in node.attributes["coefficients"]]
        pairs = list(zip(inputs, coefficients, strict=True))
        if all(name in self.pointwise for name in node.inputs):
            total: Pointwise = {}
            for name, c in zip(node.inputs, coefficients, strict=True):
                for key, value in self.pointwise[name].items():
                    term = value * c
                    total[key] = total[key] + term if key in total else term
            self.pointwise[node.name] = total
            return None
        if all(isinstance(value, Rational) for value in inputs):
            scalar = number(0)
            for value, c in pairs:
                assert isinstance(value, Rational)
                scalar = scalar + value * c
            return scalar
        if any(isinstance(value, Rational) for value in inputs):
            return None
        vector: Vector = {}
        for value, c in pairs:
            assert not isinstance(value, Rational)
            for name, factor in value.items():
                term = factor * c
                vector[name] = vector[name] + term if name in vector else term
        return vector

    def _product(
        self, node: Node, inputs: list[Vector | Rational], nodes: list[Node]
    ) -> Vector | Rational | None:
        x, y = inputs
        if node.kind == "quotient" and isinstance(y, Rational) and self.is_zero(y):
            return None  # nowhere defined
        if isinstance(y, Rational):
            if isinstance(x, Rational):
                return x * y if node.kind == "product" else x.over(y)
            one = number(1)
            factor = y if node.kind == "product" else one.over(y)
            same = math.prod(nodes[0].shape) == math.prod(node.shape)
            return {name: c * factor for name, c in x.items()} if same else None
        if node.kind == "quotient":
            return None
        if isinstance(x, Rational):
            same = math.prod(nodes[1].shape) == math.prod(node.shape)
            return {name: c * x for name, c in y.items()} if same else None
        if nodes[0].shape == nodes[1].shape:
            found: Pointwise = {}
            for a, c in x.items():
                for b, d in y.items():
                    key = (min(a, b), max(a, b))
                    term = c * d
                    found[key] = found[key] + term if key in found else term
            self.pointwise[node.name] = found
        return None

    def _total(self, name: str, factor: Rational) -> Rational | None:
        if name in self.pointwise:
            return _dotted(self.pointwise[name]) * factor
        value = self.values[name]
        if isinstance(value, Rational):
            return value * factor
        total = number(0)
        for atom, c in value.items():
            total = total + c * symbol(f"sum {atom}")
        return total * factor

    def is_zero(self, value: Rational) -> bool:
        """Whether the quotient is 0 wherever it is defined."""
        return not self._reduced(value.top)

    def hides(self, vector: Vector) -> bool:
        """Whether 0 times what may be no number is a term of it: that is none, and not 0."""
        return any(
            self.is_zero(c) and (name in self.partial or c.bottom != number(1).bottom)
            for name, c in vector.items()
        )

    def _reduced(self, top: Polynomial) -> Polynomial:
        """The top with every n² of a norm replaced, over a common denominator."""
        for name in reversed(self.squares):
            square = self.squares[name]
            most = max((m.count(name) for m in top), default=0) // 2
            found: Polynomial = {}
            for monomial, c in top.items():
                pairs = monomial.count(name) // 2
                rest = [s for s in monomial if s != name] + [name] * (monomial.count(name) % 2)
                term: Polynomial = {tuple(sorted(rest)): c}
                for k in range(most):
                    term = times(term, square.top if k < pairs else square.bottom)
                found = plus(found, term)
            top = found
        return top


def _single(constant: Constant) -> Rational | None:
    """The number that a constant is, if it is a single one."""
    if constant.rounded or constant.value.numel() != 1 or not math.isfinite(constant.value.item()):
        return None
    return number(Fraction(constant.value.item()) * constant.factor)


def _dotted(pointwise: Pointwise) -> Rational:
    total = number(0)
    for (a, b), c in pointwise.items():
        total = total + c * symbol(f"{a} . {b}")
    return total


def inner(x: Vector, y: Vector) -> Rational:
    """The inner product of two vectors."""
    total = number(0)
    for a, c in x.items():
        for b, d in y.items():
            total = total + c * d * symbol(f"{min(a, b)} . {max(a, b)}")
    return total


def _is_over_all(node: Node, shape: tuple[int, ...]) -> bool:
    covered = {d % len(shape) for d in node.attributes["dims"]}
    return all(d in covered or n == 1 for d, n in enumerate(shape))


def _is_total(node: Node, shape: tuple[int, ...]) -> bool:
    """Whether a window sum adds up everything."""
    along = zip(node.attributes["dims"], node.attributes["windows"], strict=True)
    whole = all([list(w) for w in windows] == [[0, shape[d]]] for d, windows in along)
    return whole and _is_over_all(node, shape)
