"""A Lipschitz constant with where it comes from: the lines of a derivation, and their arithmetic.

Every number here is an upper bound, computed in exact fractions or ball arithmetic and rounded up
once; 0 times infinity is infinity.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from sympy import Expr, Rational

from theory import balls

Number = float | Fraction
Values = Mapping[str, Number]


@dataclass(frozen=True)
class Constant:
    """|f(x) - f(y)| <= upper |x - y| in l2, for the map f from node `start` to node `end`.

    `law` is a theorem's id or a rule of `lipschitz.RULES`, `values` are the exact numbers it was
    evaluated at, `parts` the lines it rests on, `module` the path of the module that computes the
    end. `reason` says why an infinite constant is infinite.
    """

    upper: float
    law: str
    start: str = ""
    end: str = ""
    module: str = ""
    values: Values = field(default_factory=dict)
    parts: tuple["Constant", ...] = ()
    reason: str = ""

    def lines(self) -> Iterator["Constant"]:
        """This line and all lines it rests on, each once, those first that come first."""
        seen: set[int] = set()
        pending: list[Constant] = [self]
        while pending:
            line = pending.pop()
            if id(line) not in seen:
                seen.add(id(line))
                yield line
                pending += reversed(line.parts)


def round_up(value: Fraction) -> float:
    """The least double at or above a fraction; inf beyond the largest."""
    try:
        rounded = float(value)
    except OverflowError:
        return math.inf if value > 0 else -sys.float_info.max
    return rounded if Fraction(rounded) >= value else math.nextafter(rounded, math.inf)


def round_down(value: Fraction) -> float:
    """The largest double at or below a fraction; -inf below the least."""
    return 0.0 - round_up(-value)  # no -0.0


def root_up(square: Fraction) -> float:
    """A double at or above the square root of a fraction, the root itself where that is one."""
    top, bottom = square.numerator, square.denominator
    shift = max(0, 64 - (top.bit_length() - bottom.bit_length()) // 2)
    scaled, rest = divmod(top << (2 * shift), bottom)
    root = math.isqrt(scaled)
    exact = rest == 0 and root * root == scaled
    return round_up(Fraction(root if exact else root + 1, 1 << shift))


def product(factors: Iterable[Number]) -> float:
    """A product of nonnegative numbers."""
    return weighted_sum([(1, list(factors))])


def weighted_sum(terms: Iterable[tuple[Number, list[Number]]]) -> float:
    """The sum of |c| times the product of its factors, for terms (c, factors)."""
    total = Fraction(0)
    for c, factors in terms:
        if not all(map(_finite, (c, *factors))):
            return math.inf
        total += abs(math.prod((Fraction(x) for x in factors), start=Fraction(c)))
    return round_up(total)


def root_sum_square(numbers: Iterable[Number]) -> float:
    """The square root of the sum of squares."""
    numbers = list(numbers)
    if not all(map(_finite, numbers)):
        return math.inf
    return root_up(sum((Fraction(x) ** 2 for x in numbers), Fraction(0)))


def evaluate(law: Expr, values: Values) -> float:
    """An upper bound on a law of `theory` at exact numbers."""
    if not all(map(_finite, values.values())):
        return math.inf
    return balls.upper(law, {key: _plain(value) for key, value in values.items()})


def _finite(value: Number) -> bool:
    """A fraction is, also beyond the largest double, where math.isfinite raises OverflowError."""
    return isinstance(value, Fraction) or math.isfinite(value)


def _plain(value: Number) -> balls.Number:
    if isinstance(value, Fraction):
        return cast(Rational, Rational(value.numerator, value.denominator))
    return value
