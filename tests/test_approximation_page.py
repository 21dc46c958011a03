"""docs/approximation.md: its code runs, and names theorems that there are."""

import re
from pathlib import Path

from sympy import cos, simplify, symbols

from theory import theorems
from verification import reach

TEXT = (Path(__file__).parents[1] / "docs" / "approximation.md").read_text(encoding="utf-8")


def test_every_python_block_runs_and_says_what_it_prints() -> None:
    first, second = re.findall(r"^ *```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    space: dict = {}
    exec(re.sub(r"(?m)^ {3}", "", first), space)
    x, p = symbols("x p")
    assert simplify(space["parts"].potential - (x * p / 2 + p * (cos(x) - 1) / x)) == 0
    exec(second, space)
    row = reach.first_within(1e-3, space["rows"])
    assert row.depth == 9
    assert f"bound={row.bound:.7f}"[:13] in second
    assert f"measured={row.measured:.7f}"[:16] in second


def test_the_theorems_it_names_are_registered() -> None:
    named = set(re.findall(r"`((?:T\d+'?|R1|B1)-[a-z-]+)`", TEXT))
    assert len(named) >= 10
    assert named <= set(theorems())
