"""Singular values of the linear maps of a graph: each distinct one is computed once.

Two nodes share their values when they execute the same stored weight with the same attributes,
wherever and however often they do, and up to an exact factor. A transposed convolution has the
norm of the convolution it is the adjoint of, whose input has the extent of its output.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from dsnn.operators.bounds import SingularValues, of_convolution, of_matrix
from dsnn.operators.geometry import Geometry
from verification.graph import Node
from verification.store import Store
from verification.store import key as stored_key

OPERATORS = ("linear", "conv", "adjoint")


@dataclass(frozen=True)
class Operator:
    """The linear map that a node executes, without its bias: `factor` times that of `weight`.

    `weight` is (m, n), or a kernel (m, n / groups, k, l) with the `geometry` of the convolution;
    then `transposed` says whether its adjoint is executed.
    """

    weight: Tensor
    factor: Fraction
    geometry: Geometry | None = None
    transposed: bool = False
    name: str = ""

    @property
    def key(self) -> str:
        """A hash of all that the singular values of the convolution or matrix depend on."""
        data = self.weight.detach().to("cpu", torch.float64).contiguous()
        about = f"{tuple(data.shape)} {self.geometry}".encode()
        return hashlib.sha256(about + data.numpy().tobytes()).hexdigest()

    def same(self, other: "Operator") -> bool:
        """Whether both are multiples of one map, transposed or not: equal weights, geometries."""
        return (
            self.geometry == other.geometry
            and self.weight.shape == other.weight.shape
            and torch.equal(_exact(self.weight), _exact(other.weight))
        )

    def adjoint_of(self, other: "Operator") -> bool:
        """Whether this is a multiple of the adjoint of `other`, exactly."""
        if self.geometry is None and other.geometry is None:
            turned = _exact(other.weight).T
            return self.weight.shape == turned.shape and torch.equal(_exact(self.weight), turned)
        return self.transposed != other.transposed and self.same(other)


def _exact(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float64)


def operator(node: Node, shape: tuple[int, ...]) -> Operator | None:
    """The operator of a node of one of the kinds `OPERATORS` on inputs of `shape`; None for a form
    without bounds (negative padding, three dimensions, shapes that do not belong together).
    """
    weight = node.constants["weight"]
    name = weight.name.removesuffix(".weight")
    if node.kind == "linear":
        return Operator(weight.value, weight.factor, name=name)
    transposed, kernel = node.kind == "adjoint", weight.value
    extent = tuple(node.attributes["extent"]) if transposed else shape[1:]
    if len(extent) not in (1, 2) or kernel.ndim != 2 + len(extent):
        return None
    geometry = _geometry(node.attributes, extent)
    if len(extent) == 1:
        kernel = kernel[:, :, None, :]
    found = Operator(kernel, weight.factor, geometry, transposed, name)
    shapes = (node.shape, shape) if transposed else (shape, node.shape)
    return found if _fits(kernel, geometry, shapes) else None


def _fits(
    kernel: Tensor, geometry: Geometry, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> bool:
    """Whether the convolution of `kernel` maps the first shape to the second."""
    inputs, outputs = shapes
    sizes = [geometry.outputs(dim, kernel.shape[2 + dim]) for dim in (0, 1)]
    channels = (kernel.shape[1] * geometry.groups, kernel.shape[0])
    return (
        min(geometry.padding) >= 0
        and (inputs[0], outputs[0]) == channels
        and tuple(geometry.extent)[-len(inputs[1:]) :] == tuple(inputs[1:])
        and tuple(sizes)[-len(outputs[1:]) :] == tuple(outputs[1:])
    )


def _geometry(attributes: Mapping[str, Any], extent: tuple[int, ...]) -> Geometry:
    """1-D convolutions are 2-D ones of images one pixel high."""
    one = len(extent) == 1

    def two(values: Any, filler: Any) -> tuple[Any, Any]:
        values = tuple(values)
        return (filler, values[0]) if one else (values[0], values[1])

    rows, columns = two(attributes["padding"], (0, 0))
    return Geometry(
        (1, extent[0]) if one else (extent[0], extent[1]),
        two(attributes["stride"], 1),
        (int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])),
        two(attributes["dilation"], 1),
        int(attributes["groups"]),
        bool(attributes["circular"]),
    )


class Spectra:
    """Singular values by content, computed when first asked for; `tighten` spends factorisations.

    With `optimistic` the values handed out have their unproved ends in place of the proved ones:
    what could at best be proved. They decide where effort goes, and never a verdict.
    """

    def __init__(self, *, tight: bool = False, store: Store | None = None):
        self.tight, self.optimistic, self.store = tight, False, store
        self._known: dict[str, SingularValues] = {}
        self._tightened: set[str] = set()
        self._keys: dict[tuple[int, Geometry | None], tuple[Tensor, str]] = {}

    def key(self, operator: Operator) -> str:
        """The operator's key, hashed once per stored tensor."""
        place = (id(operator.weight), operator.geometry)
        if place not in self._keys or self._keys[place][0] is not operator.weight:
            self._keys[place] = (operator.weight, operator.key)
        return self._keys[place][1]

    def of(self, operator: Operator) -> SingularValues:
        """Enclosures for the operator without its factor. Raises ArithmeticError on weights that
        are not finite, and UserError on a kernel larger than its padded input."""
        key = self.key(operator)
        if key not in self._known:
            self._compute(key, operator, self.tight)
        values = self._known[key]
        if operator.transposed:
            values = replace(values, smallest=_smallest_of_adjoint(operator, values))
        if self.optimistic:
            (low, high), (small_low, small_high) = values.norm, values.smallest
            values = replace(values, norm=(high, low), smallest=(small_high, small_low))
        return values

    def prepare(self, operators: Iterable[Operator]) -> None:
        """Compute what is not known of the operators side by side, on as many threads as torch has.

        Factorisations take gigabytes each and are left to `of`, and so is raising errors.
        """
        missing = {self.key(one): one for one in operators}
        missing = {key: one for key, one in missing.items() if key not in self._known}
        threads = min(torch.get_num_threads(), len(missing))
        if self.tight or threads < 2:
            return
        with ThreadPoolExecutor(threads) as pool:
            work = [pool.submit(self._compute, key, one, False) for key, one in missing.items()]
            try:
                wait(work)
            finally:
                pool.shutdown(cancel_futures=True)  # interrupted: what runs is finished and stored

    @property
    def state(self) -> tuple[bool, int]:
        """What the values handed out depend on beside the operator: whether they are `optimistic`,
        and the number of operators tightened."""
        return self.optimistic, len(self._tightened)

    def tighten(self, operator: Operator) -> None:
        """Spend factorisations on the operator, once."""
        key = self.key(operator)
        if key not in self._tightened:
            self._compute(key, operator, True)

    def tightening_work(self, operator: Operator) -> float:
        """Floating-point operations that `tighten` would take, roughly; 0 when it gains nothing."""
        if operator.geometry is None or self.key(operator) in self._tightened:
            return 0.0
        height, width = operator.geometry.extent
        return 40.0 * height * (operator.weight.shape[1] * width) ** 3 * operator.geometry.groups

    def _compute(self, key: str, operator: Operator, tight: bool) -> None:
        self._known[key] = self._stored(key, operator, tight)
        if tight:
            self._tightened.add(key)

    def _stored(self, key: str, operator: Operator, tight: bool) -> SingularValues:
        """From the store when they are there; else computed, and stored."""
        place = stored_key("spectrum", operator=key, tight=tight) if self.store else ""
        if self.store and (entry := self.store.get(place)):
            norm, smallest, method = entry.content
            return SingularValues((norm[0], norm[1]), (smallest[0], smallest[1]), method)
        if operator.geometry is None:
            values = of_matrix(operator.weight)
        else:
            values = of_convolution(operator.weight, operator.geometry, tight=tight)
        if self.store:
            self.store.put(place, [values.norm, values.smallest, values.method])
        return values


def _smallest_of_adjoint(operator: Operator, values: SingularValues) -> tuple[float, float]:
    """inf |A'y| / |y| over the outputs y of the convolution A: that of A when A is square, 0 when
    A has more outputs than inputs, else only known to be at most the norm."""
    assert operator.geometry is not None
    geometry, kernel = operator.geometry, operator.weight
    inputs = kernel.shape[1] * geometry.groups * math.prod(geometry.extent)
    sizes = (geometry.outputs(dim, kernel.shape[2 + dim]) for dim in (0, 1))
    outputs = kernel.shape[0] * math.prod(sizes)
    if outputs == inputs:
        return values.smallest
    return (0.0, 0.0 if outputs > inputs else values.norm[1])
