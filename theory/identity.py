"""What an identity says: a defect, computed from symbols, is the theorem's own constant 0."""

from typing import Any, cast

from sympy import MatrixBase, fraction, together

from theory.algebra import identical
from theory.theorem import Theorem


def is_law(theorem: Theorem, defect: Any) -> bool:
    """Whether the expression `defect`, or every entry of it, is the constant of `theorem`."""
    entries = list(cast(Any, defect)) if isinstance(defect, MatrixBase) else [defect]
    return all(identical(entry, theorem.law) for entry in entries)


def reduced(defect: Any) -> Any:
    """A rational function over its common denominator, the numerator expanded: 0 where it is."""
    numerator, denominator = fraction(together(defect))
    return numerator.expand() / denominator
