"""Verdicts: sound bounds, witnesses, audits, suites. Importing this package loads nothing heavy:
`audit`, `assert_proved` and `Report` are loaded when first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.auditor import Report, assert_proved, audit

__all__ = ["Report", "assert_proved", "audit"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("verification.auditor"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
