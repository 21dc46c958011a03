"""How each theorem is attacked: random fields within its hypotheses, instances that attain it,
and fields that break it once a hypothesis is dropped."""

from verification.strategies.euler import (
    CONTRACTIVE,
    EXPANSIVE,
    EXPANSIVE_GRADIENT,
    NONEXPANSIVE,
)
from verification.strategies.jacobians import MIDPOINT, NO_VANISHING, SYMPLECTIC, VOLUME
from verification.strategies.margin import MARGIN
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
}
