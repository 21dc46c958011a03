"""What is attacked: perturbation sizes, l2 for pixels in [0, 1], written as a number or a fraction,
and how many images."""

import math
import re

from dsnn.errors import UserError

PAPER = (0.0, 8 / 255, 16 / 255, 36 / 255, 0.3, 0.5, 0.6, 0.8, 1.0)
"""The nine epsilons of the paper's robustness curves."""
PAPER_LIMIT = 1024
"""Images the paper attacks: the first of the test set, in published order."""

AUTOATTACK = 36 / 255
"""Where AutoAttack is run unless told otherwise, and certified accuracies are compared."""
CERTIFIED = (36 / 255, 72 / 255, 108 / 255, 1.0)
"""Where every result counts the certified images."""
_NUMBER = re.compile(r"[0-9.eE+/-]{1,60}")
"""As claims have it: no underscores, no words."""


def parse(text: str) -> float:
    """`36/255` or `0.3` as the nearest double. Raises UserError unless finite and >= 0."""
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator if slash else "1")
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not _NUMBER.fullmatch(text.strip()) or not 0 <= value < math.inf:
        raise UserError(f"--eps {text}: expected a number or fraction >= 0, such as 36/255")
    return abs(value)  # -0 is 0


def parse_all(texts: list[str]) -> tuple[float, ...]:
    """Distinct epsilons in increasing order. Raises UserError as `parse`."""
    return tuple(sorted({parse(text) for text in texts}))
