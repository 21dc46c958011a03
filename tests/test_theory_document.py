"""docs/theorems.md is what the registry says; `python -m verification.theory_page` makes it."""

import re

import pytest

from theory import theorems
from verification import theory_page
from verification.strategies import STRATEGIES

PAGE = theory_page.DOCS / "theorems.md"
ALL = list(theorems().values())


def test_every_theorem_is_on_the_page_as_it_is_registered() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(theory_page.opening(ALL))
    assert text.count("\n## ") == len(ALL)
    for theorem in ALL:
        assert theory_page.statement(theorem) in text
        for hypothesis in theorem.hypotheses:
            assert f"- **{hypothesis.name}**: {hypothesis.words}: $" in text
        for step in theorem.proof:
            assert step.claim in text
        if theorem.id in STRATEGIES:
            for structure in STRATEGIES[theorem.id].sharp:
                assert f"- `{structure!r}`" in text


def test_the_page_has_a_counterexample_for_each_hypothesis_and_no_failed_step() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("\n  Without it: `") == sum(len(t.hypotheses) for t in ALL)
    assert "no counterexample found" not in text
    assert "**fails**" not in text
    assert "by balls, " in text


@pytest.mark.parametrize("name", ["T4-margin-certificate", "T8-nonexpansive-euler"])
def test_a_section_is_computed_anew(name: str) -> None:
    assert theory_page.section(theorems()[name]) in PAGE.read_text(encoding="utf-8")


def _to_six_digits(text: str) -> str:
    """Of a counterexample made of round-off, processors agree on no more of its ratio."""
    return re.sub(r"\d+\.\d{7,}", lambda number: f"{float(number[0]):.6g}", text)


@pytest.mark.slow
def test_the_whole_page_and_its_figure_are_up_to_date(tmp_path) -> None:
    found = theory_page.page()
    assert _to_six_digits(found) == _to_six_digits(PAGE.read_text(encoding="utf-8"))
    theory_page.draw(tmp_path / "theorems.svg")
    committed = (theory_page.DOCS / "theorems.svg").read_bytes()
    assert (tmp_path / "theorems.svg").read_bytes() == committed
