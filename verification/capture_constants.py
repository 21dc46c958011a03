"""Constants of a captured graph, exact where real arithmetic allows it.

A constant is factor * value, the value as stored. Scalars and vectors of at most 64 entries go
through + - * / neg and abs in exact fractions; moved entries and multiples by an exact scalar of
any tensor stay exact as well, and so do those of float32 by one that repeats along it, as when rows
are scaled. Everything else (what a parametrisation computes) is evaluated as the module executes
it, in its dtype, and that value is taken as it is.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from verification.graph import Constant

SHORT = 64
"""Entries of a vector whose arithmetic is done in fractions."""


@dataclass(frozen=True)
class Folded:
    """A value that does not depend on the input: `executed` as the module computes it (a tensor
    or a Python number), and what it means, `factor` * `value`, with the contract of `Constant`.

    `exact` says that nothing on the way to it was rounded. `drift` bounds the error, entry by
    entry, of an executed value that is not `executed`: that of statistics, fused into one kernel,
    whose exact value is only near this one (`rounded`).
    """

    executed: Any
    value: Tensor
    factor: Fraction = Fraction(1)
    name: str = ""
    exact: bool = True
    drift: float = 0.0
    rounded: float = 0.0

    @property
    def constant(self) -> Constant:
        value = self.value if self.value.is_floating_point() else self.value.to(torch.float64)
        if not self.value.is_floating_point() and value.numel() and value.abs().max() >= 2.0**53:
            raise ArithmeticError("integers that float64 does not hold")
        return Constant(value, self.factor, self.name, self.error, self.rounded)

    @property
    def error(self) -> float:
        """A bound on the distance of the executed entries from factor * value."""
        if self.executed is self.value:
            return self.drift
        try:
            factor = float(self.factor)
            executed = torch.as_tensor(self.executed).detach().flatten().to(torch.float64)
            value = self.value.detach().flatten().to(torch.float64) * factor
            off, size = float((executed - value).abs().max()), float(value.abs().max())
        except (OverflowError, RuntimeError, TypeError, ValueError):
            return math.inf
        if not math.isfinite(off + size):
            return math.inf
        # The factor, the product and the difference are rounded in float64.
        rounded = 0.0 if abs(self.factor) == 1 and not off else 2.0**-50 * (size + off) + 2.0**-1000
        return off + rounded + self.drift

    @property
    def scalar(self) -> Fraction | None:
        """The number that this is, if it is a finite one."""
        if self.value.numel() != 1 or self.value.is_complex():
            return None
        number = self.value.item()
        return self.factor * Fraction(number) if math.isfinite(number) else None

    def entries(self) -> list[Fraction] | None:
        """All entries of a short finite vector."""
        if self.value.numel() > SHORT or self.value.is_complex():
            return None
        numbers = self.value.flatten().tolist()
        if not all(math.isfinite(number) for number in numbers):
            return None
        return [self.factor * Fraction(number) for number in numbers]

    def times(self, factor: Fraction) -> "Folded":
        """What is subtracted is added with the other sign, which rounds nothing."""
        executed = self.executed
        if factor == -1 and (self.value.is_floating_point() or isinstance(executed, int | float)):
            executed = -executed
        return replace(self, executed=executed, factor=factor * self.factor)


def number(value: int | float | bool) -> Folded:
    """A Python number; its value is the float64 (or integer) that it is."""
    return Folded(
        value, torch.tensor(value, dtype=torch.float64 if value == float(value) else None)
    )


def stored(value: Tensor, name: str) -> Folded:
    """A parameter, buffer or literal tensor of the module."""
    return Folded(value, value, name=name)


def fold(op: str, arguments: list[Any], executed: Tensor) -> Folded:
    """The constant that the operator `op` makes of `arguments`, at least one of them Folded, when
    the module computes `executed`."""
    operands = [a if isinstance(a, Folded) else _lifted(a) for a in arguments]
    found = _exactly(op, operands, executed) if executed.is_floating_point() else None
    return found or evaluated(executed)


def evaluated(executed: Tensor) -> Folded:
    """A tensor as the module computes it, taken as it is."""
    return Folded(executed, executed, exact=False)


def moved(base: Folded, value: Tensor, executed: Any) -> Folded:
    """Entries of `base`, moved: the same ones as in `executed`."""
    return replace(base, value=value, executed=executed)


def _lifted(argument: Any) -> Folded | None:
    return number(argument) if isinstance(argument, int | float) else None


def _exactly(op: str, operands: list[Folded | None], executed: Tensor) -> Folded | None:
    x = operands[0]
    if x is None:
        return None
    if op == "neg":
        return replace(x.times(Fraction(-1)), executed=executed)
    if op == "abs" and not x.value.is_complex():
        return Folded(executed, x.value.abs(), abs(x.factor), exact=x.exact)
    y = operands[1] if len(operands) > 1 else None
    if y is None or len(operands) > 2:
        return None
    if op in ("mul", "div"):
        for one, other in ((x, y), (y, x)) if op == "mul" else ((y, x),):
            if one.exact and one.scalar is not None and other.value.shape == executed.shape:
                if op == "div" and not one.scalar:
                    return None
                by = 1 / one.scalar if op == "div" else one.scalar
                return replace(other.times(by), executed=executed)
    found = _in_fractions(op, x, y, executed)
    return _multiplied(x, y, executed) if found is None and op == "mul" else found


def _multiplied(x: Folded, y: Folded, executed: Tensor) -> Folded | None:
    """Products of two numbers of 24 bits, which float64 holds, where one tensor repeats."""
    short = {torch.float32, torch.float16, torch.bfloat16}
    repeats = min(x.value.numel(), y.value.numel()) < executed.numel()
    if not (repeats and x.exact and y.exact and {x.value.dtype, y.value.dtype} <= short):
        return None
    value = x.value.detach().to(torch.float64) * y.value.detach().to(torch.float64)
    if value.shape != executed.shape or not bool(executed.isfinite().all()):
        return None
    return Folded(executed, value, x.factor * y.factor)


def _in_fractions(op: str, x: Folded, y: Folded, executed: Tensor) -> Folded | None:
    if executed.numel() > SHORT or not (x.exact and y.exact):
        return None
    try:
        xs, ys = (_expanded(operand, executed).entries() for operand in (x, y))
    except RuntimeError:
        return None
    if xs is None or ys is None or (op == "div" and 0 in ys):
        return None
    pairs = zip(xs, ys, strict=True)
    if op == "add":
        return _from_fractions([a + b for a, b in pairs], executed)
    if op == "sub":
        return _from_fractions([a - b for a, b in pairs], executed)
    if op == "rsub":
        return _from_fractions([b - a for a, b in pairs], executed)
    if op == "mul":
        return _from_fractions([a * b for a, b in pairs], executed)
    if op == "div":
        return _from_fractions([a / b for a, b in pairs], executed)
    return None


def _expanded(operand: Folded, executed: Tensor) -> Folded:
    return replace(operand, value=operand.value.expand(executed.shape))


def _from_fractions(numbers: list[Fraction], executed: Tensor) -> Folded | None:
    """factor * value with an integer value in float64, if its entries are small enough."""
    divisor = math.gcd(*(n.numerator for n in numbers)) or 1
    denominator = math.lcm(*(n.denominator for n in numbers))
    factor = Fraction(divisor, denominator)
    integers = [int(n / factor) for n in numbers]
    if max(abs(i) for i in integers) >= 2**53:
        return None
    value = torch.tensor(integers, dtype=torch.float64).reshape(executed.shape)
    return Folded(executed, value, factor)
