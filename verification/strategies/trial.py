"""What a strategy delivers: fields with their facts, and what was measured on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from verification.strategies.rounding import Array, Tracked, advance, affine, piecewise

Facts = Mapping[str, Array | float]


@dataclass(frozen=True)
class Trial:
    """`facts` gives each symbol of law and hypotheses a value per field, shape (fields,) or one
    number for all; `measured` (fields, points) bounds what the law speaks of from the side that
    can refute it: ratios from below, distances from above."""

    facts: Facts
    measured: Array

    def of(self, index: int) -> dict[str, float]:
        """The facts of one field."""
        return {
            name: float(np.broadcast_to(value, len(self.measured))[index])
            for name, value in self.facts.items()
        }


@dataclass(frozen=True)
class Strategy:
    """`sample(rng, fields, points)` draws within the hypotheses; `sharp()` has instances that
    attain the law, each field on its own; `without[name]()` breaks the law by violating the
    hypothesis of that name and no other."""

    sample: Callable[[np.random.Generator, int, int], Trial]
    sharp: Callable[[], Trial] | None = None
    without: Mapping[str, Callable[[], Trial]] = field(default_factory=dict)


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
