"""A derivation as lines of a certificate: with the numbers that the checker derives or can show."""

from fractions import Fraction
from typing import Any

from verification import sdp
from verification.checker.chain import Chain, Line, Pair
from verification.checker.laws import CONTRACTIVE, Values
from verification.checker.reading import Node, Wrong
from verification.checker.verdicts import SLACK
from verification.constant import Constant as Derivation

TOLERANCE = 1e-6
"""How much above the audit's the checker's constant may be, relative."""
PRODUCTS = ("T9-switching", "T10-flexible-switching")
"""Theorems whose constant is the product of those of their steps: a certificate has the steps."""


class LeftOut(Exception):
    """Why a verdict is not in the certificate."""


def lines(chain: Chain, root: Derivation) -> list[dict[str, Any]]:
    """The derivation as lines, each after its parts; `chain` has them too, then. Raises LeftOut
    where the checker cannot show a number, and what it raises where it derives no such line."""
    found: list[dict[str, Any]] = []
    smallest = {
        (part.start, part.end)
        for line in root.lines()
        if line.law == CONTRACTIVE
        for part in line.parts
    }
    for line in _in_order(root):
        pair: Pair = (line.start, line.end)
        parts = [(part.start, part.end) for part in line.parts]
        stated: Values = {}
        if line.law == "norm":
            stated = _spectrum(chain, line, pair in smallest)
        law = "chain" if line.law in PRODUCTS else line.law
        what = f"line {' -> '.join(pair)}"
        if line.law == sdp.LAW:
            derived = _semidefinite(chain, line, what)
        else:
            derived = chain.derive(*pair, law, parts, stated, what)
        chain.lines[pair] = derived
        found.append(
            {
                "start": line.start,
                "end": line.end,
                "law": law,
                "parts": [list(part) for part in parts],
                "values": {name: _number(v) for name, v in derived.values.items()},
                "upper": derived.upper,
            }
        )
    return found


def _spectrum(chain: Chain, line: Derivation, with_smallest: bool) -> Values:
    """Singular values as the audit has them, or little worse, as the checker shows them."""
    node = chain.graph[line.end]
    stated = {
        "norm": _shown(chain, node, float(line.values["norm"]), -1),
        "smallest": None,
        "factor": node.constants["weight"].factor,
    }
    if with_smallest and line.values["smallest"] > 0:
        stated["smallest"] = _shown(chain, node, float(line.values["smallest"]), 1)
    elif with_smallest:
        stated["smallest"] = Fraction(0)
    return stated


def _shown(chain: Chain, node: Node, bound: float, sign: int) -> Fraction:
    """The audit's bound, or the next that the checker can show."""
    slacks = (0.0, SLACK, 1e-7, TOLERANCE / 2)
    for way, slack in [("quickly", s) for s in slacks] + [("shown", s) for s in slacks[1:]]:
        near = bound * (1 - sign * slack)
        try:
            if chain.spectra.of(node, chain.extent(node), way, near, sign):
                return Fraction(near)
        except Wrong:
            pass
    raise LeftOut(f"the checker cannot show the singular value {bound!r} of {node.name}")


def _semidefinite(chain: Chain, line: Derivation, what: str) -> Line:
    """The line by LipSDP with the least slack that the checker can show."""
    stated = {name: Fraction(value) for name, value in line.values.items()}
    reason = "there are no multipliers"
    for digits in range(13, 5, -1):
        slack = Fraction(float(stated["square"]) * 10.0**-digits)
        try:
            return chain.derive(
                line.start, line.end, line.law, [], {**stated, "slack": slack}, what
            )
        except Wrong as wrong:
            reason = str(wrong)
    raise LeftOut(reason)


def _in_order(root: Derivation) -> list[Derivation]:
    """Every line once, after its parts."""
    found: dict[Pair, Derivation] = {}
    pending = [(root, False)]
    while pending:
        line, ready = pending.pop()
        if ready:
            found.setdefault((line.start, line.end), line)
        elif (line.start, line.end) not in found:
            pending.append((line, True))
            pending += [(part, False) for part in reversed(line.parts)]
    return list(found.values())


def _number(value: Fraction | None) -> float | str | None:
    """A double as a number, any other fraction as a string."""
    if value is None:
        return None
    power_of_two = value.denominator & (value.denominator - 1) == 0
    if power_of_two and value.denominator > 1 and Fraction(float(value)) == value:
        return float(value)
    return str(value)
