"""Trained networks by name: `dsnn.load("Celledoni2023Dynamical_switch-flexible", margin=0.15)`.

`index` knows what there is: the authors' published weights, read from the user's data folder, and
those of ours, which come with the package in `weights/`. `loading` turns a name into a network.
Importing this needs no torch.
"""

from typing import TYPE_CHECKING, Any

from dsnn.zoo.index import Model, add, find, models

if TYPE_CHECKING:
    from dsnn.zoo.loading import Pixels, load, load_target

__all__ = ["Model", "Pixels", "add", "find", "load", "load_target", "models"]


def __getattr__(name: str) -> Any:
    if name in ("Pixels", "load", "load_target"):
        from dsnn.zoo import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
