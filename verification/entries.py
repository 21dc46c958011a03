"""Where the entries of several nodes come from, and how often each is used."""

import math

import torch
from torch import Tensor

from verification.flow import Flow
from verification.graph import Node

Part = tuple[str, Tensor | None]
"""A node and an index into its flattened entries; None is all of them, once."""


def together(flow: Flow, names: tuple[str, ...], start: str) -> dict[str, int]:
    """Sources of the entries of all `names` side by side, and the most often that one entry of
    each source occurs among them. No source lies before the node `start`.

    Gathers, reshapes and concatenations only move entries; the larger and the smaller of a and b
    count as a and b, and sorted entries as those that were sorted.
    """
    parts: list[Part] = []
    pending: list[Part] = [(name, None) for name in reversed(names)]
    while pending:
        name, index = pending.pop()
        node = flow.nodes[name]
        if name != start and node.kind == "reshape":
            pending.append((node.inputs[0], index))
        elif name != start and node.kind == "gather":
            pending.append((node.inputs[0], _compose(node.attributes["index"], index)))
        elif name != start and node.kind == "sort":
            pending.append((node.inputs[0], _unsorted(node, index)))
        elif name != start and node.kind == "concat" and index is None:
            pending += [(source, None) for source in reversed(node.inputs)]
        elif name != start and (other := _partner(flow, parts, name, index)) is not None:
            del parts[other]
            pending += [(source, None) for source in reversed(node.inputs)]
        elif flow.depends(name):
            parts.append((name, index))
    return {name: _most(flow, parts, name) for name, _ in parts}


def _compose(inner: Tensor, outer: Tensor | None) -> Tensor:
    """x[inner][outer], where -1 is the number 0 and stays it."""
    inner = torch.as_tensor(inner).flatten()
    if outer is None:
        return inner
    return torch.where(outer < 0, outer, inner[outer.clamp_min(0)])


def _unsorted(node: Node, index: Tensor | None) -> Tensor | None:
    """Entries of the input of a sort for those of its value at `index`: all that were sorted
    together, as often as any of them."""
    if index is None:
        return None
    counts = torch.bincount(index[index >= 0], minlength=math.prod(node.shape))
    most = counts.reshape(node.shape).amax(node.attributes["dim"], keepdim=True)
    each = most.expand(node.shape).flatten()
    return torch.arange(len(each)).repeat_interleave(each)


def _partner(flow: Flow, parts: list[Part], name: str, index: Tensor | None) -> int | None:
    """Where among the parts the minimum is of the pair that `name` is the maximum of, or the
    other way round."""
    node, kinds = flow.nodes[name], {"maximum": "minimum", "minimum": "maximum"}
    if index is not None or node.kind not in kinds:
        return None
    for k, (source, picked) in enumerate(parts):
        other = flow.nodes[source]
        same = sorted(other.inputs) == sorted(node.inputs) and other.shape == node.shape
        same = same and all(flow.nodes[x].shape == node.shape for x in node.inputs)  # none repeats
        if picked is None and other.kind == kinds[node.kind] and same:
            return k
    return None


def _most(flow: Flow, parts: list[Part], name: str) -> int:
    """How often an entry of `name` occurs at most."""
    whole = sum(index is None for source, index in parts if source == name)
    picked = [index for source, index in parts if source == name and index is not None]
    used = torch.cat([index[index >= 0] for index in picked]) if picked else torch.zeros(0)
    return whole + (int(torch.bincount(used.long()).max()) if len(used) else 0)
