"""The mathematics: theorems, step-size laws, proofs.

Each law stands here once, as a SymPy expression. `dsnn` projects onto it in training,
`verification` attacks it and certifies networks with it. This package imports no torch.
"""

from theory.registry import theorems
from theory.theorem import Hypothesis, ProofStep, Theorem

__all__ = ["Hypothesis", "ProofStep", "Theorem", "theorems"]
