"""Dynamical systems based neural networks: fields, integrators, operators, models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsnn.zoo.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`dsnn.load`, a trained network of the zoo: imported when asked for, since it needs torch."""
    if name == "load":
        from dsnn.zoo.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
