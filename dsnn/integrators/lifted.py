"""The symplectic step of a lifted field, whose x-part is the explicit Euler layer [T3]."""

from typing import cast

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from dsnn.errors import UserError
from dsnn.fields import LiftedField, VectorField
from dsnn.integrators.base import Integrator
from dsnn.structure import SYMPLECTIC


class LiftedEuler(Integrator):
    """x+ = x + h f(x), p+ = (I + h Df(x)ᵀ)^-1 p: symplectic Euler for H = <p, f(x)>.

    h |Df| < 1 suffices. Raises UserError where I + h Df(x) is singular.
    """

    order = 1
    preserves = frozenset({SYMPLECTIC})
    fields = LiftedField

    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        inner = cast(LiftedField, field).field
        position, momentum = x.chunk(2, 1)
        jacobian = vmap(jacrev(lambda state: inner(state[None])[0]))(position)
        identity = torch.eye(position.shape[1], dtype=x.dtype, device=x.device)
        moved, info = torch.linalg.solve_ex(identity + h * jacobian.mT, momentum[:, :, None])
        if bool(info.any()) or not bool(moved.isfinite().all()):
            raise UserError(
                f"LiftedEuler: I + h Df(x) is singular at h = {float(h.detach()):g}: no "
                "symplectic step there, take h |Df| < 1"
            )
        return torch.cat([inner.euler(position, h), moved[:, :, 0]], 1)
