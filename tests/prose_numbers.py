"""Finds numbers in prose that look measured and are not drawn from a results file.

Generated text stands between `<!-- NAME: python -m MODULE -->` and `<!-- end of NAME -->`, or is a
whole page. Outside of it a decimal fraction, a percentage, a power of ten, a number with a unit or
one of three digits and more needs a reason.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from paper_repro import deviations

ROOT = Path(__file__).parent.parent
PAGES = {
    "docs/benchmarks.md": "benchmarks.documents",
    "docs/deviations.md": "paper_repro.deviations",
    "docs/integrators.md": "verification.integrators_page",
    "docs/structured-experiments.md": "paper_repro.structured_page",
    "docs/theorems.md": "verification.theory_page",
}
"""Pages that a module writes as a whole, and the module."""
BLOCK = re.compile(
    r"<!-- (?P<name>[\w-]+): python -m (?P<module>[\w.]+) -->.*?<!-- end of (?P=name) -->",
    re.DOTALL,
)
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(?<= )#.*")
TEMPLATE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
NOT_PROSE = re.compile(
    r"`[^`\n]*`|<!--.*?-->|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|https?://\S+"
    r"|<(style|script)\b.*?</\1>|<[a-z/][^>]*>",
    re.DOTALL,
)
UNITS = (
    "ms|s|sec|seconds?|min|minutes?|h|hours?|days?|[kKMG]i?B|bytes|images?|lines|instances|pairs"
    "|networks|times|points|samples|parameters|epochs|runs"
)
COUNTED = "half an?|two|three|four|five|six|seven|eight|nine|ten|twenty|thirty|forty|fifty|sixty"
MEASURED = re.compile(
    r"(?<![\w^.,])(?<!\w-)(?<!\d/)"
    r"(?:\d+(?:\.\d+)?\s?[·×x]\s?10(?:\^|⁻|[²³⁴-⁹])-?\d*"
    r"|10\^?-\d+|10⁻\S+"
    r"|\d+(?:\.\d+)?e[+-]?\d+"
    r"|\d+\.\d+"
    r"|\d{1,3}(?:,\d{3})+|\d{3,}"
    rf"|\d+\s?%|\d+\s(?:{UNITS})\b|\d+(?:ms|s|[kKMG]i?B)\b)"
    rf"|\b(?:{COUNTED})\s(?:seconds?|minutes?|hours?|days?|per cent|percent)\b",
    re.IGNORECASE,
)


def sources() -> dict[str, str]:
    """Text by name: README, pages, the templates of pages and reports, the deviations' words."""
    paths = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "paper_repro" / "templates").iterdir()),
        *sorted((ROOT / "verification" / "templates").glob("*.html")),
    ]
    names = {path.relative_to(ROOT).as_posix(): path for path in paths}
    texts = {n: p.read_text(encoding="utf-8") for n, p in names.items() if n not in PAGES}
    words = (
        re.sub(r"\{\w+\}", "", "\n".join((d.title, d.code, d.theory, d.consequence)))
        for d in deviations.catalogue()
    )
    return {**texts, "paper_repro.deviations": "\n".join(words)}


def blocks(text: str) -> Iterator[str]:
    """The module that writes each generated block of a page."""
    return (found["module"] for found in BLOCK.finditer(text))


def prose(text: str) -> str:
    """The text without generated blocks, code, formulas, links and markup, on one line. Comments on
    command lines are prose."""
    text = FENCE.sub(lambda f: " ".join(COMMENT.findall(f[2])) if not f[1] else "", text)
    for other in (BLOCK, TEMPLATE, NOT_PROSE):
        text = other.sub(" ", text)
    return re.sub(r"\s+", " ", text)


def unexplained(text: str, allowed: Iterable[str]) -> list[str]:
    """Each number of the text that looks measured, with what stands around it, unless it lies in
    one of the `allowed` phrases."""
    words = prose(text)
    spans = [m.span() for phrase in allowed for m in re.finditer(re.escape(phrase), words)]
    return [
        f"{found[0]!r} in '...{words[max(0, found.start() - 40) : found.end() + 30]}...'"
        for found in MEASURED.finditer(words)
        if not any(start <= found.start() and found.end() <= end for start, end in spans)
    ]


def unused(texts: Mapping[str, str], allowed: Iterable[str]) -> list[str]:
    """The phrases that stand in no text."""
    words = [prose(text) for text in texts.values()]
    return [phrase for phrase in allowed if not any(phrase in text for text in words)]
