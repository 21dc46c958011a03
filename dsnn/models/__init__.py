from dsnn.models.cifar import ARCHITECTURES, CifarNet, build
from dsnn.models.layers import (
    Exchange,
    MassProjection,
    NormProjection,
    OperatorLayer,
    Permutation,
    StructuredLayer,
    ZeroLift,
)
from dsnn.models.structured import (
    HamiltonianLift,
    PresnovNet,
    StructuredNet,
    mass_network,
    norm_network,
    symplectic_network,
    volume_network,
)

__all__ = [
    "ARCHITECTURES",
    "CifarNet",
    "Exchange",
    "HamiltonianLift",
    "MassProjection",
    "NormProjection",
    "OperatorLayer",
    "Permutation",
    "PresnovNet",
    "StructuredLayer",
    "StructuredNet",
    "ZeroLift",
    "build",
    "mass_network",
    "norm_network",
    "symplectic_network",
    "volume_network",
]
