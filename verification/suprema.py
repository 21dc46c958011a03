"""Suprema over a square in the plane, from above, by ball arithmetic on its cells."""

from itertools import pairwise
from typing import Any

import numpy as np
from sympy import Abs, Matrix, Max, horner, sqrt, symbols

from theory import balls

STATE = symbols("x y", real=True)
CELLS = 12  # a side


def supremum(expression: Any, half: float) -> float:
    """An upper bound of `expression` over |x| <= half, |y| <= half."""
    edges = np.linspace(-half, half, CELLS + 1).tolist()
    sides = list(pairwise(edges))
    names = [str(symbol) for symbol in STATE]
    return max(
        balls.upper(expression, dict(zip(names, cell, strict=True)))
        for cell in ((first, second) for first in sides for second in sides)
    )


def size(vector: Any, half: float) -> float:
    """An upper bound of the length of a vector of polynomials."""
    tops = [
        supremum(Abs(horner(entry, wrt=STATE)), half) if entry else 0.0 for entry in vector.expand()
    ]
    parts = symbols(f"v:{len(tops)}")
    return balls.upper(
        sqrt(sum(part**2 for part in parts)),
        {str(part): top for part, top in zip(parts, tops, strict=True)},
    )


def one_sided(field: Any, half: float) -> float:
    """An upper bound of the one-sided Lipschitz constant: rows of the symmetric part of DX."""
    DX = field.jacobian(Matrix(STATE))
    S = ((DX + DX.T) / 2).expand()
    n = len(STATE)
    rows = [S[i, i] + sum(Abs(S[i, j]) for j in range(n) if j != i) for i in range(n)]
    return supremum(Max(*rows), half)
