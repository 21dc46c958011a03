"""Activations of which only the slopes are known, as SymPy functions.

`activation("sigma", a, 1)` stands for every function whose difference quotients lie in [a, 1]. Its
derivative is a `Slope` there, of which no more is known. Both are ordinary SymPy expressions.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sympy import Float, Function, Rational, Symbol, sympify
from sympy.core.symbol import Str

from theory.algebra import named


class Slope(Function):
    """A difference quotient of the activation (name, low, high) at u: a number in [low, high]."""

    nargs = 4

    def _eval_is_extended_real(self) -> bool:
        return True

    def _sympystr(self, printer: Any) -> str:
        return f"{self.args[0]}'({printer.doprint(self.args[3])})"


class Activation(Function):
    """The activation (name, low, high) at u."""

    nargs = 4

    def _eval_derivative(self, s: Any) -> Any:
        u: Any = self.args[3]
        return u.diff(s) * Slope(*self.args)

    def _eval_is_extended_real(self) -> bool:
        return True

    def _sympystr(self, printer: Any) -> str:
        return f"{self.args[0]}({printer.doprint(self.args[3])})"


def activation(name: str, low: Any, high: Any) -> Callable[[Any], Any]:
    """u -> sigma(u) for a function with all difference quotients in [low, high], rational numbers
    in that order.

    Raises ValueError where they are not.
    """
    given = [sympify(end) for end in (low, high)]
    ends = [Rational(end) if isinstance(end, Float) else end for end in given]  # oo stays oo
    if not all(end.is_Rational for end in ends) or ends[0] > ends[1]:
        raise ValueError(
            f"the slopes of {name} in [{low}, {high}]: give two rational numbers, low first"
        )
    return lambda u: Activation(Str(name), *ends, sympify(u))


def slopes_as_symbols(expression: Any, taken: Iterable[Symbol]) -> tuple[Any, dict[Any, Symbol]]:
    """The expression (or matrix) with a symbol for every slope, named unlike those of `taken`, and
    these symbols: the same slope at the same place is the same symbol."""
    symbols = named(sorted(expression.atoms(Slope), key=str), "slope", taken)
    return expression.xreplace(symbols), symbols


def compatible(slopes: Mapping[Any, Symbol], point: Mapping[Symbol, Any]) -> bool:
    """Whether one function can have the slopes that `point` gives them: where two slopes of one
    activation differ, so must their places, certainly. States beyond `point` are free."""
    for (one, a), (two, b) in itertools.combinations(slopes.items(), 2):
        if one.args[0] != two.args[0] or point.get(a) == point.get(b):
            continue
        apart = (one.args[3] - two.args[3]).xreplace(dict(point)).expand()
        if not apart.is_polynomial() or apart == 0:  # nested activations have no known value
            return False
    return True


def straight(expression: Any, share: Any) -> Any:
    """Every activation replaced by the linear one with slope low + share (high - low)."""

    def slope(low: Any, high: Any) -> Any:
        return low + share * (high - low)

    return expression.replace(Activation, lambda _, a, b, u: slope(a, b) * u).replace(
        Slope, lambda _, a, b, u: slope(a, b)
    )
