"""Verdicts: sound bounds, witnesses, audits, suites. Importing this package loads nothing heavy:
its public names are loaded when first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.auditor import Report, assert_proved, audit
    from verification.field_report import FieldReport, derive

__all__ = ["FieldReport", "Report", "assert_proved", "audit", "derive"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        place = "field_report" if name in ("FieldReport", "derive") else "auditor"
        return getattr(import_module(f"verification.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
