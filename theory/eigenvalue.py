"""The largest eigenvalue of a symmetric matrix of expressions over a box, enclosed.

A symbol in which every entry has degree at most 1 makes the largest eigenvalue a convex function of
it, so the maximum is at an end of its range. Where that is so of all symbols the corners decide, in
exact fractions, and the bound is the maximum wherever that is a simple fraction. Else the box is
cut into pieces until each is proved by ball arithmetic: t I - M is positive definite where all
pivots of its elimination are positive balls.

A norm is such an eigenvalue too: |J| is the largest of [[0, J], [J', 0]].
"""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from sympy import Integer, Matrix, Poly, Rational, Symbol, cos, oo, sin, tanh, zeros

from theory import balls
from theory.algebra import named

Box = Mapping[Symbol, tuple[Any, Any]]
one = Integer(1)
CORNERS = 4096
PIECES = 4000
LOOSENESS = (1.0, 1e-1, 1e-2, 1e-3)  # of a bound above the largest value seen, relative
ROOM = 2.0**-30  # of an exact bound that is not a simple fraction, relative


@dataclass(frozen=True)
class Largest:
    """The maximum over the box lies in [lower, upper]; `lower` is attained at `point` (or passed
    there). `boxes` counts corners or pieces; `reason` says why `upper` is infinite."""

    lower: Any
    upper: Any
    point: Mapping[Symbol, Any]
    boxes: int
    reason: str = ""


def symmetric_part(J: Any) -> Any:
    """(J + J') / 2: its largest eigenvalue is the one-sided Lipschitz constant."""
    return (J + J.T) / 2


def doubled(J: Any) -> Any:
    """[[0, J], [J', 0]]: its largest eigenvalue is the norm of J."""
    m, n = J.shape
    return Matrix([[zeros(m, m), J], [J.T, zeros(n, n)]])


def largest(M: Any, box: Box, seconds: float = math.inf) -> Largest:
    """The enclosure for the symmetric matrix `M`, whose symbols all have a range in `box`; it gets
    no tighter after `seconds`.

    Raises ValueError for a function without ball enclosure, ImportError without python-flint.
    """
    deadline = time.monotonic() + seconds
    relaxed, wider = _relaxed(M, box)
    found = _largest(relaxed, wider, deadline)
    if relaxed is M or not found.upper.is_finite:
        return found
    # The bound is for independent values of sin and cos: what is attained is sought anew.
    lower, point = _seen(M, sorted(M.free_symbols, key=str), box)
    return replace(found, lower=lower, point=point)


def _largest(M: Any, box: Box, deadline: float) -> Largest:
    symbols = sorted(M.free_symbols, key=str)
    ranges = [box[s] for s in symbols]
    for symbol, ends in zip(symbols, ranges, strict=True):
        if not all(end.is_finite for end in ends):
            return Largest(-oo, oo, {}, 0, f"{symbol} is unbounded: give it a range")
    corners = 2 ** sum(low != high for low, high in ranges)
    exact = _polynomials(M, symbols) if corners <= CORNERS else None
    if exact is not None:
        return _at_corners(exact, symbols, ranges)
    return _by_pieces(M, symbols, ranges, deadline)


def _relaxed(M: Any, box: Box) -> tuple[Any, Box]:
    """With a symbol in [-1, 1] for every sin, cos and tanh of something unbounded; `M` itself
    where there is none."""
    unbounded = {s for s in M.free_symbols if not all(end.is_finite for end in box[s])}
    parts = [f for f in M.atoms(sin, cos, tanh) if f.free_symbols & unbounded]
    if not parts:
        return M, box
    stand_in = named(sorted(parts, key=str), "value", box)
    return M.xreplace(stand_in), {**box, **dict.fromkeys(stand_in.values(), (-one, one))}


def _seen(M: Any, symbols: list[Symbol], box: Box) -> tuple[Any, Mapping[Symbol, Any]]:
    """The largest of a few values, from below, and where it is."""
    samples = _samples([box[s] for s in symbols])
    best, vector, _ = _best(M, symbols, samples)
    names = [symbol.name for symbol in symbols]
    return _attained(M, names, best, vector), dict(zip(symbols, best, strict=True))


# Corners. ------------------------------------------------------------------------------------

Entry = list[tuple[tuple[int, ...], Fraction]]


