"""Watching torch operations: the error bound of every tensor that a module computes.

The rules, one for each operation, are in `running_error_rules` and `running_error_affine`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from dsnn.operators.rounding import UNIT, gamma

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
"""By torch function: (watch, *arguments) -> its result, known to the watch."""
METADATA: set[Any] = set()
"""Functions that read nothing of a tensor but its shape."""

FLOOR = 2.0**-480
"""Added to every norm and error: covers underflow, whose squares vanish below 2^-537."""
SLACK = 1 + 2.0**-44
"""Covers the float64 operations, at most 256 of them, that combine bounds into one."""


class UnboundedOperation(Exception):
    """An operation whose rounding error has no rule here: nothing follows from the evaluation."""


@dataclass
class Error:
    """An upper bound on the l2 error, (B,) per example when `batched`, else () of the whole
    tensor. Views share it, so that what is done to one in place is known to all."""

    bound: Tensor
    batched: bool


class RunningError(TorchFunctionMode):
    """Watches torch operations and keeps the error of every tensor that they produce. `eps` is that
    of the numbers that the module is executed in when it is not watched."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps
        self._errors = WeakTensorKeyDictionary()
        self._multiples = WeakTensorKeyDictionary()
        self._padded = WeakTensorKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = getattr(getattr(func, "__self__", func), "__name__", name)
        if func not in RULES:
            raise UnboundedOperation(f"no rounding bound for the operation {name!r}")
        try:
            bound = signature(RULES[func]).bind(self, *args, **kwargs)
        except TypeError as error:
            raise UnboundedOperation(f"no rounding bound for {name!r} with: {error}") from error
        return RULES[func](*bound.args, **bound.kwargs)

    def exact(self, tensor: Tensor, *, batched: bool = False) -> None:
        """Declare a tensor free of error: a parameter, a constant or, when `batched`, the input."""
        shape = tensor.shape[:1] if batched else ()
        self._errors[tensor] = Error(torch.zeros(shape, dtype=torch.float64), batched)

    def operand(self, value: Any) -> tuple[Tensor, Error]:
        """An argument as a float64 tensor with its error; a Python number is exact."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = torch.tensor(float(value), dtype=torch.float64)
            if number.item() != value:
                raise UnboundedOperation(f"the number {value} has no exact float64")
            return number, Error(torch.zeros((), dtype=torch.float64), False)
        if not isinstance(value, Tensor) or value not in self._errors:
            raise UnboundedOperation(f"an operand of unknown origin: {type(value).__name__}")
        if value.dtype != torch.float64:
            raise UnboundedOperation(f"an operand of type {value.dtype}, expected float64")
        return value, self._errors[value]

    def result(self, value: Tensor, bound: Tensor, batched: bool) -> Tensor:
        """Keep `bound`, a float64 combination of upper bounds, as the error of `value`."""
        bound = torch.nan_to_num(bound * SLACK + FLOOR, nan=torch.inf, posinf=torch.inf)
        self._errors[value] = Error(bound, batched)
        return value

    def worsen(self, error: Error, added: Tensor) -> None:
        """A tensor was changed in place, to the accuracy `added`; its views know at once."""
        error.bound = torch.nan_to_num((error.bound + added) * SLACK, nan=torch.inf)

    def view(self, value: Tensor, error: Error) -> Tensor:
        """`value` holds entries of a tensor whose error is `error`, each at most once."""
        self._errors[value] = error
        return value

    def is_multiple(self, value: Tensor, factor: Tensor, of: Tensor) -> None:
        """Remember that exactly `value` = c `of` for a number |c| <= `factor`."""
        root, known = self.multiple(of)
        self._multiples[value] = (root, factor * known * SLACK)

    def multiple(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """A tensor and a factor that bounds the multiple of it which `value` is."""
        if value in self._multiples:
            return self._multiples[value]
        return value, torch.ones((), dtype=torch.float64)

    def is_padded(self, value: Tensor, pads: tuple[int, ...], source: Tensor) -> None:
        """Remember that `value` is the image `source` padded circularly."""
        self._padded[value] = (source, pads, self._errors[value].bound)

    def padded(self, value: Tensor) -> tuple[Tensor, tuple[int, ...]] | None:
        """The image and the padding (left, right, top, bottom) that made `value`, unless it was
        changed since."""
        if value not in self._padded:
            return None
        source, pads, bound = self._padded[value]
        return (source, pads) if self._errors[value].bound is bound else None


def rows(value: Tensor) -> Tensor:
    """The examples of a batch (B, ...) as rows, single numbers (B,) too."""
    return value[:, None].flatten(1)


def norm(value: Tensor, batched: bool) -> Tensor:
    """Upper bound on the l2 norm, per example (B,) when `batched`."""
    flat = rows(value if batched else value[None])
    computed = torch.linalg.vector_norm(flat, dim=1)
    bound = computed * (1 + gamma(flat.shape[1] + 8)) + FLOOR
    return bound if batched else bound[0]


def rounding(value: Tensor, batched: bool) -> Tensor:
    """Bound on the error of a computed tensor whose every entry was rounded once."""
    return UNIT * norm(value, batched)


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register a rule for torch functions that do the same."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, function))
        return function

    return register


def pair(value: Any) -> tuple[int, int]:
    """A size, stride or padding in two dimensions, which torch takes as one number or two."""
    a, b = (value, value) if isinstance(value, int) else value * 2 if len(value) == 1 else value
    return int(a), int(b)
