"""The few symbolic decisions that proofs are made of. Each returns what SymPy computed."""

from collections.abc import Iterable
from typing import Any, cast

from sympy import Eq, Expr, Matrix, Poly, Rational, Symbol, expand, simplify, symbols, together
from sympy.core.symbol import uniquely_named_symbol
from sympy.logic.boolalg import Boolean


def identical(left: Any, right: Any) -> bool:
    """left = right as functions, decided by reducing the difference to 0."""
    difference = left - right
    return difference == 0 or expand(difference) == 0 or simplify(difference) == 0


def positive_terms(expression: Any, *variables: Symbol) -> bool:
    """expression >= 0 for all variables >= 0, seen from its coefficients: each is known to be >= 0.

    `expression` is a rational function without minus signs below the line, for instance.
    """
    numerator, denominator = cast(Expr, together(expression)).as_numer_denom()
    return all(
        coefficient.is_nonnegative is True
        for part in (numerator, denominator)
        for coefficient in Poly(part, *variables).coeffs()
    )


def ratio(numerator: int, denominator: int) -> Rational:
    """The exact fraction (SymPy's own type says that it may be infinite)."""
    return cast(Rational, Rational(numerator, denominator))


def named(parts: Iterable[Any], prefix: str, taken: Iterable[Symbol]) -> dict[Any, Symbol]:
    """A real symbol for each part, with a name that none of `taken` has."""
    others = tuple(taken)
    return {
        part: uniquely_named_symbol(f"{prefix}_{k}", others, modify="_{}".format, real=True)
        for k, part in enumerate(parts)
    }


def equal(left: Any, right: Any) -> Boolean:
    """The equation left = right as a condition (SymPy's own type says that it may be a number)."""
    return cast(Boolean, Eq(left, right))


def matrix(name: str, rows: int, columns: int) -> Any:
    """A matrix of independent real symbols."""
    return Matrix(rows, columns, lambda i, j: symbols(f"{name}_{i}{j}", real=True))


def diagonal(name: str, size: int) -> Any:
    """A diagonal matrix of independent real symbols."""
    return Matrix.diag([symbols(f"{name}_{i}", real=True) for i in range(size)])
