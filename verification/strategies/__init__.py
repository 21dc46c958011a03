"""How each theorem is attacked: random fields within its hypotheses, instances that attain it,
and fields that break it once a hypothesis is dropped."""

from verification.strategies.budget import BUDGET
from verification.strategies.composition import COMPOSITION, OBSTRUCTION
from verification.strategies.contractivity import B_STABLE, CIRCLE, TWO_NUMBERS
from verification.strategies.curvature import CURVATURE
from verification.strategies.euler import (
    CONTRACTIVE,
    EXPANSIVE,
    EXPANSIVE_GRADIENT,
    NONEXPANSIVE,
)
from verification.strategies.flows import FLOW, SWITCHING_FLOW
from verification.strategies.hamiltonian_lift import HAMILTONIAN_LIFT
from verification.strategies.invariants import DISCRETE_GRADIENT, FIRST_INTEGRAL, GAUSS
from verification.strategies.lattice import MAXIMUM
from verification.strategies.margin import MARGIN
from verification.strategies.mass import MASS, MASS_PROJECTION
from verification.strategies.naive import NAIVE
from verification.strategies.network import NETWORK
from verification.strategies.padding import PADDED
from verification.strategies.presnov import DECOMPOSITION, UNIQUENESS
from verification.strategies.presnov_layers import (
    CONVEX_PARTS,
    GRADIENT_LAYER,
    SKEW_DENSITY,
)
from verification.strategies.spheres import EULER_GROWTH, PROJECTION, RELAXATION
from verification.strategies.splitting import LIE_TROTTER, STRANG
from verification.strategies.switching import FLEXIBLE, SWITCHING
from verification.strategies.symmetry import EQUIVARIANCE, SHIFT
from verification.strategies.symplectic import MIDPOINT, NO_VANISHING, SYMPLECTIC
from verification.strategies.tied import TIED
from verification.strategies.trial import Strategy
from verification.strategies.volume import VOLUME

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
    "R2-gradient-radius": CURVATURE,
    "T5-flow": FLOW,
    "T6-switching-flow": SWITCHING_FLOW,
    "T6-euler-budget": BUDGET,
    "T7-contractive-euler": CONTRACTIVE,
    "T8-nonexpansive-euler": NONEXPANSIVE,
    "T8'-expansive-euler": EXPANSIVE,
    "T8'-expansive-gradient-euler": EXPANSIVE_GRADIENT,
    "T8-circle-contractive": CIRCLE,
    "T8-b-stable": B_STABLE,
    "T8-lipschitz-euler": TWO_NUMBERS,
    "T9-switching": SWITCHING,
    "T9-zero-padding": PADDED,
    "T10-flexible-switching": FLEXIBLE,
    "T10-tied": TIED,
    "T11-network": NETWORK,
    "B1-maximum-step": MAXIMUM,
    "D8-naive": NAIVE,
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
    "T16-equivariance": EQUIVARIANCE,
    "T16-shift": SHIFT,
}
