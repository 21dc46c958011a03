"""The report's site, built from real figures and hostile text, as a browser shows it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast
from playwright.sync_api import Browser, Page
from safetensors.numpy import save_file

from dsnn.data.folder import DataFolder
from dsnn.errors import UserError
from paper_repro import deviations, freshness, site, site_artefacts, site_words
from paper_repro.output import write_csv
from paper_repro.registry import registry
from paper_repro.script import answer

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text'"
MODEL = "published-switch-flexible-cifar10-0.15"


def _drawn(folder: Path, name: str) -> dict[str, Any]:
    """The entry of a figure that is made here."""
    artefact = registry()[name]
    stem = folder / "figures" / name
    assert artefact.make is not None
    compared = [c.to_json() for c in artefact.make(artefact.packaged, stem)]
    files = [stem.parent / f"{name}.{suffix}" for suffix in artefact.suffixes]
    inputs = {**artefact.packaged, f"evaluation:{MODEL}": folder / "evaluations" / f"{MODEL}.json"}
    came_from = {
        "code": {},
        "data": {key: freshness.content_hash(path) for key, path in inputs.items()},
        "libraries": {"matplotlib": "3.x"},
    }
    freshness.write_record(stem.parent / f"{name}.made.json", came_from, files, compared, 1.0)
    return {
        "id": name, "kind": "figure", "scale": "smoke", "status": "fresh",
        "files": list(map(str, files)), "compared": compared, "caption": artefact.caption,
    }  # fmt: skip


def _table(folder: Path) -> dict[str, Any]:
    stem = folder / "tables" / "table-cifar10-0.15"
    write_csv(stem.parent / f"{stem.name}.csv", ("epsilon", "value"), [(0.5, 0.25)])
    text = "# Accuracy\n\n## published\n\n| ε | U |\n| --- | --- |\n| 0.5000 | **25.00** |\n"
    (stem.parent / f"{stem.name}.md").write_text(text + f"\n## {HOSTILE}\n\n| a |\n| - |\n| b |\n")
    rows = [
        ("clean", 0.81, 0.81, 1e-9, "agrees", ""),
        ("at 36/255", 0.78, 0.7, 0.01, "differs", f"other statistics {HOSTILE}"),
        ("at 1", 0.5, None, 0.01, "not run", "nothing was evaluated at that size"),
    ]
    keys = ("what", "published", "ours", "tolerance", "verdict", "reason")
    return {
        "id": "table-cifar10-0.15", "kind": "table", "scale": "smoke", "status": "fresh",
        "files": [f"{stem}.csv", f"{stem}.md"], "caption": f"A table. {HOSTILE}",
        "compared": [dict(zip(keys, row, strict=True)) for row in rows],
    }  # fmt: skip


def _left_out() -> dict[str, Any]:
    return {
        "id": "steps-x-cifar100-0.3", "kind": "figure", "scale": "smoke", "status": "not run",
        "files": [], "compared": [], "caption": "Learned steps on CIFAR-100.",
        "waits_for": "training at paper scale", "seconds_estimated": 5400.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("out") / "smoke"
    evaluation = {
        "sha256": "ab" * 32, "seed": 7, "results": [],
        "environment": {"device": f"cpu {HOSTILE}", "torch": "2.13.0", "python": "3.11"},
        "seconds": 12.4, "code": {"commit": "0123456789abcdef", "changed": False},
    }  # fmt: skip
    (found / "evaluations").mkdir(parents=True)
    (found / "evaluations" / f"{MODEL}.json").write_text(json.dumps(evaluation))
    return found


@pytest.fixture(scope="module")
def artefacts(folder: Path) -> list[dict[str, Any]]:
    names = ("contractivity-s1", "auc-cifar10")
    return [*(_drawn(folder, name) for name in names), _table(folder), _left_out()]


@pytest.fixture(scope="module")
def index(folder: Path, artefacts: list[dict[str, Any]]) -> Path:
    return site.write_report(folder, artefacts)


def test_the_first_page_counts_and_explains(index: Path, artefacts: list[dict[str, Any]]) -> None:
    text = index.read_text()
    verdicts = [row["verdict"] for entry in artefacts for row in entry["compared"]]
    agree = verdicts.count("agrees")
    lead = re.search(r'<p class="lead"[^>]*>(.*?)</p>', text)
    assert lead is not None
    counted = f"Of {len(verdicts)} comparisons with published numbers"
    assert f"3 of 4 figures, tables and results are here. {counted}" in lead[1]
    assert f"{agree} agree" in lead[1]
    assert "1 differ" in lead[1]
    assert "training at paper scale; about 1.5 h on this machine" in text
    assert "nothing was evaluated at that size" in text


def test_each_artefact_has_its_files_and_its_origin(index: Path) -> None:
    text = index.read_text()
    for name in ("contractivity-s1", "auc-cifar10"):
        assert (index.parent / "print" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f'href="data/{name}.csv"' in text
    for words in (MODEL, "0123456789ab", ">7<", ">12<", "torch 2.13.0, python 3.11", "ab" * 8):
        assert words in text, words
    assert "matplotlib 3.x" in text


def test_the_best_entry_of_a_table_is_bold(index: Path) -> None:
    assert "<strong>25.00</strong>" in index.read_text()


def test_what_results_say_is_escaped(index: Path) -> None:
    text = index.read_text()
    assert text.count("<script") == 1, "the filter's own"
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


def test_links_stay_in_the_folder_and_lead_somewhere(index: Path) -> None:
    for page in (index, index.parent / "deviations.html"):
        links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.read_text())
        for link in links:
            if not link.startswith("data:"):
                assert "://" not in link
                assert (page.parent / link).is_file(), link


def test_the_chapter_is_drawn_from_the_kept_results(
    artefacts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = deviations.read()
    before = site.write_report(tmp_path / "as kept", artefacts[:1]).parent / "deviations.html"
    kept["deviations"][0]["numbers"][0]["value"] = 98765
    monkeypatch.setattr(deviations, "read", lambda: kept)
    other = site.write_report(tmp_path / "smoke", artefacts[:1]).parent / "deviations.html"
    assert "98765" in other.read_text()
    assert "98765" not in before.read_text()


def test_witnesses_of_the_audits_are_pictured(
    artefacts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a search: an audit whose pair is written by hand."""

    class Network:
        label = "switch-flexible 0.15"

    class Written:
        networks = (Network(),)

        def __init__(self, data: DataFolder, witnesses: Path):
            x = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
            save_file({"x": x, "y": x + np.float32(0.01)}, witnesses / "pair-1.safetensors")

        def audit(self, network: Network) -> dict[str, Any]:
            text = "two inputs leave 2.5 times as far apart; |u| is executed"
            evidence = {"kind": "witness", "text": text, "file": "pair-1.safetensors"}
            claim = {
                "claim": "lipschitz[pixel]<=1", "module": "", "verdict": "refuted",
                "bound": [2.5, 9.0], "arithmetic": "real", "evidence": evidence, "seconds": 0.1,
            }  # fmt: skip
            return {"claims": [claim], "sha256": "", "environment": {}, "operators": []}

    monkeypatch.setattr("paper_repro.material.Material", Written)
    data = DataFolder(tmp_path, "the tests")
    page = site.write_report(tmp_path / "smoke", artefacts[:1], data=data).parent
    text = (page / "deviations.html").read_text()
    assert text.count('<img class="coarse" src="data:image/png') == 3
    assert "at least 2.5 times further apart at the output. |u| is executed." in text
    assert 'href="witnesses/pair-1.safetensors"' in text


