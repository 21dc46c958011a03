"""Markdown that is written by a module: tables, and blocks between two marks of a page."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a cell must write its bars as `\\|`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between(text: str, name: str, module: str, body: str) -> str:
    """`text` with `body` put between the marks of the block `name`, which `module` draws."""
    begin, end = f"<!-- {name}: python -m {module} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{body}\n\n{end}{after}"
