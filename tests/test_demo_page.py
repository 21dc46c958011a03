"""The demo's page, from results written by hand: what it says, and how a browser shows it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast
from playwright.sync_api import Browser
from safetensors.numpy import save_file

from paper_repro import findings, page
from paper_repro.registry import registry
from paper_repro.reproduce import Place
from verification import page_claims

CLAIM = "stages.*.flow:lipschitz<=1"


def _claim(claim: str, module: str, verdict: str, lower: float | None, **evidence: Any) -> dict:
    return {
        "claim": claim,
        "module": module,
        "verdict": verdict,
        "bound": [lower, 1.7578],
        "arithmetic": "real",
        "evidence": {"kind": "theorem", "text": "T10", **evidence},
        "seconds": 0.1,
    }


def _results(folder: Path) -> dict[str, Any]:
    witness = {"text": "moved apart <script>alert(1)</script>", "file": "witness-1.safetensors"}
    image = {"file": "witness-2.safetensors"}
    names = {"pixels": 4.0, "lift": 6.0, "flow": 1.25, "head": 0.5, "pool": 3.0}
    parts = [
        {"module": name, "upper": upper, "law": "norm", "values": {"norm": upper}, "parts": []}
        for name, upper in names.items()
    ]
    ledger = {"module": "", "upper": 45.0, "law": "chain", "values": {}, "parts": parts}
    audit = {
        "target": "published/a.pt",
        "sha256": "0" * 64,
        "environment": {"torch": "2.13.0", "processor": "two cores"},
        "claims": [
            _claim(CLAIM, "stages.0.flow", "proved", 0.5),
            _claim(CLAIM, "stages.1.flow", "unknown", None),
            _claim(CLAIM, "stages.2.flow", "refuted", 1.55678, **witness),
            _claim("lipschitz[pixel]<=1", "", "refuted", 1.65, **image),
            _claim("lipschitz[pixel]<=9", "", "unknown", 1.65, hint="at best 2", ledger=ledger),
        ],
        "operators": [],
    }
    verify = {
        "profile": "quick",
        "seed": 0,
        "theorems": [
            {
                "id": "T8-nonexpansive-euler",
                "proof": "symbolic",
                "instances": 100,
                "violations": 0,
                "sharpness": None,
                "hypotheses": [{"name": "convex", "counterexample_without": True}],
            }
        ],
    }
    evaluation = {
        "target": "published/a.pt",
        "dataset": "cifar10",
        "protocol": "published",
        "lipschitz_pixel": 118.2,
        "images": 1024,
        "results": [
            {"attack": "clean", "epsilon": 0.0, "correct": 837, "accuracy": 837 / 1024,
             "certified": 11},
            {"attack": "pgd-paper", "epsilon": 0.5, "correct": 690, "accuracy": 690 / 1024,
             "certified": 2},
        ],
    }  # fmt: skip
    figures = ["contractivity-s1", "auc-cifar10"]
    places = [Place(registry()[name], folder / "reproduce", folder / "no data") for name in figures]
    for place in places:
        place.make()
    reproduce = {"artefacts": [place.to_json() for place in places]}
    return {"audit": audit, "verify": verify, "evaluate": evaluation, "reproduce": reproduce}


def _write(folder: Path, results: dict[str, Any]) -> None:
    draw = np.random.default_rng(0)
    for name, shape in (("witness-1", (8, 6, 6)), ("witness-2", (3, 32, 32))):
        x = draw.normal(size=shape).astype(np.float32)
        save_file({"x": x, "y": x + np.float32(0.01)}, folder / f"{name}.safetensors")
    commands = []
    for kind, result in results.items():
        (folder / f"{kind}.json").write_text(json.dumps(result))
        network = "switch-flexible" if kind in ("audit", "evaluate") else None
        line, code = f"dsnn {kind}", int(kind == "audit")
        commands.append(
            {"kind": kind, "network": network, "line": line, "exit": code, "seconds": 1.0,
             "json": f"{kind}.json"}
        )  # fmt: skip
    story = {
        "input": {"networks": "one published network", "words": "Input: data & weights."},
        "networks": [
            {"name": "switch-flexible", "regime": "switch-flexible", "target": "published/a.pt",
             "dataset": "cifar10", "margin": "0.15"}
        ],
        "commands": commands,
    }  # fmt: skip
    (folder / "demo.json").write_text(json.dumps(story))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    _write(folder, _results(folder))
    return page.build(folder)


def test_page_opens_with_one_sentence_of_what_was_found(built: Path) -> None:
    text = built.read_text()
    lead = re.search(r'<p class="lead"[^>]*>(.*?)</p>', text)
    assert lead is not None
    assert lead[1] == page.finding(built.parent)
    assert "Of 5 claims about one published network, 1 is proved, 2 are refuted" in lead[1]
    assert "stages.2.flow" in lead[1]
    assert "at least 1.556" in lead[1], "a lower bound is rounded down"
    assert lead[1].count(". ") == 0
    assert text.index(lead[1]) < text.index("<table")


def test_what_results_say_is_escaped(built: Path) -> None:
    text = built.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "data &amp; weights" in text


def test_only_data_uris_and_files_beside_the_page(built: Path) -> None:
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', built.read_text())
    local = [link for link in links if not link.startswith("data:")]
    assert local
    for link in local:
        assert "://" not in link
        assert (built.parent / link).is_file(), link


def test_equal_counts_are_said_to_be_equal_only_where_they_are(built: Path) -> None:
    results = json.loads((built.parent / "evaluate.json").read_text())
    rows = findings.accuracy_rows(results, "switch-flexible", "0.15")
    assert [row["equal"] for row in rows] == [True, False]
    assert rows[0]["published"] == "81.74"
    results["images"] = 64
    assert not any(r["equal"] for r in findings.accuracy_rows(results, "switch-flexible", "0.15"))


@pytest.mark.parametrize("value", [1.0, 1.55678, 2 / 3, 118.24999, 1e-7, 204.7, 0.99999])
def test_shown_bounds_are_rounded_outwards(value: float) -> None:
    lower, upper = map(float, page_claims.interval([value, value]).strip("[]").split(","))
    assert value * 0.999 <= lower <= value <= upper <= value * 1.001


def test_evidence_of_a_whole_network_names_its_largest_factors(built: Path) -> None:
    text = built.read_text()
    largest = "largest factors 6 in lift (norm), 4 in pixels (norm), 3 in pool (norm); at best 2"
    assert largest in text


def test_an_unknown_end_is_a_dash() -> None:
    assert page_claims.interval([None, 1.0]) == "[–, 1]"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_verdicts_and_figures(built: Path, browser: Browser, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    shown = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    shown.on("console", lambda message: messages.append(message.text))
    shown.on("pageerror", lambda error: messages.append(str(error)))
    shown.on("request", lambda request: requests.append(request.url))
    shown.goto(built.as_uri())
    table = shown.locator("table.verdicts")
    assert table.is_visible()
    assert table.locator("tbody tr").count() == 5
    assert shown.locator(".chip.refuted").count() == 2
    images = shown.locator("img")
    assert images.count() == 8, "two witnesses of three pictures and two figures"
    for index in range(images.count()):
        assert images.nth(index).is_visible()
        assert images.nth(index).evaluate("image => image.naturalWidth") > 0
        assert images.nth(index).get_attribute("alt")
    assert messages == []
    outside = [u for u in requests if u != built.as_uri() and not u.startswith("data:")]
    assert outside == []
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('href')") == "#verdicts"
    shown.set_viewport_size({"width": 375, "height": 700})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 375, "a phone scrolls sideways"
    context.close()


def test_text_has_contrast_in_both_schemes(built: Path, browser: Browser) -> None:
    """Every chip stands out from the page by the 4.5 : 1 that WCAG AA asks for."""
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        shown = context.new_page()
        shown.goto(built.as_uri())
        paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        for selector in (".chip.proved", ".chip.refuted", ".chip.unknown", ".note", "a.skip"):
            ink = shown.locator(selector).first.evaluate("node => getComputedStyle(node).color")
            assert contrast(paper, ink) >= 4.5, (scheme, selector)
        context.close()
