"""What the hooks of the site do to a page."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_formulas_become_mathml(hooks: ModuleType) -> None:
    page = (
        r'<p><span class="arithmatex">\(h &lt; 2\)</span></p>'
        r'<div class="arithmatex">\[\frac{1}{|A|^2}\]</div>'
    )
    shown = hooks.on_page_content(page)
    assert "arithmatex" not in shown
    assert shown.count("<math") == 2
    assert "<mfrac>" in shown
    assert "&lt;" in shown or "&#x0003C;" in shown


@pytest.mark.parametrize(
    "asks",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<img alt="x" src="http://example.org/x.png">',
    ],
)
def test_a_page_that_asks_the_network_is_refused(hooks: ModuleType, asks: str) -> None:
    with pytest.raises(PluginError, match=r"example\.org"):
        hooks.on_post_page(f"<html>{asks}</html>")


def test_a_page_may_link_elsewhere(hooks: ModuleType) -> None:
    page = '<a href="https://arxiv.org/abs/2210.02373">paper</a><img src="theorems.svg">'
    assert hooks.on_post_page(page) == page
