"""The report: one site of two pages and a folder of print figures, made from what is there.

`python -m paper_repro.site OUT/SCALE REPRODUCE.json [--data DIR]` makes it again from the JSON of
`dsnn reproduce`. The pages hold no address outside their folder; the only script, which filters, is
allowed by its hash alone.
"""

import base64
import hashlib
import json
import shutil
import struct
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.data.folder import DataFolder, data_folder
from dsnn.errors import UserError
from dsnn.files import atomic, check_writable, write_text
from experiments.provenance import short_commit
from paper_repro import deviations, page, site_artefacts, site_words
from paper_repro.registry import registry
from paper_repro.reproduce import REPORT
from paper_repro.script import answer
from verification import page_claims, page_witness
from verification.page import environment

FIGURES, PRINT, DATA, WITNESSES = "figures", "print", "data", "witnesses"
"""Folders inside the report: pictures, print figures, tables, and witnesses of the audits."""
_ENTRY = {"id", "kind", "scale", "status", "files", "compared"}
_COMPARED = {"what", "published", "ours", "tolerance", "verdict"}
"""What an artefact of a Reproduce JSON has, and each number compared of it."""
_PLACES = {"png": FIGURES, "pdf": PRINT, "csv": DATA, "md": DATA}
_SCRIPT = Path(__file__).parent / "templates" / "report.js"


def write_report(
    folder: Path, artefacts: Sequence[Mapping[str, Any]], *, data: DataFolder | None = None
) -> Path:
    """Write `folder`/report/index.html, and all it links, from the artefacts' entries in the
    Reproduce JSON, each with its `caption`. `folder` is the output folder of a scale, `data` where
    published weights are audited for the chapter's witnesses; without it there are none.

    Raises UserError where a result cannot be read or the report cannot be written.
    """
    out = folder / REPORT
    check_writable(out / "index.html")
    shown = [_artefact(entry, folder, out) for entry in artefacts]
    compared = [row for artefact in shown for row in artefact["rows"]]
    script = _SCRIPT.read_text(encoding="utf-8")
    common = {
        "version": version("dsnn"),
        "scale": artefacts[0]["scale"] if artefacts else "",
        "commit": short_commit(),
        "script": script,
        "script_hash": _csp_hash(script),
    }
    templates = environment("paper_repro")
    kept = deviations.read()
    chapter = templates.get_template("report_deviations.html").render(
        **common,
        records=deviations.records(kept),
        counted=deviations.counted(deviations.records(kept)),
        place=kept["environment"],
        weights=list(kept["weights"].items()),
        witnesses=[] if data is None else _witnesses(data, out / WITNESSES),
    )
    index = templates.get_template("report.html").render(
        **common,
        artefacts=shown,
        counts=site_artefacts.counts(compared),
        compared=len(compared),
        summary=site_words.summary(shown),
        reasons=site_words.reasons(compared),
        left_out=[artefact for artefact in shown if artefact["status"] != "fresh"],
        deviations=len(kept["deviations"]),
    )
    write_text(out / "deviations.html", chapter)
    write_text(out / "index.html", index)
    return out / "index.html"


def _artefact(entry: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """An entry with everything its section says, its files copied into the report."""
    found = site_artefacts.files(entry)
    links = {suffix: _copied(path, out, suffix) for suffix, path in found.items()
             if suffix in _PLACES}  # fmt: skip
    rows = site_artefacts.comparisons(entry)
    tables = []
    if "png" not in found and "md" in found:
        tables = site_artefacts.tables(found["md"])
    elif "png" not in found and "csv" in found:
        tables = site_artefacts.preview(found["csv"])
    return {
        "id": entry["id"],
        "kind": entry["kind"],
        "status": entry["status"],
        "caption": entry["caption"],
        "picture": _picture(found["png"], links["png"]) if "png" in found else None,
        "tables": tables,
        "links": [(s, links[s]) for s in site_artefacts.LINKED if s in links],
        "rows": rows,
        "counts": site_artefacts.counts(rows),
        "origin": site_artefacts.origin(entry, folder),
        "obstacle": site_artefacts.obstacle(entry),
    }


def _copied(path: Path, out: Path, suffix: str) -> str:
    place = Path(_PLACES[suffix]) / path.name
    with atomic(out / place) as temporary:
        shutil.copyfile(path, temporary)
    return place.as_posix()


def _picture(path: Path, link: str) -> dict[str, Any]:
    """A PNG of the report with the size at which its page shows it."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    scale = page.SHOWN_WIDTH
    return {"link": link, "width": round(width / scale), "height": round(height / scale)}


def _witnesses(data: DataFolder, folder: Path) -> list[dict[str, Any]]:
    """Every witness that the audits of the published networks in `data` found, with pictures."""
    from paper_repro.material import Material

    folder.mkdir(parents=True, exist_ok=True)
    material = Material(data, folder)
    shown = []
    for network in material.networks:
        audit = material.audit(network)
        rows = page_claims.claim_rows(audit)
        for found in page_witness.shown(audit, folder):
            text = next(row["evidence"] for row in rows if row["file"] == found["file"])
            why = text.partition("; ")[2]  # what stands before it, the caption says too
            shown.append(
                {
                    **found,
                    "caption": f"{network.label}, {found['caption']}{f' {why}.' if why else ''}",
                    "link": f"{WITNESSES}/{found['file']}",
                }
            )
    return shown


def _csp_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _whole(entry: Any) -> bool:
    """Whether an artefact of a Reproduce JSON has all that its section shows."""
    rows = entry["compared"]
    there = set(entry) >= _ENTRY and all(set(row) >= _COMPARED for row in rows)
    return there and isinstance(entry["files"], list)


def entries(file: Path) -> list[dict[str, Any]]:
    """The artefacts in a Reproduce JSON, with their captions. Raises UserError where it is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["artefacts"]
        known = registry(found[0]["scale"]) if found else {}
        if not all(map(_whole, found)):
            raise ValueError("written by another version")
        captions = {name: artefact.caption for name, artefact in known.items()}
        return [{"caption": captions.get(entry["id"], ""), **entry} for entry in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {file}: it is no result of `dsnn reproduce --status --json FILE`"
        ) from error


def main(
    folder: Annotated[Path, typer.Argument(help="The output folder of a scale.")],
    result: Annotated[Path, typer.Argument(help="The JSON of `dsnn reproduce`.")],
    data: Annotated[
        Path | None, typer.Option(help="The data folder; else DSNN_DATA or the cache.")
    ] = None,
) -> None:
    found = data_folder(data)
    weights = found if any((found.path / "published").glob("*.pt")) else None
    print(write_report(folder, entries(result), data=weights))


if __name__ == "__main__":
    sys.exit(answer(main))
