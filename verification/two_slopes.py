"""Entries that are multiples of one entry of an earlier node each: f(x)_j = a_j x_i where x_i > 0,
b_j x_i where x_i < 0, with i = i(j). So are those of relu, abs and leaky_relu, their copies,
multiples and sums, as (relu(x), relu(-x)), which is CReLU [Shang et al. 2016].

What one x_i moves runs along two rays, with the speeds sqrt(sum a_j²) and sqrt(sum b_j²) over the
j with i(j) = i: by the longer way from one x_i to another it moves no further than the larger of
them says. The largest of all speeds is the Lipschitz constant of f, exactly; and |f(x)| = |x| where
all of them are 1.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from verification.graph import Graph, Node

Pair = tuple[Fraction, Fraction]
MOST = 64
"""Different pairs of slopes, above which nothing is said."""


@dataclass(frozen=True)
class TwoSlopes:
    """Of the entries of a node, in its shape: `source` i(j) among so many `entries`, -1 for a zero,
    and the place of (a_j, b_j) among the `pairs`."""

    entries: int
    source: Tensor
    which: Tensor
    pairs: tuple[Pair, ...]

    def squares(self) -> set[Fraction]:
        """The squares of both speeds of every entry that they are multiples of."""
        used = self.source >= 0
        counts = torch.stack(
            [
                torch.bincount(self.source[used & (self.which == k)], minlength=self.entries)
                for k in range(len(self.pairs))
            ]
        )
        found = set()
        for column in counts.unique(dim=1).T.tolist():
            for side in (0, 1):
                terms = (n * pair[side] ** 2 for n, pair in zip(column, self.pairs, strict=True))
                found.add(sum(terms, Fraction(0)))
        return found


def two_slopes(graph: Graph) -> TwoSlopes | None:
    """The output, which all nodes but constants lead to, in terms of the input; None where it is
    of another form."""
    places = torch.arange(math.prod(graph.input.shape)).reshape(graph.input.shape)
    one = ((Fraction(1), Fraction(1)),)
    found = {graph.input.name: TwoSlopes(places.numel(), places, torch.zeros_like(places), one)}
    for node in graph.nodes[1:]:
        known = None
        if node.kind in RULES and not node.constants:
            known = RULES[node.kind](node, [found[name] for name in node.inputs])
        if known is None:
            return None
        found[node.name] = known
    return found[graph.output]


def _reshape(node: Node, inputs: list[TwoSlopes]) -> TwoSlopes:
    (x,) = inputs
    return replace(x, source=x.source.reshape(node.shape), which=x.which.reshape(node.shape))


def _gather(node: Node, inputs: list[TwoSlopes]) -> TwoSlopes:
    (x,), index = inputs, torch.as_tensor(node.attributes["index"]).reshape(node.shape)
    read = index.clamp_min(0)
    source = torch.where(index < 0, -1, x.source.flatten()[read])
    return replace(x, source=source, which=x.which.flatten()[read])


def _concat(node: Node, inputs: list[TwoSlopes]) -> TwoSlopes | None:
    dim, pairs, which = node.attributes["dim"], [], []
    for x in inputs:
        which.append(x.which + len(pairs))
        pairs += x.pairs
    source = torch.cat([x.source for x in inputs], dim)
    return _few(inputs[0].entries, source, torch.cat(which, dim), pairs)


def _combine(node: Node, inputs: list[TwoSlopes]) -> TwoSlopes | None:
    source = inputs[0].source
    if any(not torch.equal(x.source, source) for x in inputs):
        return None
    which = torch.stack([x.which.flatten() for x in inputs])
    rows, which = which.unique(dim=1, return_inverse=True)
    factors = [Fraction(c) for c in node.attributes["coefficients"]]
    pairs = []
    for row in rows.T.tolist():
        terms = [x.pairs[k] for x, k in zip(inputs, row, strict=True)]
        sides = zip(*terms, strict=True)
        a, b = (sum(map(operator.mul, factors, side), Fraction(0)) for side in sides)
        pairs.append((a, b))
    return _few(inputs[0].entries, source, which.reshape(node.shape), pairs)


def _activation(node: Node, inputs: list[TwoSlopes]) -> TwoSlopes | None:
    (x,), name = inputs, node.attributes["function"]
    below = {"relu": Fraction(0), "abs": Fraction(-1)}.get(name)
    if name == "leaky_relu":
        below = Fraction(node.attributes["parameters"]["negative_slope"])
    if below is None:
        return None
    pairs = [(a if a >= 0 else below * a, below * b if b >= 0 else b) for a, b in x.pairs]
    return _few(x.entries, x.source, x.which, pairs)


def _few(entries: int, source: Tensor, which: Tensor, pairs: list[Pair]) -> TwoSlopes | None:
    """With each pair once; None where there are too many."""
    known = {pair: k for k, pair in enumerate(dict.fromkeys(pairs))}
    places = torch.tensor([known[pair] for pair in pairs])
    return TwoSlopes(entries, source, places[which], tuple(known)) if len(known) <= MOST else None


RULES: dict[str, Callable[[Node, list[TwoSlopes]], TwoSlopes | None]] = {
    "reshape": _reshape,
    "gather": _gather,
    "concat": _concat,
    "combine": _combine,
    "activation": _activation,
}
