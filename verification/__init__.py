"""Verdicts: sound bounds, witnesses, audits, suites. Importing this package loads nothing heavy:
its public names are loaded when first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.asserting import assert_proved, audit
    from verification.field_report import FieldReport, derive
    from verification.verdicts import Report

__all__ = ["FieldReport", "Report", "assert_proved", "audit", "derive"]

_PLACES = {
    "FieldReport": "field_report",
    "Report": "verdicts",
    "assert_proved": "asserting",
    "audit": "asserting",
    "derive": "field_report",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"verification.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
