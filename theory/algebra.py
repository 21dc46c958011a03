"""The few symbolic decisions that proofs are made of. Each returns what SymPy computed."""

from sympy import Expr, Matrix, Poly, Symbol, expand, simplify, symbols, together


def identical(left: Expr, right: Expr) -> bool:
    """left = right as functions, decided by reducing the difference to 0."""
    difference = left - right
    return difference == 0 or expand(difference) == 0 or simplify(difference) == 0


def positive_terms(expression: Expr, *variables: Symbol) -> bool:
    """expression >= 0 for all variables >= 0, seen from its coefficients: none is negative.

    `expression` is a rational function without minus signs below the line, for instance.
    """
    numerator, denominator = together(expression).as_numer_denom()
    return all(
        coefficient >= 0
        for part in (numerator, denominator)
        for coefficient in Poly(part, *variables).coeffs()
    )


def matrix(name: str, rows: int, columns: int) -> Matrix:
    """A matrix of independent real symbols."""
    return Matrix(rows, columns, lambda i, j: symbols(f"{name}_{i}{j}", real=True))


def diagonal(name: str, size: int) -> Matrix:
    """A diagonal matrix of independent real symbols."""
    return Matrix.diag([symbols(f"{name}_{i}", real=True) for i in range(size)])
