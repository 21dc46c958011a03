"""The demo's page: one HTML file with every picture in it, made from the JSON beside it.

`demo.json` in the folder names the input, the commands that ran and their result files; all
numbers on the page come from those files. The page asks nothing of the network.
"""

import base64
import json
import struct
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dsnn.files import write_text
from paper_repro import findings, style
from paper_repro.registry import registry
from verification import page_claims, page_witness
from verification.page import environment
from verification.wording import at_least, at_most

FIGURES = "reproduce/cpu/figures"
"""Where the demonstration draws them, relative to its folder."""
SHOWN_WIDTH = style.DPI / 132
"""Pixels of a picture per pixel on the page: sharp on dense screens and in print."""


def build(folder: Path) -> Path:
    """Write `folder`/index.html from `folder`/demo.json and the results it names.

    Raises UserError where a witness cannot be read or the page cannot be written.
    """
    story = _read(folder / "demo.json")
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for command in story["commands"]:
        by_kind.setdefault(command["kind"], []).append(command)
    results = {c["json"]: _read(folder / c["json"]) for c in story["commands"]}
    audits = _audits(folder, story)
    networks = {network["name"]: network for network in story["networks"]}
    evaluations = [(c, results[c["json"]]) for c in by_kind["evaluate"]]
    artefacts = [a for c in by_kind["reproduce"] for a in results[c["json"]]["artefacts"]]
    compared = [row for artefact in artefacts for row in artefact["compared"]]
    accuracies = [
        {
            "name": command["network"],
            "protocol": result["protocol"],
            "rows": findings.accuracy_rows(
                result,
                networks[command["network"]]["regime"],
                networks[command["network"]]["margin"],
            ),
        }
        for command, result in evaluations
    ]
    page = (
        environment("paper_repro")
        .get_template("demo.html")
        .render(
            version=version("dsnn"),
            headline=findings.headline(audits, story["input"]["networks"]),
            input=story["input"]["words"],
            audits=[
                {
                    "name": a["name"],
                    "target": a["target"],
                    "arithmetic": page_claims.arithmetic(a),
                    "rows": page_claims.claim_rows(a),
                }
                for a in audits
            ],
            witnesses=_witnesses(folder, audits),
            evaluations=accuracies,
            has_published=any(row["published"] for e in accuracies for row in e["rows"]),
            constants=list(
                dict.fromkeys(
                    (command["network"], f"≤ {at_most(result['lipschitz_pixel'])}")
                    for command, result in evaluations
                )
            ),
            verify=_theorems(results[by_kind["verify"][0]["json"]]),
            figures=[_figure(folder, artefact) for artefact in artefacts if _drawn(artefact)],
            compared=len(compared),
            agreeing=sum(row["verdict"] == "agrees" for row in compared),
            differences=[
                {**row, "published": f"{row['published']:.4g}", "ours": f"{row['ours']:.4g}"}
                for row in compared
                if row["verdict"] == "differs"
            ],
            commands=[{**c, "seconds": f"{c['seconds']:.1f}"} for c in story["commands"]],
            environment=list(audits[0]["environment"].items()),
        )
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def finding(folder: Path) -> str:
    """The page's first sentence: what the audits in `folder` found."""
    story = _read(folder / "demo.json")
    return findings.headline(_audits(folder, story), story["input"]["networks"])


def _audits(folder: Path, story: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Audit JSON of every audit of the story, with the network's name."""
    return [
        {**_read(folder / command["json"]), "name": command["network"]}
        for command in story["commands"]
        if command["kind"] == "audit"
    ]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _theorems(verified: Mapping[str, Any]) -> dict[str, Any]:
    """The Verify JSON with each theorem's numbers as they are shown."""
    rows = []
    for theorem in verified["theorems"]:
        needed = [h["name"] for h in theorem["hypotheses"] if h["counterexample_without"]]
        sharpness = theorem["sharpness"]
        rows.append(
            {
                **theorem,
                "sharpness": "–" if sharpness is None else at_least(sharpness),
                "needed": f"{len(needed)} of {len(theorem['hypotheses'])}: {', '.join(needed)}"
                if needed
                else "–",
            }
        )
    return {**verified, "theorems": rows}


def _drawn(artefact: Mapping[str, Any]) -> bool:
    return artefact["status"] == "fresh" and artefact["kind"] == "figure"


def _figure(folder: Path, artefact: Mapping[str, Any]) -> dict[str, Any]:
    beside = {Path(file).suffix[1:]: Path(file).name for file in artefact["files"]}
    links = [(suffix, f"{FIGURES}/{name}") for suffix, name in beside.items() if suffix != "png"]
    caption = registry()[artefact["id"]].caption
    return {**_picture(folder / FIGURES / beside["png"]), "caption": caption, "files": links}


def _witnesses(folder: Path, audits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every witness whose inputs are images or feature maps, under the network's name."""
    return [
        {**found, "caption": f"{audit['name']}, {found['caption']}"}
        for audit in audits
        for found in page_witness.shown(audit, folder)
        if found["pictures"]
    ]


def _picture(path: Path) -> dict[str, Any]:
    """A PNG as a data URI, with the size at which the page shows it."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return {
        "image": "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
        "width": round(width / SHOWN_WIDTH),
        "height": round(height / SHOWN_WIDTH),
    }
