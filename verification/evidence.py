"""Evidence as reports carry it: what a constant rests on, in words and as JSON."""

import contextlib
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from verification.constant import Constant, Number
from verification.wording import about, at_least, at_most

DEEPEST = 40
"""Levels of lines under lines that a ledger has."""


def theorems(constant: Constant) -> dict[str, Any]:
    """Evidence: the laws used, the values they were evaluated at, and a line to read."""
    laws: list[str] = []
    lowest, highest, reasons = [], [], []
    for line in constant.lines():
        if line.law not in laws and (line.law != "norm" or not laws):
            laws.append(line.law)
        lowest += [float(line.values["s_min"])] if "s_min" in line.values else []
        highest += [float(line.values["s_max"])] if "s_max" in line.values else []
        if line.reason and line.reason not in reasons:
            reasons.append(line.reason)
    words = [law.split("-")[0] for law in laws if law.startswith(("T", "D"))]
    words += [f"s_min >= {at_least(min(lowest))}"] if lowest else []
    words += [f"s_max <= {at_most(max(highest))}"] if highest else []
    text = "; ".join(reasons) or ", ".join(words) or constant.law
    return {
        "kind": "theorem",
        "text": text,
        "law": constant.law,
        "laws": laws,
        "ledger": ledger(constant),
    }


def ledger(constant: Constant) -> dict[str, Any]:
    """The chain of constants as it was composed. Parts that several lines rest on are written with
    the first of them; those below `DEEPEST` are left out."""
    return _ledger(constant, set(), DEEPEST)


def _ledger(constant: Constant, written: set[int], depth: int) -> dict[str, Any]:
    parts = constant.parts if depth and id(constant) not in written else ()
    if depth:
        written.add(id(constant))
    return {
        "module": constant.module,
        "from": constant.start,
        "to": constant.end,
        "upper": end(constant.upper),
        "law": constant.law,
        "values": _values(constant.values),
        "parts": [_ledger(part, written, depth - 1) for part in parts],
        **({"reason": constant.reason} if constant.reason else {}),
    }


def _values(values: Mapping[str, Number]) -> dict[str, Any]:
    """Numbers that a double holds as numbers, other fractions as text: p/q, or rounded where that
    is longer than Python writes integers."""
    return {key: _number(value) for key, value in values.items()}


def _number(value: Number) -> float | str | None:
    if isinstance(value, Fraction):
        return _exact(value)
    return end(value)


def _exact(value: Fraction) -> float | str:
    with contextlib.suppress(OverflowError):
        if Fraction(near := float(value)) == value:
            return near
    try:
        return str(value)
    except ValueError:
        return about(value)


def end(value: float) -> float | None:
    """An end of an interval: JSON has no infinity."""
    return value if math.isfinite(value) else None
