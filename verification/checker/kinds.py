"""Kinds of numbers: arrays of float64, or of objects of python-flint.

The objects are fractions (`flint.fmpq`), balls (`flint.arb`), or balls with a derivative
(`flint.arb_series` of length 2).
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from verification.checker.reading import Node, Unreadable, agree


def _imported() -> Any:
    """python-flint, which all but smooth functions, and equalities, can do without."""
    try:
        import flint
    except ImportError:
        return None
    return flint


flint = _imported()
Array = np.ndarray
Numbers = Mapping[str, Any]
"""A node's constants and exact attributes, as numbers of one kind."""
Kind = Callable[[Array, Fraction], Array]
"""float64 values, factor -> numbers of one kind."""


LARGEST_EXACT = 2**22
"""Entries of one array of objects, which take a hundred bytes each."""


def affordable(values: Array) -> None:
    """Wrong where an array is too large to be one of objects."""
    agree(values.size <= LARGEST_EXACT, f"{values.size} numbers are too many to follow exactly")


def plain(values: Array, factor: Fraction = Fraction(1)) -> Array:
    """In float64: each within 2 roundings. Raises Wrong where one may underflow or overflow."""
    agree(factor == 0 or 2.0**-900 <= abs(factor) <= 2.0**900, "a factor underflows or overflows")
    found = values * float(factor)
    lost = (np.abs(found) < 2.0**-1000) & (values != 0)
    agree(abs(factor) in (0, 1) or not lost.any(), "a number underflows")
    return found


def fractions(values: Array, factor: Fraction = Fraction(1)) -> Array:
    """Exactly."""
    affordable(values)
    exact = library().fmpq(factor.numerator, factor.denominator)
    return objects([exact * flint.fmpq(*v.as_integer_ratio()) for v in values.flat], values.shape)


def balls(values: Array, factor: Fraction = Fraction(1)) -> Array:
    """In balls of the precision that is set."""
    affordable(values)
    exact = library().arb(flint.fmpq(factor.numerator, factor.denominator))
    return objects([exact * float(v) for v in values.flat], values.shape)


def without_integers(x: Array) -> Array:
    """Of objects, the zeros that NumPy puts between them as balls."""
    return np.frompyfunc(_no_integer, 1, 1)(x) if x.dtype == object else x


def _no_integer(v: Any) -> Any:
    return flint.arb(v) if isinstance(v, int) else v


def library() -> Any:
    """python-flint. Raises Unreadable where it is missing."""
    if flint is None:
        raise Unreadable("this is checked with python-flint: install it")
    return flint


def objects(found: list[Any], shape: Any) -> Array:
    """An array of objects, which may be sequences."""
    return np.fromiter(found, object, len(found)).reshape(shape)


def numbers(node: Node, kind: Kind) -> dict[str, Any]:
    """All numbers of a node; `index` stays integers."""
    found: dict[str, Any] = {
        use: w.values if use == "index" else kind(w.values.astype(np.float64), w.factor)
        for use, w in node.constants.items()
    }

    def exact(text: str) -> Any:
        return kind(np.ones(1), Fraction(text))[0]

    at = node.attributes
    found["coefficients"] = [exact(c) for c in at.get("coefficients", ())]
    found["parameters"] = {
        k: None if v is None else exact(v) for k, v in at.get("parameters", {}).items()
    }
    if "weights" in at:
        found["weights"] = [[exact(w) for w in along] for along in at["weights"]]
    if "epsilon" in at:
        found["epsilon"] = exact(at["epsilon"])
    return found


def without_bias(given: Numbers) -> Numbers:
    return {use: v for use, v in given.items() if use != "bias"}


def each(method: str, x: Array) -> Array:
    """A function entry by entry: NumPy's of float64, the number's own method else."""
    if x.dtype != object:
        return getattr(np, method)(x)
    return np.frompyfunc(lambda v: getattr(v, method)(), 1, 1)(x)


def _first(v: Any) -> Any:
    return v[0] if isinstance(v, flint.arb_series) else v


def larger_one(a: Any, b: Any) -> Any:
    """The larger of two numbers. Of two balls the hull; of balls with a derivative, Wrong where
    it is not known which one it is."""
    if isinstance(a, flint.arb_series) or isinstance(b, flint.arb_series):
        one, other = flint.arb(_first(a)), flint.arb(_first(b))
        agree(one > other or one < other, "the point lies at a kink")
        return a if one > other else b
    return flint.arb(a).max(flint.arb(b))


def larger(a: Array, b: Array) -> Array:
    """Entry by entry."""
    if a.dtype != object and b.dtype != object:
        return np.maximum(a, b)
    return np.frompyfunc(larger_one, 2, 1)(a, b)


def smaller(a: Array, b: Array) -> Array:
    return -larger(-a, -b)


def ordered(x: Array, axis: int) -> Array:
    """Along an axis, from the smallest to the largest."""
    if x.dtype != object:
        return np.sort(x, axis)
    found = np.moveaxis(x, axis, -1).copy()
    for place in np.ndindex(*found.shape[:-1]):
        found[place] = objects(_ordered(list(found[place])), -1)
    return np.moveaxis(found, -1, axis)


def _ordered(row: list[Any]) -> list[Any]:
    """Of balls the hulls of what may have each rank; of balls with a derivative, Wrong where the
    order is not known."""
    if not all(flint.arb(_first(v)).is_finite() for v in row):
        return [flint.arb("nan")] * len(row)
    if any(isinstance(v, flint.arb_series) for v in row):
        row = sorted(row, key=lambda v: float(flint.arb(_first(v)).mid()))
        firsts = [flint.arb(_first(v)) for v in row]
        agree(all(a < b for a, b in pairwise(firsts)), "the point lies at a kink")
        return row
    lows = sorted(flint.arb(v).lower() for v in row)
    highs = sorted(flint.arb(v).upper() for v in row)
    return [low.union(high) for low, high in zip(lows, highs, strict=True)]


def times(a: Array, b: Array) -> Array:
    """a @ b, over leading dimensions."""
    if a.dtype != object and b.dtype != object:
        return a @ b
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a, leading + a.shape[-2:])
    right = np.broadcast_to(b, leading + b.shape[-2:])
    found = np.zeros((*leading, a.shape[-2], b.shape[-1]), object)
    for place in np.ndindex(*leading):
        if found[place].size and a.shape[-1]:
            found[place] = _times(left[place], right[place])
    return found


def _times(a: Array, b: Array) -> Array:
    """By python-flint's matrices, which are faster, where there are no derivatives."""
    kinds = {type(v) for part in (a, b) for v in part.flat}
    if flint.arb_series in kinds:
        return a @ b
    matrix = flint.arb_mat if flint.arb in kinds else flint.fmpq_mat
    left, right = (matrix(len(part), part.shape[1], list(part.flat)) for part in (a, b))
    return objects((left * right).entries(), (a.shape[0], b.shape[1]))


def flint_context(bits: int) -> Any:
    """A context in which balls have that precision."""
    return library().ctx.workprec(bits)
