"""The findings of the README."""

from benchmarks import documents


def test_the_findings_show_what_is_refuted() -> None:
    assert "REFUTED" not in documents.findings()
    assert documents.findings().count("refuted") >= 3
