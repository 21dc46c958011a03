"""The page of an audit, from results written by hand and from a run: what it says, and how a real
browser shows it."""

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import contrast
from playwright.sync_api import Browser, Page
from safetensors.numpy import save_file

from dsnn.data.statistics import TRAINING
from dsnn.errors import UserError
from dsnn.models import build
from dsnn.weights import Card, save
from verification import page, page_again, page_budget, page_claims, page_witness
from verification.wording import about, above, at_least, at_most

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


def _line(module: str, law: str, upper: float | None, *parts: dict, **values: Any) -> dict:
    return {"module": module, "law": law, "upper": upper, "values": values, "parts": list(parts)}


def _entry(claim: str, module: str, verdict: str, bound: list, **evidence: Any) -> dict:
    found = {"kind": "theorem", "text": "T10", **evidence}
    return {"claim": claim, "module": module, "verdict": verdict, "bound": bound,
            "arithmetic": "real", "evidence": found, "seconds": 0.1}  # fmt: skip


def _audit() -> dict[str, Any]:
    """An audit of everything a page can show, by a target that writes HTML where it can."""
    step = _line(HOSTILE, "T7-contractive-euler", 0.5, _line("a", "norm", 1.5, norm=1.5), h=0.1,
                 s_min=2 / 3, s_max="36028797018963968/7184142125581415")  # fmt: skip
    inner = _line("", "chain", 0.75, step, _line("b", "norm", 1.5, norm=1.5, smallest=0.0))
    ledger = _line("", "chain", 3.0, inner, _line("c", "scale", 4.0, w_max=4.0))
    infinite = _line(HOSTILE, "unknown", None) | {"reason": f"no rule for {HOSTILE}"}
    pair = {"kind": "witness", "text": f"moved apart {HOSTILE}"}
    return {
        "target": f"zoo.{HOSTILE}",
        "sha256": "0" * 64,
        "file_sha256": "1" * 64,
        "card": {"arch": "naive", "margin": None, "mean": [0.5], "std": [0.25], "x": HOSTILE},
        "isolation": [HOSTILE],
        "environment": {"torch": "2.13.0", "machine": HOSTILE},
        "claims": [
            _entry("lipschitz<=4", "", "proved", [0.5, 3.0], ledger=ledger),
            _entry("lipschitz<=2.5", "", "unknown", [0.5, 3.0], ledger=ledger, hint=HOSTILE),
            _entry("lipschitz<=1", HOSTILE, "refuted", [1.00001, None], ledger=infinite,
                   **pair, file="w-1.safetensors"),
            _entry("lipschitz[pixel]<=1", "", "refuted", [1.65, 2.0], **pair,
                   file="w-2.safetensors"),
            _entry("lipschitz<=0.1", "", "refuted", [1.65, 2.0], **pair, file="w-3.safetensors"),
            _entry("mass-preserving", "m", "refuted", [0.25, None], kind="point", text="a point",
                   file="w-4.safetensors"),
            _entry("volume-preserving", "v", "proved", [0.0, 0.0], theorem="T12", exact=True,
                   text="every step is a shear", parts=[HOSTILE]),
        ],
        "operators": [
            {"module": HOSTILE, "kind": "conv2d", "norm": [1.55678, 1.55678],
             "smallest": [0.0, 0.25], "method": HOSTILE}
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    draw = np.random.default_rng(0)
    shapes = {"w-1": (8, 6, 5), "w-2": (3, 32, 32), "w-3": (40,)}
    for name, shape in shapes.items():
        x = draw.normal(size=shape).astype(np.float32)
        save_file({"x": x, "y": x + np.float32(0.01)}, folder / f"{name}.safetensors")
    point = {"x": draw.normal(size=(2, 3)), "directions": draw.normal(size=(5, 2, 3))}
    save_file(point, folder / "w-4.safetensors")
    command = shlex.join(["dsnn", "audit", HOSTILE])
    page.write(folder / "audit.html", _audit(), folder, command=command)
    return folder / "audit.html"


def _shown(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str], list[str]]:
    """The page, opened; what it said on the console; what it asked for beyond itself."""
    shown = browser.new_context(**options).new_page()
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: said.append(dialog.message))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())
    return shown, said, [u for u in asked if u != path.as_uri() and not u.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_a_word_or_a_request(built: Path, browser: Browser, scheme):
    shown, said, asked = _shown(browser, built, color_scheme=scheme)
    assert (said, asked) == ([], [])
    assert shown.locator("table.verdicts tbody tr").count() == 7
    assert shown.locator(".chip.refuted").count() == 4
    images = shown.locator("img")
    assert images.count() == 6, "two pairs of x, y, y - x; vectors are tables"
    for index in range(images.count()):
        assert images.nth(index).evaluate("image => image.naturalWidth") > 0
        assert images.nth(index).get_attribute("alt")
    assert shown.locator("table.entries").count() == 2
    paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in (".chip.proved", ".chip.refuted", ".chip.unknown", ".note", "figcaption", "a"):
        ink = shown.locator(selector).first.evaluate("node => getComputedStyle(node).color")
        assert contrast(paper, ink) >= 4.5, (scheme, selector)
    light = contrast(paper, "rgb(0, 0, 0)") > 10
    assert light == (scheme == "light")
    shown.context.close()


def test_what_the_target_wrote_is_text(built: Path, browser: Browser):
    shown, _, _ = _shown(browser, built)
    assert shown.title().startswith("dsnn audit: zoo.<script>")
    assert shown.locator("script").count() == 0
    assert shown.locator("[onerror]").count() == 0
    assert shown.locator("h1").inner_text() == f"zoo.{HOSTILE}"
    text = built.read_text()
    assert "<script" not in text.casefold()
    assert text.count("&lt;script&gt;") >= 12, "modules, hints, reasons, methods, isolation, ..."
    shown.context.close()


@pytest.mark.parametrize("policy", [True, False])
def test_markup_that_escaped_would_do_nothing(
    built: Path, browser: Browser, tmp_path: Path, policy: bool
):
    """The policy in the page is the second line of defence: planted, a script does not run and an
    image is not fetched. Without the policy both happen."""
    planted = tmp_path / "planted.html"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3 if policy else 10)
        image = f"<img src='http://127.0.0.1:{server.getsockname()[1]}/x'>"
        attack = f"<main><script>document.title='owned'</script>{image}"
        text = built.read_text().replace("<main>", attack)
        planted.write_text(text if policy else text.replace("Content-Security-Policy", "x"))
        shown = browser.new_page()
        shown.goto(planted.as_uri(), wait_until="commit")
        if policy:
            shown.wait_for_load_state()
            with pytest.raises(TimeoutError):
                server.accept()
        else:
            server.accept()[0].close()
        assert (shown.title() == "owned") == (not policy)
        shown.close()


