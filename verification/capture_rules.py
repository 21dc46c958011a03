"""The operators that capture understands: for each, the nodes that it becomes.

A rule takes the builder and its call, arguments by the names of the operator's schema, and returns
values; it raises `Unrecognised` on an option that has no exact equivalent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from verification.capture_builder import Builder, Unrecognised, Value
from verification.capture_constants import Folded, number


@dataclass(frozen=True)
class Call:
    """An operator applied: `run(*values of the tensor arguments)` executes it on other tensors of
    the same shapes; `full` is the shape of the result (of the first, when there are several)."""

    op: str
    arguments: dict[str, Any]
    full: tuple[int, ...]
    dtype: torch.dtype
    target: Callable[..., Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def data(self, name: str) -> Value:
        """An argument that depends on the input, and must."""
        value = self[name]
        if not isinstance(value, Value):
            raise Unrecognised(f"a constant {name}")
        return value

    def constant(self, name: str) -> Folded | None:
        """An argument that does not depend on the input, None where it is left out."""
        value = self.get(name)
        if isinstance(value, Value):
            raise Unrecognised(f"{name} depends on the input")
        return number(value) if isinstance(value, int | float) else value

    def run(self, /, **replaced: Any) -> Any:
        """The operator on its own arguments, some of them replaced."""
        return self.target(**{**self.arguments, **replaced})


Rule = Callable[[Builder, Call], Any]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for the aten operators of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def exact(value: int | float | Fraction) -> Fraction:
    """A Python number of the program. Raises Unrecognised unless it is a finite one."""
    try:
        return Fraction(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise Unrecognised(f"the number {value}") from error


def several(value: Any, count: int) -> list[int]:
    """A size, stride or padding along `count` dimensions, which torch takes as one or as many."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values
