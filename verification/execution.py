"""From a theorem about real numbers to what is executed: a Lipschitz constant with a remainder.

In the arithmetic `float32-execution`, a constant L is proved with a delta and a radius R:

    |f32(x) - f32(y)| <= L |x - y| + delta    for all float32 x, y with |x|, |y| <= R,

delta = 2 e for the rounding |f32(x) - f(x)| <= e of `float32`, by the triangle inequality. The
constant of f32 itself is no finite number of use: two neighbouring inputs may round apart. What
is an equality in real arithmetic has no such form here, as a defect is relative to |x|, and stays
unknown.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from dsnn.errors import UserError
from dsnn.operators.rounding import sqrt_up, up
from verification.bound import Ledger
from verification.capture import Uncapturable
from verification.claims import Claim
from verification.float32 import LEAST, UNIT, rounding
from verification.targets import Target
from verification.wording import at_least, at_most

if TYPE_CHECKING:
    from verification.verdicts import Verdict

NAME = "float32-execution"


@dataclass(frozen=True)
class Remainder:
    """delta and R of the module docstring."""

    delta: float
    radius: float

    def __str__(self) -> str:
        return (
            f"executed in float32: up to delta <= {at_most(self.delta)} "
            f"for inputs of norm <= {at_least(self.radius, 6)}"
        )


@dataclass(frozen=True)
class Unbounded:
    """Nothing is proved of the execution, for the reason given in one line."""

    reason: str


def carried_over(
    verdict: "Verdict", claim: Claim, subject: Target, ledger: Ledger, radius: float | None
) -> "Verdict":
    """What a verdict that is proved in real arithmetic says of the execution: proved with the
    remainder in its evidence, or unknown. Raises UserError as `judge`."""
    found = judge(subject, ledger, claim, verdict.module, radius)
    if isinstance(found, Unbounded):
        gap = {"kind": "gap", "text": found.reason, "real": dict(verdict.evidence)}
        return replace(verdict, outcome="unknown", upper=math.inf, evidence=gap, arithmetic=NAME)
    evidence = dict(verdict.evidence) | {"delta": found.delta, "radius": found.radius}
    evidence["text"] = f"{verdict.evidence['text']}; {found}"
    return replace(verdict, evidence=evidence, arithmetic=NAME)


def judge(
    subject: Target, ledger: Ledger, claim: Claim, name: str, radius: float | None
) -> Remainder | Unbounded:
    """The remainder of a Lipschitz constant that is proved of the part `name` in real arithmetic.

    `radius` bounds the l2 norm of an example, of pixels for a claim about pixels. None is that of
    all images with pixels in [0, 1] where the normalisation before them is known and the part is
    the whole network, else 1. Raises UserError on a radius that is not positive and finite.
    """
    if radius is not None and not 0 < radius < math.inf:
        raise UserError(f"--radius {radius}: give a positive number")
    if claim.limit is None:
        return Unbounded(f"no bound on the defect of {claim.name} when executed in float32")
    if subject.architecture is not None:
        return Unbounded("no bound on the rounding of all networks of an architecture at once")
    parts = subject.parts
    root = parts.modules.get("")  # it may have buffers that no file holds
    held = [*parts.state.values(), *(() if root is None else root.buffers())]
    wrong = {t.dtype for t in held if t.is_floating_point()} - {torch.float32}
    if wrong:
        return Unbounded(f"it is executed in {', '.join(sorted(map(str, wrong)))}, not in float32")
    graph, executed = parts.graph(name), parts.executed(name)
    for found in (graph, executed):
        if isinstance(found, Uncapturable):
            return Unbounded(found.reason)
    assert not isinstance(graph, Uncapturable)
    assert not isinstance(executed, Uncapturable)
    shape = graph.input.shape
    size, error, radius = _start(subject, claim, name, radius, shape)
    found = rounding(executed, graph, ledger.spectra, size, error)
    if not math.isfinite(found.error):
        return Unbounded(found.reason)
    return Remainder(up(2 * found.error), radius)


def _start(
    subject: Target, claim: Claim, name: str, radius: float | None, shape: tuple[int, ...]
) -> tuple[float, float, float]:
    """Norm and error of what the graph is given, and R. (pixel - mean) / std takes three roundings
    after that of the statistics, which are off by one each: five and one more for a reciprocal."""
    if name or subject.statistics is None or (radius is not None and not claim.pixel):
        return radius or 1.0, 0.0, radius or 1.0
    mean, std = subject.statistics
    channels, pixels = list(zip(mean, std, strict=True)), math.prod(shape[1:])
    if not claim.pixel:
        tops = [max(abs(m), abs(1 - m)) / s for m, s in channels]
        size = up(sqrt_up(pixels * math.fsum(top * top for top in tops)))
        return size, 0.0, size
    # Of all pixels of this norm, of which those in [0, 1] are but a part.
    largest = up(sqrt_up(math.prod(shape))) if radius is None else radius
    offset = up(sqrt_up(pixels * math.fsum((m / s) ** 2 for m, s in channels)))
    size = up(largest / min(std) + offset)
    flushed = 8 * LEAST * sqrt_up(math.prod(shape)) / min(std)
    return size, up(8 * UNIT * size + flushed), largest