ENTRY = '{"id": "auc-cifar10", "kind": "figure", "scale": "cpu", "status": "missing"'


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"artefacts": 1}', '{"artefacts": [{}]}'),
        f'{{"artefacts": [{ENTRY}}}]}}',
        f'{{"artefacts": [{ENTRY}, "files": [], "compared": [{{}}]}}]}}',
    ],
)
def test_a_file_that_is_no_result_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "status.json").write_text(content)
    code = answer(site.main, [str(tmp_path), str(tmp_path / "status.json")])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "status.json" in line
    assert not (tmp_path / "report").exists()


def test_an_evaluation_that_cannot_be_read_is_named(
    folder: Path, artefacts: list[dict[str, Any]]
) -> None:
    file = folder / "evaluations" / f"{MODEL}.json"
    kept = file.read_text()
    file.write_text("{")
    try:
        with pytest.raises(UserError, match=rf"{MODEL}.json.*make it again"):
            site.write_report(folder, artefacts)
    finally:
        file.write_text(kept)


def test_reasons_are_grouped_with_the_most_numbers_first() -> None:
    rows = [
        {"verdict": "differs", "reason": "a", "what": "one"},
        {"verdict": "not run", "reason": "b", "what": "two"},
        {"verdict": "not run", "reason": "b", "what": "three"},
        {"verdict": "agrees", "reason": "", "what": "four"},
    ]
    assert [(g["reason"], g["count"], g["first"]) for g in site_words.reasons(rows)] == [
        ("b", 2, "two"),
        ("a", 1, "one"),
    ]
    assert site_artefacts.duration(59) == "59 s"