def _fraction(value: Any) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _polynomials(M: Any, symbols: list[Symbol]) -> list[list[Entry]] | None:
    """The entries as exponents and coefficients; None unless all are of degree at most 1 in each
    symbol, with rational coefficients."""
    found = []
    for row in M.tolist():
        line = []
        for entry in row:
            if not entry.is_polynomial(*symbols):
                return None
            terms = Poly(entry, *symbols).terms() if symbols else [((), entry)]
            if not all(c.is_Rational and max(powers, default=0) <= 1 for powers, c in terms):
                return None
            line.append([(powers, _fraction(c)) for powers, c in terms])
        found.append(line)
    return found


def _at_corners(
    entries: list[list[Entry]], symbols: list[Symbol], ranges: list[tuple[Any, Any]]
) -> Largest:
    ends = [dict.fromkeys(map(_fraction, pair)) for pair in ranges]
    corners = list(itertools.product(*ends))
    matrices = [[[_value(e, corner) for e in row] for row in entries] for corner in corners]
    values, vectors = np.linalg.eigh(np.array(matrices, dtype=float))
    where = int(values[:, -1].argmax())
    seen = float(values[where, -1])
    scale = max(1.0, float(np.abs(values).max()))
    upper, room = Fraction(seen).limit_denominator(1000), ROOM
    if abs(upper - Fraction(seen)) > 2.0**-40 * scale:
        upper = Fraction(seen) + Fraction(room * scale)
    while not all(_semidefinite(_shifted(matrix, upper)) for matrix in matrices):
        room *= 4
        upper = Fraction(seen) + Fraction(room * scale)
    lower = max(_rayleigh(matrices[where], v) for v in _simple(vectors[where][:, -1]))
    point = {s: _rational(v) for s, v in zip(symbols, corners[where], strict=True)}
    return Largest(_rational(lower), _rational(upper), point, len(corners))


def _rational(value: Fraction) -> Any:
    return Rational(value.numerator, value.denominator)


def _value(entry: Entry, corner: Sequence[Fraction]) -> Fraction:
    total = Fraction(0)
    for powers, coefficient in entry:
        for x, power in zip(corner, powers, strict=True):
            coefficient = coefficient * x if power else coefficient
        total += coefficient
    return total


def _shifted(matrix: list[list[Fraction]], t: Fraction) -> list[list[Fraction]]:
    """t I - M."""
    return [[(t if i == j else 0) - x for j, x in enumerate(row)] for i, row in enumerate(matrix)]


def _semidefinite(matrix: list[list[Fraction]]) -> bool:
    """Whether a symmetric matrix is positive semidefinite: no pivot is negative, and beside a
    pivot 0 the row is 0."""
    rest = [row[:] for row in matrix]
    for k in range(len(rest)):
        pivot = rest[k][k]
        if pivot < 0 or (pivot == 0 and any(rest[k][k + 1 :])):
            return False
        if pivot == 0:
            continue
        for i in range(k + 1, len(rest)):
            factor = rest[i][k] / pivot
            if factor:
                for j in range(k + 1, len(rest)):
                    rest[i][j] -= factor * rest[k][j]
    return True


def _simple(vector: Any) -> list[list[Fraction]]:
    """Rational vectors near a float one: with short fractions, and with long ones."""
    scaled = vector / np.abs(vector).max()
    return [[Fraction(float(x)).limit_denominator(d) for x in scaled] for d in (12, 10**6)]


def _rayleigh(matrix: list[list[Fraction]], v: list[Fraction]) -> Fraction:
    """v'Mv / v'v, exactly: no more than the largest eigenvalue."""
    form = sum(
        (v[i] * x * v[j] for i, row in enumerate(matrix) for j, x in enumerate(row)), Fraction(0)
    )
    return form / sum((x * x for x in v), Fraction(0))


# Pieces. -------------------------------------------------------------------------------------

Piece = tuple[tuple[Any, Any], ...]


