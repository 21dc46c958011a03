"""Learning-rate schedules: factors on the optimiser's own rates as functions of progress.

Progress is the share of the run's steps that are done, an exact fraction in [0, 1): a schedule
says the same at every length of run, and a drop falls on the very step it is meant for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from dsnn.errors import UserError

Schedule = Callable[[Fraction], float]


@dataclass(frozen=True)
class Steps:
    """`factor` to the power of how many times `every` (a share of the run) has gone by:
    torch's StepLR(30, 0.1) in a run of 100 epochs is Steps(Fraction(30, 100), 0.1)."""

    every: Fraction
    factor: float

    def __post_init__(self) -> None:
        if not (self.every > 0 and 0 < self.factor <= 1):
            raise UserError(
                f"steps of {self.every} by {self.factor:g}: every > 0 and a factor in (0, 1]"
            )

    def __call__(self, progress: Fraction) -> float:
        return self.factor ** (progress // self.every)


@dataclass(frozen=True)
class WarmupLinear:
    """Linear from 0 to 1 over the share `warmup` of the run, then linear down to 0."""

    warmup: Fraction

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UserError(f"a warm-up of {self.warmup} is not a share in [0, 1)")

    def __call__(self, progress: Fraction) -> float:
        if progress < self.warmup:
            return float(progress / self.warmup)
        return float((1 - progress) / (1 - self.warmup))
