"""Back to the sphere a state came from: relaxation and projection [T15].

An exported program holds the bare formula, which is what a proof reads: its statement is about the
points where the formula is defined. At the others, executed code gives what is said here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from dsnn.errors import UserError
from dsnn.fields.base import inner

_checked: ContextVar[bool] = ContextVar("checked", default=True)


def _bare() -> bool:
    """Whether the formula alone is wanted: by an export, and not by who compares it with a run."""
    compiler = torch.compiler
    return compiler.is_exporting() and (compiler.is_dynamo_compiling() or _checked.get())


def relax(phi: Tensor, y: Tensor) -> Tensor:
    """(1 - l) φ + l y, l = (|φ|² - |y|²) / |φ - y|²: on the line through y and φ, with the norm of
    y. Where φ = y it is y. States (B, ...) of one shape.

    Computed as y - 2 <y, d> / |d|² d with d = φ - y, the mirror image of y: a factor rounded by
    ε changes its norm by 2 c² ε at most, c the cosine of d and y, which is small for small steps.
    What is subtracted is no larger than 2 |y|, however far away φ is.
    """
    d = phi - y
    part, square = 2 * inner(y, d), inner(d, d)
    if not _bare():
        apart = square > torch.finfo(y.dtype).tiny
        part, square = torch.where(apart, part, 0.0), torch.where(apart, square, 1.0)
    return y - part / square * d


def rescale(phi: Tensor, y: Tensor) -> Tensor:
    """φ |y| / |φ|: on the ray through φ, with the norm of y; states (B, ...), φ may be shorter.

    Where y = 0 it is 0. Raises UserError where φ = 0 and y is not, or where one is not finite.
    """
    over = tuple(range(1, y.ndim))
    top, bottom = (torch.linalg.vector_norm(v, dim=over, keepdim=True) for v in (y, phi))
    if not _bare():
        _check((bottom == 0) & (top > 0), top + bottom)
        bottom = torch.where(bottom > 0, bottom, 1.0)
    return phi * top / bottom


@contextmanager
def unchecked() -> Iterator[None]:
    """States are not looked at, and so nothing is raised: for whoever watches what code reads."""
    token = _checked.set(False)
    try:
        yield
    finally:
        _checked.reset(token)


def _check(lost: Tensor, sizes: Tensor) -> None:
    if torch.compiler.is_compiling() or not _checked.get():
        return
    try:
        failed, overflowed = bool(lost.any()), not bool(sizes.isfinite().all())
    except RuntimeError:
        return  # under torch.func.vmap numbers cannot be looked at: a lost state stays 0
    if failed:
        raise UserError("a state of positive norm was mapped to 0, which has no direction")
    if overflowed:
        raise UserError("a state is not finite: take smaller steps or smaller weights")
