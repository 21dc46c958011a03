"""The mathematics: theorems, step-size laws, proofs.

Each law stands here once, as a SymPy expression. `dsnn` projects onto it in training,
`verification` attacks it and certifies networks with it. This package imports no torch.

What needs all theorems, or the derivation of what follows for a field, is imported when first
asked for: building every law takes longer than an audit needs for its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from theory.activation import activation
from theory.field import Field
from theory.theorem import Hypothesis, ProofStep, Theorem

if TYPE_CHECKING:
    from theory.derivation import Derivation, derive
    from theory.registry import theorems

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

_LATER = {"Derivation": "derivation", "derive": "derivation", "theorems": "registry"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
