"""How each theorem is attacked: random fields within its hypotheses, instances that attain it,
and fields that break it once a hypothesis is dropped."""

from verification.strategies.composition import COMPOSITION, OBSTRUCTION
from verification.strategies.euler import (
    CONTRACTIVE,
    EXPANSIVE,
    EXPANSIVE_GRADIENT,
    NONEXPANSIVE,
)
from verification.strategies.hamiltonian_lift import HAMILTONIAN_LIFT
from verification.strategies.lattice import MAXIMUM
from verification.strategies.margin import MARGIN
from verification.strategies.network import NETWORK
from verification.strategies.presnov import DECOMPOSITION, UNIQUENESS
from verification.strategies.presnov_layers import (
    CONVEX_PARTS,
    GRADIENT_LAYER,
    SKEW_DENSITY,
)
from verification.strategies.splitting import LIE_TROTTER, STRANG
from verification.strategies.switching import FLEXIBLE, SWITCHING
from verification.strategies.tied import TIED
from verification.strategies.trial import Strategy

STRATEGIES: dict[str, Strategy] = {
    "T1-presnov": DECOMPOSITION,
    "T1-presnov-uniqueness": UNIQUENESS,
    "T2-approximation": COMPOSITION,
    "T2-lie-trotter": LIE_TROTTER,
    "T2-strang": STRANG,
    "T2-obstruction": OBSTRUCTION,
    "T2'-presnov-networks": SKEW_DENSITY,
    "T2'-gradient-layer": GRADIENT_LAYER,
    "T3-hamiltonian-lift": HAMILTONIAN_LIFT,
    "R1-difference-of-convex": CONVEX_PARTS,
    "T4-margin-certificate": MARGIN,
    "T7-contractive-euler": CONTRACTIVE,
    "T8-nonexpansive-euler": NONEXPANSIVE,
    "T8'-expansive-euler": EXPANSIVE,
    "T8'-expansive-gradient-euler": EXPANSIVE_GRADIENT,
    "T9-switching": SWITCHING,
    "T10-flexible-switching": FLEXIBLE,
    "T10-tied": TIED,
    "T11-network": NETWORK,
    "B1-maximum-step": MAXIMUM,
}