def test_it_is_used_by_keyboard(built: Path, browser: Browser):
    """Skip link, sections, every region that scrolls and every fold take the focus, in order."""
    shown, _, _ = _shown(browser, built)
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('href')") == "#verdicts"
    assert shown.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    focusable = shown.locator("a[href]:visible, summary:visible, [tabindex='0']:visible").count()
    reached = {"a": 1}
    for _ in range(focusable - 1):
        shown.keyboard.press("Tab")
        tag = shown.evaluate("document.activeElement.localName")
        reached[tag] = reached.get(tag, 0) + 1
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert set(reached) == {"a", "div", "summary"}
    assert sum(reached.values()) == focusable
    folds = shown.locator("#budget details:not([open])").count()
    shown.locator("#budget details:not([open]) > summary").last.focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#budget details:not([open])").count() == folds - 1
    for region in shown.locator("[role=region]").all():
        assert region.get_attribute("aria-label")
    shown.context.close()


def test_a_phone_does_not_scroll_sideways(built: Path, browser: Browser):
    shown, _, _ = _shown(browser, built, viewport={"width": 375, "height": 700})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 375
    shown.context.close()


def test_print_shows_what_is_folded(built: Path, browser: Browser):
    shown, _, _ = _shown(browser, built)
    folded = shown.locator("#budget details:not([open]) li").last
    assert not folded.is_visible()
    shown.emulate_media(media="print")
    assert shown.evaluate(
        "[...document.querySelectorAll('li')].every(li => li.getBoundingClientRect().height > 0)"
    )
    assert not shown.locator("nav").is_visible()
    assert shown.locator("body").evaluate("b => getComputedStyle(b).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    shown.context.close()


def test_it_says_where_the_bound_goes(built: Path):
    (whole, hostile) = page_budget.sections(_audit()["claims"])
    assert whole["claims"] == ["lipschitz<=4", "lipschitz<=2.5"], "one ledger is shown once"
    assert [row["upper"] for row in whole["rows"]] == ["0.5", "1.5", "4"], "chains are flattened"
    assert [np.sign(row["share"]) for row in whole["rows"]] == [-1, 1, 1]
    assert whole["rows"][2]["share"] == 1
    assert whole["rows"][0]["parts"][0]["module"] == "a"
    assert hostile["upper"] == "inf"
    assert hostile["rows"][0]["words"].startswith("no rule for")
    text = built.read_text()
    assert "h ≈ 0.1, s_min ≥ 0.6666, s_max ≤ 5.016" in text, "hypotheses are rounded outwards"
    assert "largest factors 4 in c (scale), 1.5 in b (norm)" in text


def test_factors_multiply_to_the_bound():
    ledger = _audit()["claims"][0]["evidence"]["ledger"]
    product = np.prod([line["upper"] for line in page_budget.factors(ledger)])
    assert product == ledger["upper"]


def test_a_verdict_on_the_execution_names_it_and_keeps_the_ledger(tmp_path: Path):
    """Where the rounding is not bounded, the bound in real arithmetic is shown all the same."""
    audit = _audit()
    first = audit["claims"][0]
    gap = {"kind": "gap", "text": "no bound", "real": first["evidence"]}
    execution = {**first, "evidence": gap, "verdict": "unknown", "arithmetic": "float32-execution"}
    audit["claims"] = [first, execution]
    assert len(page_budget.sections(audit["claims"])) == 1
    assert [row["arithmetic"] for row in page_claims.claim_rows(audit)] == [
        "real",
        "float32-execution",
    ]
    text = page.build(audit, tmp_path)
    assert "no bound; largest factors" in text
    assert '<div class="note">float32-execution</div>' in text


def test_theorems_are_listed_with_where_they_were_used(built: Path):
    uses = page_budget.theorems_used(_audit()["claims"])
    assert [use["theorem"] for use in uses] == ["T12", "T7-contractive-euler"], "each use once"
    assert uses[0]["upper"] is None
    text = built.read_text()
    assert "<h3>T7-contractive-euler</h3>" in text
    assert "An explicit Euler step of a contractive gradient field" in text


def test_a_rule_of_its_own_is_no_theorem():
    entry = _entry("lipschitz<=1", "", "proved", [0.0, 0.9], ledger=_line("", "centred", 0.9))
    assert page_budget.theorems_used([entry]) == []
    assert page_budget.sections([entry])[0]["rows"][0]["words"]


def test_shown_ends_are_rounded_outwards(built: Path):
    assert page_claims.interval([1.00001, None], 1) == "[1.00001, –]", "above what it refutes"
    assert page_claims.interval([1.55678, 1.55678]) == "[1.556, 1.557]"
    assert above(1.0 + 1e-16, 1) == "1", "a double that is the limit refutes nothing"
    third = Fraction(1, 3)
    assert (at_least(third), at_most(third), about(third)) == ("0.3333", "0.3334", "≈ 0.333333")
    assert "[1.556, 1.557]" in built.read_text()


def test_a_picture_shows_the_difference_where_it_is():
    x = np.zeros((4, 3, 3))
    y = x.copy()
    y[2, 0, 1] = -0.5
    what, pictures = page_witness.draw({"x": x, "y": y, "y − x": y - x})
    assert what == "channel 2 of 4, where y − x is largest"
    assert [picture["name"] for picture in pictures] == ["x", "y", "y − x"]
    assert pictures[2]["scale"] == "-0.5 to 0.5"
    assert pictures[0]["image"] != pictures[1]["image"], "x and y share one scale"


def test_of_a_vector_the_entries_that_differ_most_are_shown():
    x = np.arange(40.0)
    y = x + np.linspace(0, 1, 40)
    rows = page_witness.rows({"x": x, "y": y, "y − x": y - x})
    assert [name for name, _ in rows] == [str(k) for k in range(28, 40)]
    assert rows[-1][1] == ["39", "40", "1"]


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0{}      ", b"x" * 100])
def test_a_witness_that_is_damaged_is_one_line(tmp_path: Path, content: bytes | None):
    audit = _audit()
    audit["claims"] = [c for c in audit["claims"] if c["evidence"].get("file") == "w-1.safetensors"]
    if content is not None:
        (tmp_path / "w-1.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the witness w-1\.safetensors: .*again"):
        page.build(audit, tmp_path)


def test_a_missing_package_is_one_line(tmp_path: Path, refused, monkeypatch):
    monkeypatch.setattr(page, "NEEDED", ("jinja2", "no_such_package"))
    html = ["--html", tmp_path / "a.html"]
    line = refused("audit", "net.safetensors", "--claim", "lipschitz<=1", *html)
    assert line == "dsnn: a page needs no_such_package: pip install 'dsnn[report]'"


def test_the_page_has_a_file_of_its_own(tmp_path: Path, refused):
    file = tmp_path / "a.json"
    line = refused("audit", "x.pt", "--claim", "lipschitz<=1", "--json", file, "--html", file)
    assert line.endswith("name a file of its own")


def test_an_audit_writes_its_page(tmp_path: Path, dsnn: Callable, monkeypatch, browser: Browser):
    """End to end; what the page says to run is run, and says what the page says."""
    monkeypatch.chdir(tmp_path)
    mean, std = TRAINING["cifar10"]
    torch.manual_seed(0)
    net = build("unconstrained", channels=(3, 4, 4))
    save("net's.safetensors", net, Card("unconstrained", "cifar10", None, mean, std))
    claims = ["stages.1.flow.2:lipschitz<=1.2", "lipschitz[pixel]<=1", "head:lipschitz<=1e3"]
    options = [word for claim in claims for word in ("--claim", claim)]
    outputs = ["--json", "out.json", "--certificate", "c.json", "--html", "audit.html"]
    code, _, error = dsnn("audit", "net's.safetensors", *options, "--budget", "1.5", *outputs)
    assert (code, error) == (1, "")
    shown, said, asked = _shown(browser, tmp_path / "audit.html")
    assert (said, asked) == ([], [])
    again = shown.locator("pre").all_inner_texts()
    assert shlex.split(again[0])[:3] == ["dsnn", "audit", "net's.safetensors"]
    assert [w for w in shlex.split(again[0]) if w in claims] == claims
    assert shlex.split(again[0])[-6:] == ["--json", "out.json", "--certificate", "c.json",
                                          "--html", "audit.html"]  # fmt: skip
    assert "1.5" in shlex.split(again[0])
    assert "--tight" not in again[0]
    assert dsnn(*shlex.split(again[1])[1:])[0] == 0, "dsnn check, with the target"
    assert "holds every verdict of this page" in shown.locator("#again").inner_text()
    entries = json.loads(Path("out.json").read_text())["claims"]
    ratios = [e["bound"][0] for e in entries if e["verdict"] == "refuted"]
    assert len(again) == 2 + len(ratios) == 4
    for program, ratio in zip(again[2:], ratios, strict=True):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        least = float(program.rsplit(">= ", 1)[1])
        assert 1 < least <= float(done.stdout) == pytest.approx(ratio), done.stderr
    assert re.fullmatch("[0-9a-f]{64}", shown.locator("#about dd").nth(1).inner_text())
    assert shown.locator("table.operators tbody tr").count() > 5
    shown.context.close()


def test_a_network_of_the_zoo_is_checked_and_replayed_from_its_file():
    audit = _audit() | {"target": "zoo:A/cifar10/0.15", "file": "there/a.safetensors"}
    found = [step["lines"] for step in page_again.steps(audit, None, Path("c.json"))]
    assert found[0] == "dsnn check c.json there/a.safetensors"
    assert len(found) == 4
    assert all("load('there/a.safetensors', 'naive')" in program for program in found[1:])
