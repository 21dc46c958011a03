"""The mathematics: theorems, step-size laws, proofs.

Each law stands here once, as a SymPy expression. `dsnn` projects onto it in training,
`verification` attacks it and certifies networks with it. This package imports no torch.
"""

from theory.activation import activation
from theory.derivation import Derivation, derive
from theory.field import Field
from theory.registry import theorems
from theory.theorem import Hypothesis, ProofStep, Theorem

__all__ = [
    "Derivation",
    "Field",
    "Hypothesis",
    "ProofStep",
    "Theorem",
    "activation",
    "derive",
    "theorems",
]
