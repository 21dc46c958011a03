"""Hypothesis as a search: structures drawn from a seed, the first that meets a condition shrunk.

The same seed draws the same structures in every process. Two habits of Hypothesis stand against
that and are switched off: its database of old failures, and the constants it collects from the
source files that happen to be loaded (`_FromSeed`).
"""

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import hypothesis
from hypothesis.errors import NoSuchExample, Unsatisfiable
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.strategies import SearchStrategy

S = TypeVar("S")


class NothingDrawn(ValueError):
    """A strategy from which nothing can be drawn."""


class _FromSeed(HypothesisProvider):
    """Draws that depend on the seed alone."""

    def _maybe_draw_constant(self, *_: Any, **__: Any) -> None:
        return None


AVAILABLE_PROVIDERS["seed"] = f"{__name__}.{_FromSeed.__qualname__}"


def find(
    structures: SearchStrategy[S], condition: Callable[[S], bool], seed: int, examples: int
) -> S | None:
    """The minimal structure found that meets `condition`; None where none of `examples` does.

    Raises NothingDrawn.
    """
    settings = hypothesis.settings(
        max_examples=examples,
        backend="seed",
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        verbosity=hypothesis.Verbosity.quiet,
    )
    drawn = False

    def seen(structure: S) -> bool:
        nonlocal drawn
        drawn = True
        return condition(structure)

    try:
        return hypothesis.find(structures, seen, settings=settings, random=Random(seed))
    except (NoSuchExample, Unsatisfiable):
        if drawn:
            return None
    raise NothingDrawn(repr(structures))
