"""Claims: `[MODULE-GLOB:]PROPERTY` as text, and the modules of a network a claim is about."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from dsnn.errors import UserError
from verification.checker import verdicts as checked
from verification.wording import one_line

NAMES = (
    "contractive",
    "orthogonal",
    "gradient-field",
    "norm-preserving",
    "mass-preserving",
    "volume-preserving",
    "symplectic",
    "equivariant:shift",
)
"""Properties without a bound; `lipschitz<=L` and `lipschitz[pixel]<=L` are the others."""

_LIPSCHITZ = re.compile(r"lipschitz(?P<pixel>\[pixel\])?<=(?P<limit>.*)")
_NAMED = re.compile(
    rf"(?P<name>{'|'.join(map(re.escape, NAMES))})"
    r"(\[dim=(?P<dim>-?\d\d?)\])?(~(?P<tolerance>.*))?"
)
_NUMBER = re.compile(r"[0-9.eE+/-]{1,60}")
"""As certificates have it: no spaces, no underscores."""
_ONE = Fraction(1)


@dataclass(frozen=True)
class Claim:
    """A parsed claim. `limit` is the exact number of `lipschitz<=L`; for `contractive`, 1, not
    reached. `tolerance` is that of an equality, None for the default of the module's dtype; `dim`
    the one that holds the halves (q, p) of `symplectic`. `text` is the claim as it was written."""

    text: str
    glob: str
    name: str
    limit: Fraction | None = None
    pixel: bool = False
    tolerance: Fraction | None = None
    dim: int = -1

    def allows(self, constant: float) -> bool:
        """Whether a Lipschitz constant satisfies the claim."""
        assert self.limit is not None
        return constant < self.limit if self.name == "contractive" else constant <= self.limit


def parse(text: str) -> Claim:
    """Parse one claim: the property is the longest known one that ends it.

    Raises UserError on an unknown property, an empty glob, or a bound that is not a positive
    finite number.
    """
    starts = [0, *(match.end() for match in re.finditer(":", text))]
    for start in starts:
        found = _property(text, text[start:])
        if found is None:
            continue
        if start == 1:
            raise UserError(
                f"claim {one_line(text)!r} has an empty module glob: write GLOB:PROPERTY"
            )
        glob = text[: start - 1] if start else ""
        if found.pixel and glob:
            raise UserError(
                f"claim {one_line(text)!r}: lipschitz[pixel] is for the whole network only"
            )
        return replace(found, glob=glob)
    known = ", ".join(("lipschitz<=L", "lipschitz[pixel]<=L", *NAMES))
    raise UserError(f"claim {one_line(text)!r} ends with no known property: one of {known}")


def _property(claim: str, text: str) -> Claim | None:
    """The claim of this property about the whole network; None when `text` is no property."""
    if match := _LIPSCHITZ.fullmatch(text):
        pixel = match["pixel"] is not None
        return Claim(claim, "", "lipschitz", _positive(claim, match["limit"]), pixel)
    match = _NAMED.fullmatch(text)
    if match is None or (match["dim"] is not None and match["name"] != "symplectic"):
        return None
    if match["name"] == "contractive":
        return None if match["tolerance"] is not None else Claim(claim, "", "contractive", _ONE)
    written: str | None = match["tolerance"]
    tolerance = None if written is None else _positive(claim, written)
    dim = -1 if match["dim"] is None else int(match["dim"])
    return Claim(claim, "", match["name"], tolerance=tolerance, dim=dim)


def _positive(claim: str, text: str) -> Fraction:
    try:
        sizes = [float(part) for part in text.split("/")]  # cheap on 1e999999999, where the exact
        if _NUMBER.fullmatch(text) and all(0 < size < math.inf for size in sizes):  # number is not
            value = Fraction(text)
            if 0 < float(value) < math.inf:
                return value
    except (ValueError, OverflowError):
        pass
    raise UserError(
        f"claim {one_line(claim)!r}: {one_line(text)!r} is not a positive finite number"
    )


def matches(glob: str, name: str) -> bool:
    """Whether a dotted module name matches: `*` is one component, `**` any number of them."""
    return checked.matches(glob.split("."), name.split(".") if name else [])


def select(claim: Claim, names: Iterable[str]) -> list[str]:
    """The module names the claim is about; "" is the whole network. UserError when none match."""
    if not claim.glob:
        return [""]
    names = list(names)
    found = [name for name in names if matches(claim.glob, name)]
    if not found:
        some = ", ".join(name for name in names if name)[:120]
        raise UserError(
            f"claim {one_line(claim.text)!r}: no module matches {one_line(claim.glob)!r}; "
            f"there are {some}..."
        )
    return found


def limit(text: str) -> Fraction | float:
    """What a Lipschitz claim allows at most; infinity for any other claim. Raises UserError."""
    allowed = parse(text).limit
    return math.inf if allowed is None else allowed
