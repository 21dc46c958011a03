"""Projections onto admissible steps, applied after every optimiser step.

The limits are the authors'. With orthogonal matrices every projected step satisfies its law (the
non-expansive one needs only |A| <= 1); a matrix with other singular values is judged by the law
itself. The closed form of prescribed switching keeps a factor 1 - 1e-6 in 1 + h_E/2, so that the
paper's law still holds once the steps are computed in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Max, Min, Rational, Symbol, sqrt, symbols

from theory.algebra import ratio
from theory.compile import Backend, compiled
from theory.facts import a, h, h_1, h_2, s_max, s_min, w_max

KEEP = 1 - ratio(1, 10**6)
TINY = ratio(1, 10**30)  # no 0 / 0 in a block that neither expands nor contracts

h_C, h_E = symbols("h_C h_E", real=True)


@dataclass(frozen=True)
class Projection:
    """Steps of a law as functions of raw parameters: `steps[i]` is a step of theorem `theorem`."""

    theorem: str
    raw: tuple[Symbol, ...]
    steps: tuple[Expr, ...]

    def numeric(self, backend: Backend = "numpy") -> Callable[..., tuple[Any, ...]]:
        """A function of the raw parameters, by keyword, that returns the steps in their order."""

        def project(**raw: Any) -> tuple[Any, ...]:
            return tuple(
                compiled(step, backend)(**{str(s): raw[str(s)] for s in step.free_symbols})
                for step in self.steps
            )

        return project


def clamp(value: Expr, low: Rational, high: Rational) -> Expr:
    """The nearest number in [low, high]."""
    return Min(Max(value, low), high)


# T9 with a = 1/2, S = 2, orthogonal matrices: the expansive step that makes the block's law 1.
prescribed_ratio: Any = 4 / sqrt(h_C**2 - 2 * h_C + 4)  # 2 + h_E
prescribed_expansive_step = prescribed_ratio - 2
CONTRACTIVE = clamp(h_C, ratio(3, 10), ratio(1, 1))

# T10 with a = 1/2, orthogonal matrices: a box of admissible steps.
BOX = {h_1: (ratio(11, 100), ratio(189, 100)), h_2: (ratio(-19, 10), ratio(5, 100))}

nonexpansive = Projection("T8-nonexpansive-euler", (h,), (clamp(h, ratio(0, 1), ratio(19, 10)),))
prescribed = Projection(
    "T9-switching",
    (h_C,),
    (CONTRACTIVE, KEEP * prescribed_ratio.subs(h_C, CONTRACTIVE) - 2),
)
flexible = Projection(
    "T10-flexible-switching",
    (h_1, h_2),
    tuple(clamp(step, *BOX[step]) for step in (h_1, h_2)),
)

# T8 with a measured norm: the largest step.
largest_step = Projection("T8-nonexpansive-euler", (s_max,), (KEEP * 2 / s_max**2,))

# T9 with S = 1 and measured spectra: the contractive step first, then what it pays for. Unevaluated
# extremes: SymPy would compare these arguments, for half the time that this module takes to load.
_down = Min(Max(h_C, 0), KEEP * 2 / (s_max**2 + a * s_min**2))
_up = (KEEP / (1 - _down * a * s_min**2) - 1) / Max(w_max, TINY)
measured = Projection(
    "T9-switching",
    (a, h_C, h_E, s_min, s_max, w_max),
    (_down, Min(Max(h_E, 0), Max(_up, 0, evaluate=False), evaluate=False)),
)
