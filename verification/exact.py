"""Linear nodes of a graph in exact arithmetic: arrays of integers times one fraction.

Weights and vectors are split into limbs of a few bits, so that every product and every sum of the
float64 operation is an integer below 2^53 and therefore exact, in any order; the limbs are put
together again as Python integers. A zero found here is a zero.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verification.graph import Constant, Node
from verification.interpret import RUN

Operation = Callable[[Tensor, Tensor], Tensor]

MOVES = ("gather", "reshape", "concat")
LINEAR = ("linear", "conv", "adjoint", "scale", "combine", "window_sum", *MOVES)
"""Kinds that are linear in their inputs, up to a bias."""


@dataclass(frozen=True)
class Exact:
    """The array `scale` * `ints`, of Python integers in an object array."""

    ints: np.ndarray
    scale: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        # Arithmetic on an object array without dimensions returns a bare integer.
        object.__setattr__(self, "ints", np.asarray(self.ints, dtype=object))

    @property
    def zero(self) -> bool:
        return not self.scale or not any(self.ints.flatten())

    def times(self, factor: Fraction) -> "Exact":
        return replace(self, scale=self.scale * factor)

    def reshape(self, shape: Sequence[int]) -> "Exact":
        return replace(self, ints=self.ints.reshape(tuple(shape)))

    def fractions(self) -> list[Fraction]:
        return [self.scale * int(i) for i in self.ints.flatten()]

    def total(self) -> Fraction:
        return self.scale * int(self.ints.flatten().sum()) if self.ints.size else Fraction(0)

    def largest(self) -> Fraction:
        """The largest absolute value."""
        return (
            abs(self.scale) * int(abs(self.ints.flatten()).max()) if self.ints.size else Fraction(0)
        )


def zeros(shape: Sequence[int]) -> Exact:
    return Exact(np.full(tuple(shape), 0, dtype=object))


def ones(shape: Sequence[int]) -> Exact:
    return Exact(np.full(tuple(shape), 1, dtype=object))


def exact(value: Tensor, factor: Fraction = Fraction(1)) -> Exact:
    """`factor` times a tensor of finite floating-point numbers."""
    flat = value.detach().to("cpu", torch.float64).flatten().numpy()
    if not np.isfinite(flat).all():
        raise ArithmeticError("the constants are not finite")
    mantissas, exponents = np.frexp(flat)
    whole = (mantissas * 2.0**53).astype(np.int64)
    used = whole != 0
    lowest = int((exponents - 53)[used].min()) if used.any() else 0
    ints = np.array(whole.tolist(), dtype=object) << np.where(
        used, exponents - 53 - lowest, 0
    ).astype(object)
    common = math.gcd(*(int(i) for i in ints)) or 1
    return Exact((ints // common).reshape(value.shape), factor * common * Fraction(2) ** lowest)


def constant(value: Constant) -> Exact:
    return exact(value.value, value.factor)


def _aligned(terms: Sequence[Exact]) -> tuple[list[np.ndarray], Fraction]:
    """The integers of several arrays over one common scale."""
    kept = [term.scale for term in terms if not term.zero]
    denominator = math.lcm(*(scale.denominator for scale in kept))
    common = Fraction(math.gcd(*(int(s * denominator) for s in kept)) or 1, denominator)
    return [
        term.ints * int(term.scale / common) if not term.zero else term.ints * 0 for term in terms
    ], common


def added(terms: Sequence[Exact]) -> Exact:
    """The sum of arrays of one shape."""
    ints, scale = _aligned(terms)
    return Exact(np.asarray(sum(ints[1:], ints[0]), dtype=object), scale)


def _limbs(ints: np.ndarray, bits: int) -> list[Tensor]:
    """Float64 tensors of integers at most 2^bits, to be weighted by 2^(bits k)."""
    signs, rest = np.sign(ints), np.asarray(abs(ints), dtype=object)
    found = []
    while rest.any():
        limb = (rest & ((1 << bits) - 1)) * signs
        found.append(torch.from_numpy(limb.astype(np.float64)))
        rest = rest >> bits
    return found


def _bilinear(operation: Operation, weight: Exact, x: Exact, terms: int) -> Exact:
    """operation(weight, x), whose outputs are sums of at most `terms` products."""
    bits = (53 - terms.bit_length()) // 2
    if bits < 1:
        raise ArithmeticError(f"{terms} products in one entry are too many for exact arithmetic")
    total: Any = None
    xs = _limbs(x.ints, bits) or [torch.from_numpy(x.ints.astype(np.float64))]
    ws = _limbs(weight.ints, bits) or [torch.from_numpy(weight.ints.astype(np.float64))]
    for j, limb in enumerate(xs):
        for i, part in enumerate(ws):
            product = operation(part, limb).detach().numpy().astype(np.int64).astype(object)
            shifted = product << (bits * (i + j))
            total = shifted if total is None else total + shifted
    return Exact(total, weight.scale * x.scale)


def _windowed(node: Node) -> tuple[Node, Fraction]:
    """A window sum with integer weights, and the factor that makes it the given one."""
    weights = node.attributes["weights"]
    factor, integers = Fraction(1), []
    for along in weights:
        divisor = math.lcm(*(Fraction(w).denominator for w in along))
        integers.append([int(w * divisor) for w in along])
        factor /= divisor
    return replace(node, attributes={**node.attributes, "weights": integers}), factor


def _operation(node: Node, shape: Sequence[int]) -> tuple[Operation, Exact, int]:
    """A linear, conv, adjoint or window sum node as (weight, x) -> y without bias, its weight and
    a bound on the products in one entry of y, or of its adjoint's."""
    if node.kind == "window_sum":
        node, factor = _windowed(node)
        largest = math.prod(max(map(abs, along), default=0) for along in node.attributes["weights"])
        many = [max(len(w), shape[d]) for d, w in _along(node)]
        run = lambda weight, x: RUN[node.kind](node, [x * weight], {})  # noqa: E731
        return run, Exact(np.array([1], dtype=object), factor), max(1, largest) * math.prod(many)
    weight = constant(node.constants["weight"])
    run = lambda weight, x: RUN[node.kind](node, [x], {"weight": weight})  # noqa: E731
    # Circular padding may use an entry three times along a dimension.
    return run, weight, 9 * max(1, weight.ints.size)


