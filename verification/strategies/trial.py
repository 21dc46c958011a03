"""What a strategy delivers: fields with their facts, and what was measured on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Generic, TypeVar

import numpy as np
from hypothesis.strategies import SearchStrategy

from dsnn.errors import UserError
from verification.strategies.rounding import Array, Tracked, advance, affine, piecewise

Facts = Mapping[str, Array | float]
S = TypeVar("S")


@dataclass(frozen=True, repr=False)
class Structure:
    """Base of the structures: its repr leaves out what is as it is by default."""

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True)
class Trial:
    """`facts` gives each symbol of law and hypotheses a value per field, shape (fields,) or one
    number for all; `measured` (fields, points) bounds what the law speaks of from the side that
    can refute it: ratios and defects from below, distances from above."""

    facts: Facts
    measured: Array

    def columns(self, names: Sequence[str]) -> list[tuple[float, ...]]:
        """The facts of these names, a tuple per field. Raises UserError for one that is missing."""
        count = len(self.measured)
        missing = [name for name in names if name not in self.facts]
        if missing:
            raise UserError(f"a strategy gives no fact {missing[0]!r}: law or hypotheses need it")
        values = [np.broadcast_to(self.facts[name], count).tolist() for name in names]
        return list(zip(*values, strict=True)) if names else [()] * count


@dataclass(frozen=True)
class Violation(Generic[S]):
    """Structures outside one hypothesis and within all others, and `draw(structure, fields,
    points)`: the batch that a structure stands for. Some of the fields must break the law.

    `edges` break the law a hair outside the hypothesis, one at least for each of its conditions:
    they are what a hypothesis that is too weak lets in.
    """

    structures: SearchStrategy[S]
    draw: Callable[[S, int, int], Trial]
    edges: tuple[S, ...] = ()


@dataclass(frozen=True)
class Strategy(Generic[S]):
    """How a theorem is attacked.

    `structures` draws small frozen dataclasses whose repr is readable, for it is printed as the
    minimal counterexample: dimension, kind of spectrum, slopes, steps, and a seed. What is simple
    comes first or is near 0, since a structure shrinks that way. `draw(structure, fields, points)`
    makes the batch within the hypotheses; it is a pure function of its arguments, so that no
    randomness is hidden from the shrinker. `sharp` lists structures of which every field attains
    the law, in its best pair. `without[name]` violates the hypothesis of that name and no other.
    """

    structures: SearchStrategy[S]
    draw: Callable[[S, int, int], Trial]
    sharp: tuple[S, ...] = ()
    without: Mapping[str, Violation[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class EulerStep:
    """x + step * outer sigma(inner x + offset), a batch of fields.

    inner (fields, m, n), outer (fields, n, m) or None for the identity, offset (fields, m);
    step and the two slopes of sigma (fields,).
    """

    step: Array
    inner: Array
    offset: Array
    negative: Array
    positive: Array
    outer: Array | None = None

    def __call__(self, x: Tracked) -> Tracked:
        field = piecewise(affine(self.inner, x, self.offset), self.negative, self.positive)
        if self.outer is not None:
            field = affine(self.outer, field)
        return advance(x, self.step, field)