def _by_pieces(
    M: Any, symbols: list[Symbol], ranges: list[tuple[Any, Any]], deadline: float
) -> Largest:
    names = [symbol.name for symbol in symbols]

    def enclosed(piece: Piece) -> list[list[Any]]:
        values = dict(zip(names, piece, strict=True))
        return [[balls.enclose(entry, values) for entry in row] for row in M.tolist()]

    def proof(target: float) -> tuple[int, tuple[float, Any] | None]:
        """The number of pieces that prove the target, or 0 with a higher value where one is met."""
        pending: list[Piece] = [tuple(ranges)]
        for count in range(1, PIECES + 1):
            piece = pending.pop()
            if not _definite(enclosed(piece), target):
                middle = [_middle(*ends) for ends in piece]
                value = _top(M, names, middle)[0]
                widest = _widest(piece, ranges)
                if value > target:
                    return 0, (value, middle)
                if widest is None or time.monotonic() > deadline:
                    return 0, None
                ends, cut = piece[widest], middle[widest]
                for half in ((ends[0], cut), (cut, ends[1])):
                    pending.append((*piece[:widest], half, *piece[widest + 1 :]))
            if not pending:
                return count, None
        return 0, None

    best, _, seen = _best(M, symbols, _samples(ranges))
    upper, boxes = oo, 0
    for looseness in LOOSENESS:
        higher: tuple[float, Any] | None = (seen, best)
        found, target = 0, 0.0
        while higher is not None:
            seen, best = higher
            target = seen + looseness * max(1.0, abs(seen))
            found, higher = proof(target) if math.isfinite(target) else (0, None)
        if found == 0:
            break
        upper, boxes = Rational(target), found
    lower = _attained(M, names, best, _top(M, names, best)[1])
    reason = "" if boxes else f"not bounded by {PIECES} pieces of the box: give smaller ranges"
    return Largest(lower, upper, dict(zip(symbols, best, strict=True)), boxes, reason)


def _top(M: Any, names: list[str], at: Sequence[Any]) -> tuple[float, Any]:
    """The largest eigenvalue at a point and its vector, as computed in float64."""
    values = dict(zip(names, at, strict=True))
    matrix = [[float(balls.enclose(entry, values).mid()) for entry in row] for row in M.tolist()]
    found, vectors = np.linalg.eigh(matrix)
    return float(found[-1]), vectors[:, -1]


def _best(M: Any, symbols: list[Symbol], samples: list[tuple[Any, ...]]) -> tuple[Any, Any, float]:
    """The sample with the largest eigenvalue, its vector and its value, as computed."""
    names = [symbol.name for symbol in symbols]
    tops = [(*_top(M, names, at), at) for at in samples]
    value, vector, at = max(tops, key=lambda top: top[0])
    return at, vector, value


def _definite(matrix: list[list[Any]], t: float) -> bool:
    """Whether t I - M is certainly positive definite, for a symmetric matrix of balls."""
    rest = [[(t if i == j else 0) - x for j, x in enumerate(row)] for i, row in enumerate(matrix)]
    for k in range(len(rest)):
        pivot = rest[k][k]
        if not pivot > 0:
            return False
        for i in range(k + 1, len(rest)):
            factor = rest[i][k] / pivot
            for j in range(k + 1, i + 1):
                rest[i][j] -= factor * rest[j][k]
    return True


def _attained(M: Any, names: list[str], at: Sequence[Any], vector: Any) -> Any:
    """A lower bound of v'Mv / v'v at the point, v near the eigenvector."""
    v = [_rational(x) for x in _simple(vector)[1]]
    column = Matrix(v)
    form = (column.T * M * column)[0] / sum(x * x for x in v)
    low = balls.lower(form, dict(zip(names, at, strict=True)))
    return Rational(low) if math.isfinite(low) else -oo


def _samples(ranges: list[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    """The middle of the box, some of its corners and edges; along unbounded sides near where sin
    and cos are extreme."""
    options = []
    for low, high in ranges:
        if low.is_finite and high.is_finite:
            options.append(tuple(dict.fromkeys((_middle(low, high), low, high))))
        else:
            places = (0, Rational(22, 7), Rational(11, 7), Rational(-11, 7))
            inside = tuple(Rational(x) for x in places if low <= x <= high)
            options.append(inside or (low if low.is_finite else high,))
    return list(itertools.islice(itertools.product(*options), 200))


def _middle(low: Any, high: Any) -> Any:
    """Exactly: what is found there is said of the box."""
    return (low + high) / 2


def _widest(piece: Piece, ranges: list[tuple[Any, Any]]) -> int | None:
    """The side that was cut least, None where no side can be cut."""
    widths = [
        (high - low) / (end - start) if end > start else 0
        for (low, high), (start, end) in zip(piece, ranges, strict=True)
    ]
    if not widths or max(widths) == 0:
        return None
    return max(range(len(widths)), key=lambda k: widths[k])