def _along(node: Node) -> list[tuple[int, Any]]:
    return list(zip(node.attributes["dims"], node.attributes["windows"], strict=True))


def forward(node: Node, inputs: Sequence[Exact]) -> Exact:
    """The linear part of a node, on batches (B, *shape) of each of its inputs."""
    x = inputs[0]
    batch = x.ints.shape[0]
    if node.kind == "reshape":
        return x.reshape((batch, *node.shape))
    if node.kind == "gather":
        index = node.attributes["index"].flatten().numpy()
        taken = x.ints.reshape(batch, -1)[:, np.maximum(index, 0)]
        taken = np.where(index < 0, 0, taken)
        return Exact(taken.reshape(batch, *node.shape), x.scale)
    if node.kind == "concat":
        ints, scale = _aligned(inputs)
        return Exact(np.concatenate(ints, 1 + node.attributes["dim"] % len(node.shape)), scale)
    if node.kind == "combine":
        pairs = zip(inputs, node.attributes["coefficients"], strict=True)
        return added([x.times(Fraction(c)) for x, c in pairs])
    if node.kind == "scale":
        weight = constant(node.constants["weight"])
        return Exact(x.ints * weight.ints, x.scale * weight.scale)
    run, weight, terms = _operation(node, x.ints.shape[1:])
    return _bilinear(run, weight, x, terms)


def backward(node: Node, y: Exact, shapes: Sequence[tuple[int, ...]]) -> list[Exact]:
    """The adjoint of the linear part of a node on y (*node.shape): one array for each input, of
    the given shapes."""
    if node.kind == "reshape":
        return [y.reshape(shapes[0])]
    if node.kind == "gather":
        index = node.attributes["index"].flatten().tolist()
        found = zeros((math.prod(shapes[0]),))
        for i, value in zip(index, y.ints.flatten(), strict=True):
            if i >= 0:
                found.ints[i] += value
        return [Exact(found.ints.reshape(shapes[0]), y.scale)]
    if node.kind == "concat":
        dim = node.attributes["dim"] % len(node.shape)
        ends = np.cumsum([shape[dim] for shape in shapes])[:-1]
        return [Exact(part, y.scale) for part in np.split(y.ints, ends, dim)]
    if node.kind == "combine":
        return [y.times(Fraction(c)) for c in node.attributes["coefficients"]]
    if node.kind == "scale":
        weight = constant(node.constants["weight"])
        return [Exact(y.ints * weight.ints, y.scale * weight.scale)]
    run, weight, terms = _operation(node, shapes[0])

    def transposed(weight: Tensor, y: Tensor) -> Tensor:
        x = torch.zeros((1, *shapes[0]), dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(run(weight, x), x, y[None])
        return gradient[0]

    return [_bilinear(transposed, weight, y, terms)]
