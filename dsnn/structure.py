"""The properties that fields conserve, steps keep and networks claim, by their names in claims.

What they mean is said once, in the table of claims (`dsnn audit --claim`). `energy-preserving` is
the one name that is no claim about a map alone: it needs the energy, which the field holds.
"""

from collections.abc import Iterable

MASS = "mass-preserving"
NORM = "norm-preserving"
ENERGY = "energy-preserving"
VOLUME = "volume-preserving"
SYMPLECTIC = "symplectic"
SHIFT = "equivariant:shift"
GRADIENT = "gradient-field"

PROPERTIES = (MASS, NORM, ENERGY, VOLUME, SYMPLECTIC, SHIFT)
"""Those that compositions inherit; the composition of two gradient fields is none."""


def closed(names: Iterable[str]) -> frozenset[str]:
    """With what they imply: a symplectic map preserves volume."""
    found = frozenset(names)
    return found | {VOLUME} if SYMPLECTIC in found else found
