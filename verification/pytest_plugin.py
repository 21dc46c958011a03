"""pytest plugin: what a failed `assert_proved` rests on, as a section of the report.

It is imported by every run of pytest where this project is installed, so it imports nothing: torch
is there only when a test has already asked for it.
"""

import sys
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the section "dsnn evidence" to the report of a test that `assert_proved` failed."""
    report = yield
    if call.excinfo is not None and "verification.asserting" in sys.modules:
        from verification.asserting import NotProved
        from verification.report_text import full

        if isinstance(call.excinfo.value, NotProved):
            report.sections.append(("dsnn evidence", full(call.excinfo.value.report)))
    return report
