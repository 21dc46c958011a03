"""Lipschitz constants of a module and of its parts, each derived from a graph of its own.

Everything is computed when first asked for; operators that several parts share are bounded once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from dsnn.data.statistics import SIDE, Channels
from dsnn.models import CertifiedNet
from verification import sdp
from verification.capture import Uncapturable
from verification.constant import Constant, product
from verification.graph import Graph
from verification.lipschitz import derive
from verification.norms import OPERATORS, Operator, Spectra, operator
from verification.parts import Live, Parts
from verification.store import Store


@dataclass(frozen=True)
class NetworkBound:
    """Constants with respect to the normalised input and to pixels in [0, 1], and, of a network of
    body and head, that of its body to pixels."""

    lipschitz: float
    lipschitz_pixel: float
    body_pixel: float | None = None


def network_bound(net: nn.Module, std: Channels) -> NetworkBound:
    """Upper bounds on the constant of `net`, a map of images (3, 32, 32), and of `net` after
    (pixel - mean) / std."""
    ledger = Ledger(Live(net, (3, SIDE, SIDE)))
    body = None
    if isinstance(net, CertifiedNet):
        body = pixel(ledger.constant("body"), std).upper
    return NetworkBound(ledger.constant("").upper, ledger.pixel(std).upper, body)


class Ledger:
    """Constants of the parts of a module, by name; `store` keeps their spectra between runs."""

    def __init__(self, parts: Parts, *, tight: bool = False, store: Store | None = None):
        self.parts = parts
        self.spectra = Spectra(tight=tight, store=store)
        self._constants: dict[tuple[str, bool, int], Constant] = {}

    def constant(self, name: str) -> Constant:
        """The constant of the part called `name`."""
        graph = self.parts.graph(name)
        if isinstance(graph, Uncapturable):
            return Constant(math.inf, "unknown", module=name, reason=graph.reason)
        known = (name, *self.spectra.state)
        if known not in self._constants:
            self.spectra.prepare(found for _, _, found in _maps(graph))
            self._constants[known] = derive(graph, self.spectra)
        return self._constants[known]

    def tightest(self, name: str, seconds: float) -> Constant:
        """The constant of the part, by LipSDP where that takes `seconds` at most and gives less."""
        constant, graph = self.constant(name), self.parts.graph(name)
        if isinstance(graph, Uncapturable):
            return constant
        return sdp.bound(graph, constant.upper, seconds) or constant

    def optimistic(self, name: str) -> float:
        """What the constant would be at the unproved ends of all spectra: it decides where effort
        goes, and never a verdict."""
        self.spectra.optimistic = True
        try:
            return self.constant(name).upper
        finally:
            self.spectra.optimistic = False

    def pixel(self, std: tuple[float, ...]) -> Constant:
        """The constant of the module after (pixel - mean) / std."""
        return pixel(self.constant(""), std)

    def operators(self, name: str = "") -> list[tuple[str, str, Operator]]:
        """The distinct linear maps that the part executes: (module, kind of node, operator)."""
        graph = self.parts.graph(name)
        if isinstance(graph, Uncapturable):
            return []
        found: dict[tuple[str, str], tuple[str, str, Operator]] = {}
        for module, kind, map in _maps(graph):
            found.setdefault((module, self.spectra.key(map)), (module, kind, map))
        return list(found.values())


def pixel(constant: Constant, std: tuple[float, ...]) -> Constant:
    """The constant of a map after (pixel - mean) / std, entry by entry, which costs 1 / min std."""
    inverse = 1 / Fraction(min(std))
    first = Constant(product([inverse]), "scale", module="pixels", values={"w_max": inverse})
    upper = product([constant.upper, inverse])
    return Constant(upper, "chain", constant.start, constant.end, parts=(first, constant))


def _maps(graph: Graph) -> Iterator[tuple[str, str, Operator]]:
    nodes = graph.by_name
    for node in graph:
        if node.kind in OPERATORS:
            found = operator(node, nodes[node.inputs[0]].shape)
            if found is not None:
                yield found.name or node.module, _kind(node.kind, found), found


def _kind(kind: str, found: Operator) -> str:
    if found.geometry is None:
        return "linear"
    dimensions = 1 if found.geometry.extent[0] == 1 and found.weight.shape[2] == 1 else 2
    return f"conv_transpose{dimensions}d" if kind == "adjoint" else f"conv{dimensions}d"
