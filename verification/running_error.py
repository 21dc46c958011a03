"""A module evaluated in float64 together with a rigorous bound on its rounding error.

`evaluate` runs the module's own forward code and watches every torch operation: each result gets
a bound on the l2 distance, per example, between what was computed and what exact real arithmetic
gives on the stored weights and inputs. An operation without a rule raises `UnboundedOperation`;
so does a tensor that did not come out of a watched operation.

The arithmetic is that of `dsnn.operators.rounding`. Convolutions in float64 on a CPU are sums of
products: torch lowers them to im2col and the BLAS's matrix product, since oneDNN and NNPACK, with
their Winograd and Fourier algorithms, take float32 only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import verification.running_error_affine
import verification.running_error_graph
import verification.running_error_rules  # noqa: F401  (all three register their rules)
from verification.copies import deep_copy
from verification.pixel_input import PixelInput
from verification.running_error_watch import RunningError, UnboundedOperation, norm, rows

__all__ = ["Evaluation", "UnboundedOperation", "evaluate", "norm"]


@dataclass(frozen=True)
class Evaluation:
    """value (B, ...) float64, and error (B,) float64: the exact value is within it in l2."""

    value: Tensor
    error: Tensor


def evaluate(module: nn.Module, x: Tensor) -> Evaluation:
    """`module` in eval mode on a batch x (B, ...) as stored, in float64 on the CPU.

    The module must treat the examples of a batch independently. An example on which anything
    overflows has error infinity. Raises UnboundedOperation.
    """
    exact = deep_copy(module).to("cpu", torch.float64).eval()
    x = x.detach().to("cpu", torch.float64, copy=True)
    watch = RunningError(_eps(module))
    for constant in (*exact.parameters(), *exact.buffers()):
        watch.exact(constant)
    watch.exact(x, batched=True)
    with torch.no_grad(), watch:
        value = exact(x)
    value, error = watch.operand(value)
    if not error.batched:
        raise UnboundedOperation("the output does not depend on the input")
    finite = torch.isfinite(rows(value)).all(1) & torch.isfinite(rows(x)).all(1)
    return Evaluation(value, torch.where(finite, error.bound, torch.inf))


def _eps(module: nn.Module) -> float:
    """Of the numbers that the module is executed in: float32, or float64 where it has such ones,
    but for the statistics of pixels, which are brought to its type."""
    module = module.module if isinstance(module, PixelInput) else module
    stored = (*module.parameters(), *module.buffers())
    double = any(tensor.dtype == torch.float64 for tensor in stored)
    return torch.finfo(torch.float64 if double else torch.float32).eps
