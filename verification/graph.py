"""What a module computes, in a small closed vocabulary: the form that bounds, properties and
certificates are derived from.

A graph is a list of nodes in the order of computation. Shapes are those of one example, without a
batch dimension. Everything constant (weights, step sizes, weights computed by a parametrisation)
has been folded into the nodes; `capture` does that. The meaning of a graph is a function of real
numbers on the constants as stored; a number in the module's code is the float64 that it is.
Numbers in attributes are ints or fractions, index a tensor of int64 (tests/test_capture_meaning.py
writes the meaning out):

========== ========================================================================================
kind       value, for inputs x (and y), constants in bold, attributes in italics
========== ========================================================================================
input      the example
constant   **value**, which does not depend on the example (the tensor that something is divided
           by, or its maximum taken with)
linear     **weight** x + **bias** along the last dimension; weight (m, n)
conv       convolution of x (n, *extent) by **weight** (m, n / *groups*, *size) plus **bias** (m,),
           with *stride*, *padding* [[before, after], ...], *dilation*, *groups*, *circular*; 1 or 2
           dimensions. Zero or circular padding done just before it is part of it
adjoint    the adjoint of that convolution (a transposed convolution) plus **bias** (n,): the same
           attributes, and *extent*, those of the convolution's input, which is the output here
scale      **weight** * x + **bias**, both broadcast to the shape of x; either may be missing its
           leading dimensions, as all constants that are broadcast. Batch normalisation in eval
           mode is one, its constants computed in float64, within 2^-50 of the exact ones
gather     y_i = x_**index**[i], or 0 where the index is -1: index (shape) into x flattened. Every
           movement of data: slices, permutations, padding, copies, pixel shuffles
reshape    the same entries in the same order
combine    sum of *coefficients* [k] * input k, distinct and all of one shape, plus **bias**
           broadcast. Sums of sums are flattened where nothing else reads the inner one
concat     the inputs one after another along *dim*
window_sum sum over windows, dimension by dimension: entry i along dim *dims*[k] is
           *weights*[k][i] times the sum of x over *windows*[k][i] = [start, stop)
window_max maximum over windows of that form (*dims*, *windows*)
activation *function* (a name of `activations.SLOPES`, with *parameters* by name, or prelu) entry
           by entry; the **slope** of prelu is broadcast to x
maximum    entrywise max(x, y); minimum likewise
sort       the entries along *dim*, from the smallest to the largest
softmax    along *dim*; log_softmax, its logarithm, likewise
logsumexp  the logarithm of the sum of exponentials over *dims*, kept as size 1
norm       l2 norm over *dims*, kept as size 1
normalise  (x - mean) / sqrt(var + *epsilon*) over *dims*, var of the population (layer, group and
           instance norm; their affine part is a `scale` of its own)
product    x * y entrywise after broadcasting (to the right); quotient x / y likewise
matmul     the matrix product x y over the last two dimensions
unknown    the operator named in *operator*, of which nothing is known
========== ========================================================================================
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor

KINDS = (
    "input",
    "constant",
    "linear",
    "conv",
    "adjoint",
    "scale",
    "gather",
    "reshape",
    "combine",
    "concat",
    "window_sum",
    "window_max",
    "activation",
    "maximum",
    "minimum",
    "sort",
    "softmax",
    "log_softmax",
    "logsumexp",
    "norm",
    "normalise",
    "product",
    "quotient",
    "matmul",
    "unknown",
)

ROUNDED = 2.0**-50
"""How far an entry of a rounded weight may be from the exact one, relatively: 8 roundings."""


@dataclass(frozen=True)
class Constant:
    """A constant tensor: exactly `factor` * `value`, the value in the dtype it was stored in.

    `name` is that of a parameter or buffer when the value is that tensor, or one of its entries
    moved or selected exactly, else "": then it was computed from some, as the module executes it.
    `error` bounds the distance, entry by entry, of what the module executes from this exact one;
    the real function does not depend on it, and files do not hold it (`float32` reads it).
    `rounded` is 0 unless the value is not the exact one, but within so much of it, entry by entry;
    an entry of a weight is then within `ROUNDED` of it, relatively, too. Bounds, and what is said
    of equalities, charge it; certificates do not hold it.
    """

    value: Tensor
    factor: Fraction = Fraction(1)
    name: str = ""
    error: float = 0.0
    rounded: float = 0.0


@dataclass(frozen=True)
class Node:
    """One value of a graph. `module` is the path of the module that computes it."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    module: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of computation; the first is the input, `output` names the result."""

    nodes: tuple[Node, ...]
    output: str

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def input(self) -> Node:
        return self.nodes[0]

    def users(self) -> dict[str, list[Node]]:
        """By name of a node, the nodes that read it, once for each time they do."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found
