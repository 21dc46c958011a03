from dsnn.models.certified import CERTIFIED, CertifiedNet, Sizes, build_certified
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

ALL_ARCHITECTURES = (*ARCHITECTURES, *CERTIFIED)
"""The names of --arch: the paper's five and ours."""

__all__ = [
    "ALL_ARCHITECTURES",
    "ARCHITECTURES",
    "CERTIFIED",
    "CertifiedNet",
    "CifarNet",
    "Exchange",
    "HamiltonianLift",
    "MassProjection",
    "NormProjection",
    "OperatorLayer",
    "Permutation",
    "PresnovNet",
    "Sizes",
    "StructuredLayer",
    "StructuredNet",
    "ZeroLift",
    "build",
    "build_certified",
    "mass_network",
    "norm_network",
    "symplectic_network",
    "volume_network",
]
