"""Numbers in the documents are drawn from results or have a reason; what is drawn is current."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prose_allowed import PHRASES
from prose_numbers import PAGES, ROOT, blocks, sources, unexplained, unused

from benchmarks import documents
from paper_repro import certified_page, deviations, grid_page, structured_page
from verification import reach

SOURCES = sources()


BLOCKS: dict[str, Callable[[str], str]] = {
    "benchmarks.documents": documents.readme,
    "paper_repro.certified_page": certified_page.page,
    "paper_repro.grid_page": grid_page.page,
    "verification.reach": reach.page,
}
WHOLE: dict[str, Callable[[], str]] = {
    "benchmarks.documents": documents.page,
    "paper_repro.deviations": lambda: deviations.page(deviations.read()),
    "paper_repro.structured_page": lambda: structured_page.page(structured_page.results()),
}
"""What writes a page, where that is quick; the two others have tests of their own."""


@pytest.mark.parametrize("name", SOURCES)
def test_a_number_that_looks_measured_is_generated_or_has_a_reason(name: str) -> None:
    remedy = "put it into a block drawn from a results file, drop it, or name a reason in "
    assert not (found := unexplained(SOURCES[name], PHRASES)), (
        f"{name}: {remedy}tests/prose_allowed.py\n" + "\n".join(found)
    )


def test_no_reason_is_stale() -> None:
    assert unused(SOURCES, PHRASES) == []


@pytest.mark.parametrize(
    "typed",
    [
        "It reaches 52.3 % of them.",
        "It reaches 52 % of them.",
        "The audit takes 3.4 s.",
        "The audit takes 34 s.",
        "The audit takes\n12 minutes.",
        "The audit takes half a minute.",
        "The constant is 0.9731.",
        "The defect is 2.2e-16.",
        "The defect is 3 · 10^-16.",
        "The defect is about 10^-7.",
        "174 of 200 were right.",
        "All but 12 images survive.",
        "About 2,100 lines do it.",
        "| network | 0.87 |",
        "It needs 519 MB.",
        "<p>It needs 4 GB.</p>",
        "```\ndsnn train  # 34 s\n```",
    ],
)
def test_a_typed_number_is_found(typed: str) -> None:
    assert unexplained(typed, PHRASES)
    begin, end = "<!-- x: python -m a.b -->", "<!-- end of x -->"
    assert unexplained(f"{begin}\n{typed}\n{end}", PHRASES) == []
    assert unexplained(f"{begin}\n{end}\n{typed}\n{begin}\n{end}", PHRASES)


@pytest.mark.parametrize(
    "plain",
    [
        "float64, CIFAR-100, T10 and SHA-256",
        "at 36/255, on the torus of side 2^21",
        "three seeds and 10 steps",
        "`--eps 0.3` takes a number",
        "```\ndsnn evaluate --eps 0.3  # one of them\n```",
        "```python\nx = 0.3  # 0.1 more\n```",
        "the norm is $0.5 x$",
    ],
)
def test_names_and_code_are_no_measurements(plain: str) -> None:
    assert unexplained(plain, []) == []


def test_a_reason_does_not_cover_the_same_number_elsewhere() -> None:
    assert unexplained("the noise of 0.01, and a defect of 0.01", ["the noise of 0.01"]) != []


def test_every_block_is_drawn_by_a_known_module() -> None:
    found = {module for text in SOURCES.values() for module in blocks(text)}
    assert found == set(BLOCKS)


@pytest.mark.parametrize(
    ("name", "module"), [(n, m) for n, text in SOURCES.items() for m in blocks(text)]
)
def test_a_block_is_up_to_date(name: str, module: str) -> None:
    assert BLOCKS[module](SOURCES[name]) == SOURCES[name]


@pytest.mark.parametrize("name", [name for name, module in PAGES.items() if module in WHOLE])
def test_a_page_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == WHOLE[PAGES[name]]()


@pytest.mark.parametrize(("name", "module"), PAGES.items())
def test_a_whole_page_says_what_writes_it(name: str, module: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert f"python -m {module.removesuffix('.documents')}" in text
    assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()
