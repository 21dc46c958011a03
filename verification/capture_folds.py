"""Recognises the adjoint of a circularly padded convolution.

It is executed as a transposed convolution onto the padded extent, whose border is then added to
the entries that it was copied from, by copies, slices and sums in any order. What these do to the
entries is worked out number by number, and compared with the adjoint of circular padding.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verification.graph import Graph, Node


@dataclass(frozen=True)
class _Sum:
    """Sums of entries of the node `source`: entry i is the sum of source[index[i]] over the
    indices (flat, -1 for none)."""

    source: str
    indices: tuple[Tensor, ...]


def folded(graph: Graph) -> Graph:
    """The graph with the nodes that are such adjoints written as one."""
    sums: dict[str, _Sum] = {}
    nodes: dict[str, Node] = {}
    for node in graph:
        found = _sum(node, sums, nodes)
        if found is not None:
            sums[node.name] = found
        circular = None if found is None else _circular(node, found, nodes[found.source])
        nodes[node.name] = circular or node
    return Graph(tuple(nodes.values()), graph.output)


def _sum(node: Node, sums: dict[str, _Sum], nodes: dict[str, Node]) -> _Sum | None:
    if node.kind == "adjoint" and not node.attributes["circular"] and "bias" not in node.constants:
        nodes[node.name] = node
        return _Sum(node.name, (torch.arange(_size(node)),))
    inputs = [sums.get(name) for name in node.inputs]
    parts = [part for part in inputs if part is not None]
    if len(parts) != len(inputs) or len({part.source for part in parts}) != 1 or node.constants:
        return None
    source = parts[0].source
    if node.kind == "reshape":
        return parts[0]
    if node.kind == "gather":
        places = node.attributes["index"].flatten()
        moved = (i[places.clamp_min(0)].where(places >= 0, -1) for i in parts[0].indices)
        return _Sum(source, _used(moved))
    if node.kind == "combine" and all(c == 1 for c in node.attributes["coefficients"]):
        return _Sum(source, tuple(i for part in parts for i in part.indices))
    if node.kind == "concat":
        return _Sum(source, _used(_blocks(node, parts, nodes)))
    return None


def _size(node: Node) -> int:
    return int(torch.Size(node.shape).numel())


def _used(indices: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(index for index in indices if bool((index >= 0).any()))


def _blocks(node: Node, parts: list[_Sum], nodes: dict[str, Node]) -> list[Tensor]:
    """Each part's indices in its block of the concatenation, alone."""
    placed, start, dim = [], 0, node.attributes["dim"]
    for name, part in zip(node.inputs, parts, strict=True):
        shape = nodes[name].shape
        for index in part.indices:
            whole = torch.full(node.shape, -1)
            whole.narrow(dim, start, shape[dim]).copy_(index.reshape(shape))
            placed.append(whole.flatten())
        start += shape[dim]
    return placed


def _circular(node: Node, found: _Sum, source: Node) -> Node | None:
    """The node as a circular adjoint, if every entry of the source is added exactly once, where
    its position modulo the extent says."""
    a, channels, extent = source.attributes, source.shape[0], node.shape[1:]
    same = len(node.shape) == len(source.shape) and node.shape[0] == channels
    if not same or node.shape == source.shape or any(map(any, a["padding"])):
        return None
    targets = torch.full((_size(source),), -1)
    for index in found.indices:
        read = index >= 0
        places = index[read]
        if bool((targets[places] >= 0).any()) or len(places.unique()) < len(places):
            return None
        targets[places] = read.nonzero().flatten()
    if bool((targets < 0).any()):
        return None
    first = int((targets == 0).nonzero()[0])
    position = torch.unravel_index(torch.tensor(first), source.shape)[1:]
    padding, expected = [], torch.arange(channels)
    for p, n, whole in zip(position, extent, source.shape[1:], strict=True):
        before = int(p) % n
        padding.append([before, whole - n - before])
        if min(padding[-1]) < 0 or max(padding[-1]) > n:
            return None
        expected = expected[..., None] * n + (torch.arange(whole) - before) % n
    if not torch.equal(expected.flatten(), targets):
        return None
    attributes = {**a, "padding": padding, "circular": True, "extent": list(extent)}
    return replace(
        source, name=node.name, shape=node.shape, attributes=attributes, module=node.module
    )
