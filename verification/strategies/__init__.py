"""How each theorem is attacked: random fields within its hypotheses, instances that attain it,
and fields that break it once a hypothesis is dropped."""

from verification.strategies.euler import (
    CONTRACTIVE,
    EXPANSIVE,
    EXPANSIVE_GRADIENT,
    NONEXPANSIVE,
)
from verification.strategies.invariants import (
    DISCRETE_GRADIENT,
    EULER_GROWTH,
    FIRST_INTEGRAL,
    GAUSS,
    PROJECTION,
    RELAXATION,
)
from verification.strategies.jacobians import MIDPOINT, NO_VANISHING, SYMPLECTIC, VOLUME
from verification.strategies.margin import MARGIN
from verification.strategies.mass import MASS, MASS_PROJECTION
from verification.strategies.network import NETWORK
from verification.strategies.switching import FLEXIBLE, SWITCHING
from verification.strategies.tied import TIED
from verification.strategies.trial import Strategy

STRATEGIES: dict[str, Strategy] = {
    "T4-margin-certificate": MARGIN,
    "T7-contractive-euler": CONTRACTIVE,
    "T8-nonexpansive-euler": NONEXPANSIVE,
    "T8'-expansive-euler": EXPANSIVE,
    "T8'-expansive-gradient-euler": EXPANSIVE_GRADIENT,
    "T9-switching": SWITCHING,
    "T10-flexible-switching": FLEXIBLE,
    "T10-tied": TIED,
    "T11-network": NETWORK,
    "T12-volume": VOLUME,
    "T13-symplectic-shears": SYMPLECTIC,
    "T13-no-vanishing-gradient": NO_VANISHING,
    "T13-implicit-midpoint": MIDPOINT,
    "T14-mass": MASS,
    "T14-projection": MASS_PROJECTION,
    "T15-first-integral": FIRST_INTEGRAL,
    "T15-discrete-gradient": DISCRETE_GRADIENT,
    "T15-gauss-quadratic": GAUSS,
    "T15-relaxation": RELAXATION,
    "T15-projection": PROJECTION,
    "T15-euler-growth": EULER_GROWTH,
}
