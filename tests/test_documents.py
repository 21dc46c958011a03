"""Numbers in the documents are those of the results that are kept."""

from benchmarks import documents


def test_the_page_of_benchmarks_is_up_to_date():
    page = (documents.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == documents.page()


def test_the_findings_in_the_readme_are_those_of_the_audits():
    text = (documents.ROOT / "README.md").read_text(encoding="utf-8")
    assert documents.readme(text) == text
    assert "REFUTED" not in documents.findings()
    assert documents.findings().count("refuted") >= 3
