"""Settings of a run changed by name, from the command line or a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from dsnn.errors import UserError

T = TypeVar("T")


def read_changes(path: Path) -> dict[str, Any]:
    """The fields that a TOML file changes. Raises UserError on a file that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path}: not a TOML file that can be read ({error})") from error


def changed(found: T, changes: Mapping[str, Any], fixed: Sequence[str]) -> T:
    """The frozen configuration `found` with `changes` of its fields, except for the `fixed` ones,
    which the command line names. Raises UserError on an unknown field, or a value of another type
    than the field's; the configuration itself judges the value."""
    settings: Any = found
    allowed = [f.name for f in fields(settings) if f.name not in fixed]
    result = {}
    for name, value in changes.items():
        if name not in allowed:
            reason = "is named on the command line" if name in fixed else "is unknown"
            raise UserError(f"setting {name!r} {reason}: known are {', '.join(allowed)}")
        result[name] = _typed(name, value, getattr(settings, name))
    return replace(settings, **result)


def _typed(name: str, value: Any, like: Any) -> Any:
    """The value as the type of `like`; None stands for a number of images, an integer."""
    if like is None:
        expected, fits = "an integer", type(value) is int
    elif isinstance(like, tuple):
        expected = f"{len(like)} integers"
        fits = (
            isinstance(value, list | tuple)
            and len(value) == len(like)
            and all(type(v) is int for v in value)
        )
        value = tuple(value) if fits else value
    elif isinstance(like, float):
        expected, fits = "a number", type(value) in (int, float)
        value = float(value) if fits else value
    else:
        expected, fits = f"of type {type(like).__name__}", type(value) is type(like)
    if not fits:
        raise UserError(f"setting {name} = {value!r}: expected {expected}")
    return value
