"""The example of docs/theory.md, as it stands on the page."""

import re
from pathlib import Path

from theory import Theorem

PAGE = Path(__file__).parents[1] / "docs" / "theory.md"


def test_every_python_block_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    spaces: list[dict[str, object]] = [{} for _ in blocks]
    for block, space in zip(blocks, spaces, strict=True):
        exec(block, space)
    averaged = spaces[1]["averaged"]
    assert isinstance(averaged, Theorem)
    assert averaged.proved()
