"""Where a Lipschitz constant goes: the ledger of an audit's evidence, as factors and theorems.

A ledger is a tree of lines {module, law, upper, values, parts}, written by `evidence.ledger`. A
chain is the product of its parts, so its factors are those of the chains in it as well.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from verification.wording import about, at_least, at_most

Line = Mapping[str, Any]

RULES = {
    "norm": "largest singular value of a linear map, times its factor",
    "scale": "largest weight of an entrywise scaling",
    "copies": "an entry is used several times",
    "windows": "sums over windows that overlap",
    "overlap": "a maximum over windows that overlap",
    "two slopes": "entries that one entry moves, on one side of 0 or the other",
    "sorted": "sorting: at most 1",
    "slope": "largest slope of an activation",
    "softmax": "softmax: at most 1/2",
    "logsoftmax": "log_softmax: sqrt(n) for n entries",
    "logsumexp": "logsumexp: at most 1",
    "length": "the l2 norm: 1",
    "normalise": "a normalisation: 1/sqrt(epsilon)",
    "sum": "a sum: the constants of its terms add up",
    "root": "values side by side: the root of a sum of squares",
    "together": "values side by side that share entries",
    "symmetric": "a step with a symmetric Jacobian",
    "centred": "an affine map and one layer, whose slopes are around their means",
    "chain": "one after the other: a product",
    "identity": "nothing changes",
    "constant": "does not depend on the input",
    "unknown": "nothing is known",
}
"""The laws of lines that are no theorems, in words."""
_AT_MOST = ("s_max", "norm", "w_max")
_AT_LEAST = ("s_min", "smallest")
_DEFAULTS = {"factor": 1.0, "scale": 1.0, "smallest": 0.0}
"""Values that say nothing."""
_SHOWN = 3


def ledger_of(evidence: Mapping[str, Any]) -> Line | None:
    """The ledger behind a verdict: where the execution is open, that in real arithmetic."""
    return evidence.get("ledger") or evidence.get("real", {}).get("ledger")


def factors(ledger: Line) -> Iterator[Line]:
    """The lines whose constants multiply to that of the ledger, in the order of computation."""
    if ledger["law"] != "chain":
        yield ledger
        return
    for part in ledger["parts"]:
        yield from factors(part)


def lines(ledger: Line) -> Iterator[Line]:
    """The line and all lines that it rests on."""
    yield ledger
    for part in ledger["parts"]:
        yield from lines(part)


def largest(ledger: Line | None, inside: str) -> str:
    """The factors above 1 that the constant of `inside` is mostly made of; empty where it is no
    product."""
    if ledger is None or ledger["law"] != "chain":
        return ""
    above = [x for x in factors(ledger) if x["upper"] is None or x["upper"] > 1]
    above.sort(key=lambda line: -_upper(line))
    named = [f"{at_most(_upper(x))} in {where(x, inside)} ({x['law']})" for x in above[:_SHOWN]]
    return f"largest factors {', '.join(named)}" if named else ""


def measured(values: Mapping[str, Any]) -> str:
    """The numbers a law was evaluated at: measured ones outwards, given ones to 6 digits."""
    shown = [_value(k, v) for k, v in values.items() if _DEFAULTS.get(k) != v]
    return ", ".join(shown)


def row(line: Line, inside: str = "", longest: float = 1.0) -> dict[str, Any]:
    """A line of a ledger of the module `inside`, ready to be shown, with the rows it rests on.
    `share` in [-1, 1] is the logarithm of its constant by `longest`, the largest there is: below 0
    it contracts."""
    upper = _upper(line)
    height = math.log(upper) if 0 < upper < math.inf else math.copysign(longest, upper - 1)
    return {
        "module": where(line, inside),
        "law": line["law"],
        "words": line.get("reason") or RULES.get(line["law"], ""),
        "upper": at_most(upper),
        "share": max(-1.0, min(1.0, height / longest)),
        "measured": measured(line["values"]),
        "parts": [row(part, inside) for part in line["parts"]],
    }


def sections(claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A section per module and ledger of the claims' evidence: its constant, its factors."""
    found: dict[str, dict[str, Any]] = {}
    for entry in claims:
        ledger = ledger_of(entry["evidence"])
        if ledger is None:
            continue
        key = json.dumps([entry["module"], ledger], sort_keys=True)
        if key not in found:
            logarithms = [abs(math.log(x["upper"])) for x in factors(ledger) if x["upper"]]
            longest, inside = max(logarithms, default=0.0) or 1.0, entry["module"]
            found[key] = {
                "module": inside or "whole network",
                "upper": at_most(_upper(ledger)),
                "claims": [],
                "rows": [row(line, inside, longest) for line in factors(ledger)],
            }
        if entry["claim"] not in found[key]["claims"]:
            found[key]["claims"].append(entry["claim"])
    return list(found.values())


def theorems_used(claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per use of a theorem in the claims' evidence: where, the measured hypotheses, and the
    constant, or None for an equality. Equal uses are shown once."""
    found: dict[tuple[str, str, str], str | None] = {}
    for entry in claims:
        evidence = entry["evidence"]
        ledger, inside = ledger_of(evidence), entry["module"]
        for line in lines(ledger) if ledger else ():
            if line["law"] in RULES:
                continue
            use = (line["law"], where(line, inside), measured(line["values"]))
            found.setdefault(use, at_most(_upper(line)))
        if "theorem" in evidence:
            found.setdefault((evidence["theorem"], inside or "whole network", evidence["text"]))
    return [
        {"theorem": theorem, "module": module, "measured": text, "upper": upper}
        for (theorem, module, text), upper in sorted(found.items(), key=lambda use: use[0][0])
    ]


def _upper(line: Line) -> float:
    return math.inf if line["upper"] is None else line["upper"]


def where(line: Line, inside: str = "") -> str:
    """The path of the module that computes the end of a line, in a ledger of `inside`."""
    return ".".join(filter(None, (inside, line["module"]))) or "whole network"


def _value(name: str, value: float | str | None) -> str:
    if value is None:
        return f"{name} unknown"
    exact = Fraction(value)
    if name in _AT_MOST:
        return f"{name} ≤ {at_most(exact)}"
    if name in _AT_LEAST:
        return f"{name} ≥ {at_least(exact)}"
    return f"{name} {about(exact)}"
