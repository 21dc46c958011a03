"""Builds a graph, node by node, from what torch executes on a batch.

The batch is the leading dimension of every value that depends on the input, alone or merged with
the next one (B * k, ...), k entries of one example after another. A rule that would touch the
batch otherwise raises `Unrecognised`, and its operator becomes an unknown node.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from verification.capture_constants import Folded
from verification.graph import Constant, Node

Shape = tuple[int, ...]
NEARLY = Fraction(1, 2**22)
"""Relative error of a number that the module computes, up to which it is rounding: 4 units."""


class Unrecognised(Exception):
    """An operator, or an option of it, that the vocabulary does not express."""


@dataclass(frozen=True)
class Value:
    """A node's value as torch has it: `full` is its shape with the batch."""

    name: str
    full: Shape


@dataclass(frozen=True)
class Padded:
    """What a gather that pads was made from: pads (before, after) by dimension of the node."""

    source: Value
    pads: tuple[tuple[int, int], ...]
    circular: bool


class Builder:
    """With `executed`, nothing is emitted whose rounding the graph would hide: a number that the
    module computes with an error beyond `NEARLY` is refused."""

    def __init__(self, batch: int, *, executed: bool = False):
        self.batch, self.executed = batch, executed
        self.nodes: dict[str, Node] = {}
        self.padded: dict[str, Padded] = {}
        self.ordered: dict[tuple[Value, int], Value] = {}
        self.base, self.module = "x", ""

    def scalar(self, folded: Folded) -> Fraction | None:
        """The number that a constant is, if it is a finite one."""
        found = folded.scalar
        if found is not None and self.executed and not folded.error <= abs(found) * NEARLY:
            raise Unrecognised("a number that rounding has changed")
        return found

    def shape(self, full: Sequence[int]) -> Shape:
        """The shape of one example. Raises Unrecognised where the batch is not in front."""
        if not full or full[0] % self.batch or not math.prod(full):
            raise Unrecognised("the batch is not the leading dimension")
        rest = tuple(int(n) for n in full[1:])
        return rest if full[0] == self.batch else (int(full[0]) // self.batch, *rest)

    def is_plain(self, value: Value) -> bool:
        """Whether the leading dimension is the batch and nothing else."""
        return value.full[0] == self.batch

    def dim(self, value: Value, dim: int) -> int:
        """Dimension of the node that is dimension `dim` of the tensor."""
        dim %= len(value.full)
        if dim == 0:
            raise Unrecognised("across the batch")
        return dim - 1 if self.is_plain(value) else dim

    def emit(
        self,
        kind: str,
        inputs: Sequence[Value],
        full: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
        constants: Mapping[str, Constant] | None = None,
    ) -> Value:
        """Add a node named after the operation in hand."""
        shape = self.shape(full)
        name, count = self.base, 1
        while name in self.nodes:
            name, count = f"{self.base}.{count}", count + 1
        names = tuple(value.name for value in inputs)
        self.nodes[name] = Node(
            name, kind, names, shape, dict(attributes or {}), dict(constants or {}), self.module
        )
        return Value(name, tuple(full))

    def constant(self, folded: Folded, full: Sequence[int]) -> Value:
        """A constant as a node of the full shape."""
        aligned = self.aligned(folded, full)
        value = aligned.value.expand(self.shape(full))
        constant = replace(aligned, value=value)
        return self.emit("constant", [], full, constants={"value": constant})

    def aligned(self, folded: Folded, full: Sequence[int]) -> Constant:
        """A constant that torch broadcasts to the shape `full`, as one that broadcasts to one
        example. Raises Unrecognised if it differs from example to example."""
        constant, value = folded.constant, folded.value
        if value.ndim > len(full):
            raise Unrecognised("broadcasting beyond the batch")
        value = constant.value
        if value.ndim == len(full):
            count = full[0] // self.batch
            if value.shape[0] == full[0]:
                blocks = value.reshape(self.batch, count, *value.shape[1:])
                if not all(torch.equal(block, blocks[0]) for block in blocks):
                    raise Unrecognised("a constant that differs between examples of a batch")
                value = blocks[0]
            if count == 1:
                value = value[0]
        return replace(constant, value=value)

    def combine(
        self,
        terms: Sequence[tuple[Fraction | int, Value]],
        full: Sequence[int],
        bias: Folded | None = None,
    ) -> Value:
        """The sum of multiples of values, each broadcast to the full shape, plus a bias."""
        values = [self.expanded(value, full) for _, value in terms]
        constants = {} if bias is None else {"bias": self.aligned(bias, full)}
        coefficients = [Fraction(c) for c, _ in terms]
        return self.emit("combine", values, full, {"coefficients": coefficients}, constants)

    def expanded(self, value: Value, full: Sequence[int]) -> Value:
        if value.full == tuple(full):
            return value
        return self.moved(value, lambda x: x.expand(tuple(full)))

    def reshaped(self, value: Value, full: Sequence[int]) -> Value:
        """The same entries of every example in the same order."""
        if self.shape(value.full) == self.shape(full):
            return Value(value.name, tuple(full))
        return self.emit("reshape", [value], full)

    def moved(self, value: Value, operation: Callable[[Tensor], Tensor]) -> Value:
        """What `operation`, which moves or copies entries or writes zeros, makes of a value."""
        (moved,) = self.all_moved(value, lambda x: (operation(x),))
        return moved

    def all_moved(
        self, value: Value, operation: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[Value]:
        """The same for an operation with several results: it is run on the entries' numbers."""
        count = math.prod(value.full)
        numbers = torch.arange(1, count + 1, dtype=torch.float64).reshape(value.full)
        return [self.gathered(value, result) for result in operation(numbers)]

    def gathered(self, value: Value, numbers: Tensor) -> Value:
        """The entries of a value that are numbered from 1 in `numbers`, 0 standing for zero."""
        shape, count = self.shape(numbers.shape), math.prod(value.full) // self.batch
        index = numbers.to(torch.int64).reshape(self.batch, -1) - 1
        offset = count * torch.arange(self.batch)[:, None]
        index = torch.where(index < 0, index, index - offset)
        inside = bool(((index >= -1) & (index < count)).all())
        if not inside or not all(torch.equal(row, index[0]) for row in index):
            raise Unrecognised("moves entries across the batch")
        if torch.equal(index[0], torch.arange(count)):
            return self.reshaped(value, numbers.shape)
        attributes = {"index": index[0].reshape(shape).clone()}
        return self.emit("gather", [value], numbers.shape, attributes)