@pytest.fixture(params=["light", "dark"])
def opened(
    request: pytest.FixtureRequest, index: Path, browser: Browser
) -> Iterator[Callable[[str], tuple[Page, list[str]]]]:
    """Opens a page of the report; messages of the console and requests beyond the folder."""
    context = browser.new_context(color_scheme=request.param)

    def open_page(name: str) -> tuple[Page, list[str]]:
        shown, wrong = context.new_page(), []
        shown.on("console", lambda message: wrong.append(message.text))
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on("requestfailed", lambda asked: wrong.append(asked.url))
        inside = (index.parent.as_uri(), "data:")
        shown.on("request", lambda r: None if r.url.startswith(inside) else wrong.append(r.url))
        shown.goto((index.parent / name).as_uri())
        return shown, wrong

    yield open_page
    context.close()


def test_a_browser_shows_both_pages(opened: Callable[[str], tuple[Page, list[str]]]) -> None:
    for name in ("index.html", "deviations.html"):
        shown, wrong = opened(name)
        images = shown.locator("img")
        for index in range(images.count()):
            images.nth(index).scroll_into_view_if_needed()
            width = "image => image.decode().then(() => image.naturalWidth)"
            assert images.nth(index).evaluate(width) > 0
            assert images.nth(index).get_attribute("alt")
        paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        for selector in (".chip.agrees", ".chip.differs", ".chip.open", ".note", ".target"):
            if shown.locator(selector).count():
                ink = shown.locator(selector).first.evaluate("n => getComputedStyle(n).color")
                assert contrast(paper, ink) >= 4.5, selector
        shown.set_viewport_size({"width": 375, "height": 700})
        assert shown.evaluate("document.documentElement.scrollWidth") <= 375
        shown.emulate_media(media="print")
        assert not shown.locator("nav").is_visible()
        assert wrong == []


def test_the_filter_by_verdict_and_words(opened: Callable[[str], tuple[Page, list[str]]]) -> None:
    shown, wrong = opened("index.html")
    visible = "nodes => nodes.filter(n => n.offsetParent !== null).length"
    articles, rows = shown.locator("article"), shown.locator("tr[data-verdict]")
    everything = rows.count()
    assert articles.evaluate_all(visible) == 4
    assert f"4 of 4 shown, with {everything} compared" in shown.inner_text("#told")
    for verdict in ("agrees", "not run"):
        shown.uncheck(f"input[value='{verdict}']")
    assert articles.evaluate_all(visible) == 1
    assert [row.get_attribute("data-verdict") for row in rows.all() if row.is_visible()] == [
        "differs"
    ]
    shown.check("input[value='agrees']")
    shown.check("input[value='not run']")
    shown.fill("#search", "area naive CIFAR-10 0.07")
    assert articles.evaluate_all(visible) == 1
    shown.fill("#search", "nothing of the kind")
    assert articles.evaluate_all(visible) == 0
    assert shown.inner_text("#told").startswith("0 of 4 shown")
    assert wrong == []


def test_the_keyboard_reaches_the_search_and_leaves_it(
    opened: Callable[[str], tuple[Page, list[str]]],
) -> None:
    shown, wrong = opened("index.html")
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('href')") == "#artefacts"
    shown.keyboard.press("/")
    assert shown.evaluate("document.activeElement.id") == "search"
    shown.keyboard.type("contractivity")
    assert "1 of 4 shown" in shown.inner_text("#told")
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.value") == "agrees"
    shown.keyboard.press("Shift+Tab")
    shown.keyboard.press("Escape")
    assert "4 of 4 shown" in shown.inner_text("#told")
    assert wrong == []
