from dsnn.integrators.base import Integrator, InvertibleIntegrator, NumericalStep, Step
from dsnn.integrators.discrete_gradient import AverageVectorField, Gonzalez, average, gonzalez
from dsnn.integrators.euler import Alternation, Euler, FixedEuler, FlexiblePair
from dsnn.integrators.explicit import ExplicitEuler, Heun, RungeKutta4
from dsnn.integrators.implicit_midpoint import ImplicitMidpoint
from dsnn.integrators.lifted import LiftedEuler
from dsnn.integrators.spheres import Projected, RelaxedHeun
from dsnn.integrators.splitting import LieTrotter, Strang
from dsnn.integrators.symplectic import StormerVerlet, SymplecticEuler

__all__ = [
    "Alternation",
    "AverageVectorField",
    "Euler",
    "ExplicitEuler",
    "FixedEuler",
    "FlexiblePair",
    "Gonzalez",
    "Heun",
    "ImplicitMidpoint",
    "Integrator",
    "InvertibleIntegrator",
    "LieTrotter",
    "LiftedEuler",
    "NumericalStep",
    "Projected",
    "RelaxedHeun",
    "RungeKutta4",
    "Step",
    "StormerVerlet",
    "Strang",
    "SymplecticEuler",
    "average",
    "gonzalez",
]
