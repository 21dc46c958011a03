from dsnn.fields.base import EnergyField, HasEnergy, SplitField, SumField, VectorField
from dsnn.fields.equivariant import ShiftField
from dsnn.fields.first_integral import FirstIntegralField, first_integral_field
from dsnn.fields.gradient import GradientField, convex_gradient
from dsnn.fields.hamiltonian import (
    HamiltonianField,
    SeparableHamiltonian,
    hamiltonian,
    separable_hamiltonian,
)
from dsnn.fields.layers import ConstantSkew, Layer, SkewEntries, SkewMatrix
from dsnn.fields.lifted import LiftedField
from dsnn.fields.mass import FluxField, MassField, RingMassField, TriangularMassField, mass_field
from dsnn.fields.potentials import FunctionPotential, LayerPotential, Potential
from dsnn.fields.presnov import PotentialField, presnov_field
from dsnn.fields.residual import ResidualField, TwoLayerField
from dsnn.fields.sphere import OperatorSphereField, SphereField, sphere_field
from dsnn.fields.volume import VolumeField, volume_field

__all__ = [
    "ConstantSkew",
    "EnergyField",
    "FirstIntegralField",
    "FluxField",
    "FunctionPotential",
    "GradientField",
    "HamiltonianField",
    "HasEnergy",
    "Layer",
    "LayerPotential",
    "LiftedField",
    "MassField",
    "OperatorSphereField",
    "Potential",
    "PotentialField",
    "ResidualField",
    "RingMassField",
    "SeparableHamiltonian",
    "ShiftField",
    "SkewEntries",
    "SkewMatrix",
    "SphereField",
    "SplitField",
    "SumField",
    "TriangularMassField",
    "TwoLayerField",
    "VectorField",
    "VolumeField",
    "convex_gradient",
    "first_integral_field",
    "hamiltonian",
    "mass_field",
    "presnov_field",
    "separable_hamiltonian",
    "sphere_field",
    "volume_field",
]
