"""SymPy expressions as plain functions of numbers, NumPy arrays or torch tensors."""

import functools
import importlib
import keyword
import math
from collections.abc import Callable
from typing import Any, Literal

from sympy import Basic, lambdify

Backend = Literal["math", "numpy", "torch"]


def _fold(pairwise: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *values: functools.reduce(pairwise, values)


def _math() -> dict[str, Any]:
    return {"sqrt": math.sqrt, "exp": math.exp, "log": math.log, "max": max, "min": min}


def _numpy() -> dict[str, Any]:
    import numpy as np

    fold = {"max": _fold(np.maximum), "min": _fold(np.minimum)}
    return {"sqrt": np.sqrt, "exp": np.exp, "log": np.log, **fold}


def _torch() -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")  # only on request: this floor has no torch

    def of_numbers_too(name: str) -> Callable[[Any], Any]:
        on_tensor, on_number = getattr(torch, name), getattr(math, name)
        return lambda x: on_tensor(x) if isinstance(x, torch.Tensor) else on_number(x)

    def extreme(on_tensors: Any, on_numbers: Any, clamp: str) -> Callable[[Any, Any], Any]:
        def pairwise(x: Any, y: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                x, y = y, x
            if not isinstance(x, torch.Tensor):
                return on_numbers(x, y)
            if isinstance(y, torch.Tensor):
                return on_tensors(x, y)
            return torch.clamp(x, **{clamp: y})

        return pairwise

    functions = {name: of_numbers_too(name) for name in ("sqrt", "exp", "log")}
    functions["max"] = _fold(extreme(torch.maximum, max, "min"))
    functions["min"] = _fold(extreme(torch.minimum, min, "max"))
    return functions


_NAMESPACES = {"math": _math, "numpy": _numpy, "torch": _torch}


@functools.lru_cache(maxsize=512)
def arguments(expression: Basic) -> tuple[str, ...]:
    """The names of the free symbols of `expression`, sorted."""
    return tuple(sorted(str(symbol) for symbol in expression.free_symbols))


@functools.lru_cache(maxsize=512)
def compiled(expression: Basic, backend: Backend = "numpy") -> Callable[..., Any]:
    """`expression` as a function whose keyword arguments are the names of its free symbols.

    With "numpy" and "torch" arguments may be numbers or arrays and broadcast; the result has
    their rounding errors (`theory.balls` bounds them). Relations compile to truth values of
    numbers. Raises ValueError for an unknown backend.
    """
    if backend not in _NAMESPACES:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(_NAMESPACES)}")
    symbols = sorted(expression.free_symbols, key=str)
    function = lambdify(symbols, expression, modules=[_NAMESPACES[backend]()])
    names = arguments(expression)  # lambda is none that Python lets an argument have
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        return function
    return lambda **values: function(*(values[name] for name in names))
