"""Certificates that are too deep, or ask for too much, end in a line."""

from pathlib import Path

from test_checker_forged_verdicts import identity

from verification.checker.__main__ import run


def test_json_as_deep_as_can_be_read_ends_in_a_line(tmp_path: Path) -> None:
    """Some levels less than Python's JSON reads are already too many for it to write."""
    path = identity(tmp_path, "lipschitz<=1")
    text = path.read_text()
    found = set()
    for depth in range(900, 1001):
        deep = "[" * depth + "]" * depth
        path.write_text(text.replace('"environment": {}', f'"environment": {{"a": {deep}}}'))
        found.add(run(str(path)))
    assert found <= {1, 2}
