"""Lifts, projections and rearrangements that keep a property: between flows of other sizes.

Each has `claims`, the properties it keeps, and `breaks(name)`, the reason when it does not; the
entries are those of dimension 1, features or channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields.hamiltonian import half
from dsnn.operators import LinearOperator
from dsnn.spheres import rescale
from dsnn.structure import ENERGY, MASS, NORM, SHIFT, SYMPLECTIC, VOLUME


class StructuredLayer(nn.Module, ABC):
    """A layer that says what it keeps."""

    claims: frozenset[str]
    reasons: dict[str, str]
    """Why not, by property; a property that is neither here nor in `claims` is just not kept."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def breaks(self, name: str) -> str | None:
        """Why the layer does not keep the property of this name; None when it does."""
        if name in self.claims:
            return None
        return self.reasons.get(name, "it does not keep it")


_RESIZES = "it changes the dimension, and an energy, a volume or a symplectic form is of one space"
_NOT_OF_ONE_SPACE = dict.fromkeys((VOLUME, SYMPLECTIC, ENERGY), _RESIZES)
_ENTRIES = "it acts on features by their place: set images=True where dimension 1 are channels"


class ZeroLift(StructuredLayer):
    """x -> (x, 0, ..., 0): keeps the sum and the norm; on images, shifts too [T14].

    Raises UserError when there are fewer outputs than inputs.
    """

    def __init__(self, inputs: int, outputs: int, *, images: bool = False):
        super().__init__()
        if not 0 < inputs <= outputs:
            raise UserError(f"a lift from {inputs} entries to {outputs}: it needs at least as many")
        self.inputs, self.outputs = inputs, outputs
        self.claims = frozenset({MASS, NORM}) | ({SHIFT} if images else frozenset())
        self.reasons = {**_NOT_OF_ONE_SPACE, SHIFT: _ENTRIES}

    def forward(self, x: Tensor) -> Tensor:
        _require(x, self.inputs, self)
        behind = [0, 0] * (x.ndim - 2)
        return F.pad(x, [*behind, 0, self.outputs - self.inputs])


class _Cut(StructuredLayer):
    """To the first `outputs` of the entries."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        if not 0 < outputs <= inputs:
            raise UserError(
                f"a projection from {inputs} entries to {outputs}: it keeps at most {inputs}; "
                "ZeroLift makes more"
            )
        self.inputs, self.outputs = inputs, outputs


class MassProjection(_Cut):
    """x -> x_i + (sum of the x_j left out) / k, for the first k entries: keeps the sum [T14].

    Raises UserError when there are more outputs than inputs.
    """

    claims = frozenset({MASS})
    reasons = _NOT_OF_ONE_SPACE | {
        NORM: "it adds entries up: NormProjection keeps the norm",
        SHIFT: _ENTRIES,
    }

    def forward(self, x: Tensor) -> Tensor:
        _require(x, self.inputs, self)
        rest = x[:, self.outputs :].sum(1, keepdim=True)
        return x[:, : self.outputs] + rest / self.outputs


class NormProjection(_Cut):
    """x -> s |x| / |s| with s the first k entries: keeps the norm.

    Raises UserError when there are more outputs than inputs, and where s = 0 and x is not.
    """

    claims = frozenset({NORM})
    reasons = _NOT_OF_ONE_SPACE | {
        MASS: "it scales the entries: MassProjection keeps the sum",
        SHIFT: _ENTRIES,
    }

    def forward(self, x: Tensor) -> Tensor:
        _require(x, self.inputs, self)
        return rescale(x[:, : self.outputs], x)


class Permutation(StructuredLayer):
    """x -> (x_order[0], x_order[1], ...): keeps sum, norm and volume, and the symplectic form when
    it moves q and p alike. Raises UserError unless `order` holds every index once."""

    order: Tensor

    def __init__(self, order: Sequence[int]):
        super().__init__()
        n = len(order)
        if sorted(order) != list(range(n)):
            raise UserError(f"order {list(order)} is no permutation of 0 to {n - 1}")
        n_half = n // 2
        alike = n % 2 == 0 and [i + n_half for i in order[:n_half]] == list(order[n_half:])
        self.claims = frozenset({MASS, NORM, VOLUME}) | ({SYMPLECTIC} if alike else frozenset())
        self.reasons = {
            SYMPLECTIC: "it moves q and p differently: order[i + n/2] must be order[i] + n/2",
            SHIFT: _ENTRIES,
        }
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.order)

    def inverse(self, y: Tensor) -> Tensor:
        return y.index_select(1, self.order.argsort())


class Exchange(StructuredLayer):
    """(q, p) -> (p, -q): symplectic, and an isometry. Raises UserError on an odd dimension."""

    claims = frozenset({SYMPLECTIC, VOLUME, NORM})
    reasons = {MASS: "it changes the sign of half of the entries", SHIFT: _ENTRIES}  # noqa: RUF012

    def __init__(self, dim: int):
        super().__init__()
        half(dim)

    def forward(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, 1)
        return torch.cat([p, -q], 1)

    def inverse(self, y: Tensor) -> Tensor:
        p, minus_q = y.chunk(2, 1)
        return torch.cat([-minus_q, p], 1)


class OperatorLayer(StructuredLayer):
    """x -> Ax, learned: commutes with shifts when A does, and keeps nothing else [T16]."""

    def __init__(self, operator: LinearOperator):
        super().__init__()
        self.operator = operator
        self.claims = frozenset({SHIFT}) if operator.shift_equivariant else frozenset()
        self.reasons = {SHIFT: "its operator is not circular, of odd size and stride 1"}

    def breaks(self, name: str) -> str | None:
        why = super().breaks(name)
        return why if why is None or name == SHIFT else "a free linear map keeps nothing but shifts"

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)


def _require(x: Tensor, entries: int, layer: nn.Module) -> None:
    if x.shape[1] != entries:
        raise UserError(
            f"{type(layer).__name__} takes states of {entries} entries, not {x.shape[1]}"
        )
