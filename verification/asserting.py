"""Audits of a module at hand, for other people's code and tests."""

from collections.abc import Iterable

from torch import nn

from verification import report_text
from verification.auditor import Arithmetic, Audit
from verification.claims import parse
from verification.parts import Live, Shape
from verification.targets import Target
from verification.verdicts import Report


def audit(
    module: nn.Module,
    claims: str | Iterable[str],
    input_shape: Shape,
    *,
    tight: bool = False,
    budget: float = 5.0,
    arithmetic: Arithmetic = "real",
    radius: float | None = None,
) -> Report:
    """Verdicts on `claims` ("[MODULE-GLOB:]PROPERTY") about a module in eval mode, which takes
    batches of examples of `input_shape`; `arithmetic` and `radius` are those of `Audit`. Raises
    UserError on a claim that is not well formed."""
    texts = [claims] if isinstance(claims, str) else claims
    subject = Target(type(module).__name__, Live(module, tuple(input_shape)))
    running = Audit(subject, tight=tight, budget=budget, arithmetic=arithmetic, radius=radius)
    return running.run([parse(text) for text in texts])


class NotProved(AssertionError):
    """Claims that were to be proved are not; `report` says what was found instead."""

    def __init__(self, report: Report):
        super().__init__(report_text.failure(report))
        self.report = report


def assert_proved(
    module: nn.Module,
    *claims: str,
    input_shape: Shape,
    tight: bool = False,
    budget: float = 5.0,
) -> Report:
    """Raise NotProved, an AssertionError with verdicts, intervals, evidence and witnesses, unless
    all claims are proved; AssertionError where there are none. See docs/audit.md."""
    __tracebackhide__ = True  # pytest shows the line that calls this one
    if not claims:
        raise AssertionError("no claims were given")
    report = audit(module, claims, input_shape, tight=tight, budget=budget)
    if report.exit_code != 0:
        raise NotProved(report)
    return report
