"""The tables of kept certified networks in docs/certified-networks.md.

`python -m paper_repro.certified_page` writes them from the results that `paper_repro.keep` kept. A
test finds the page out of date.
"""

import json
from pathlib import Path
from typing import Any

from dsnn.files import write_text
from paper_repro.models import KEPT, short
from verification import markdown

PAGE = Path(__file__).parent.parent / "docs" / "certified-networks.md"
HEADER = (
    "network", "norms", "seed", "epochs", "images/s", "training [s]", "processor [s]", "images",
    "clean", "36/255 by L", "36/255", "72/255", "108/255", "1", "L, body", "commit",
)  # fmt: skip


ATTACKED = ("network", "seed", "images", "clean", "AutoAttack, 36/255", "certified, 36/255")


def kept(folder: Path = KEPT) -> dict[str, list[dict[str, Any]]]:
    """The `run` and the `evaluation` of every certified network, in the order of their places:
    `results`, and the short runs that compare `constructions`."""
    compared = {model.id for model in short()}
    found: dict[str, list[dict[str, Any]]] = {"results": [], "constructions": []}
    for run in sorted(folder.glob("*/models/certified-*/run.json")):
        name = run.parent.name
        evaluation = run.parents[2] / "evaluations" / f"{name}.json"
        found["constructions" if name in compared else "results"].append(
            {"run": _read(run), "evaluation": _read(evaluation)}
        )
    return found


def row(network: dict[str, Any]) -> list[str]:
    """A network's row of the table."""
    run, found = network["run"], network["evaluation"]
    asked, certified = run["configuration"], found["certified_accuracy"]
    clean = next(r["accuracy"] for r in found["results"] if r["attack"] == "clean")
    by_constant, *_ = certified_shares(found.get("certified_by_constant", certified))
    return [
        asked["regime"],
        asked.get("construction", "measured"),
        str(asked["seed"]),
        str(asked["epochs"]),
        f"{run['images_a_second']:.0f}",
        f"{run['training_seconds']:.0f}",
        f"{run['cpu_seconds']:.0f}",
        str(found["images"]),
        *(f"{100 * share:.2f} %" for share in (clean, by_constant, *certified_shares(certified))),
        f"{found['body_pixel']:.9f}",
        run["code"]["commit"][:10],
    ]


def attacked_row(path: Path) -> list[str]:
    """The row of a kept evaluation by AutoAttack; all three are numbers of the same images."""
    model = path.stem.removesuffix("-autoattack")
    found, run = _read(path), _read(path.parents[1] / "models" / model / "run.json")
    (clean,) = (one for one in found["results"] if one["attack"] == "clean")
    (attack,) = (one for one in found["results"] if one["attack"] == "autoattack")
    counts = found["images"], clean["correct"], attack["correct"], attack["certified"]
    asked = run["configuration"]
    return [asked["regime"], str(asked["seed"]), *map(str, counts)]


def certified_shares(certified: Any) -> list[float]:
    """Of the four radii in rising order."""
    return [entry["accuracy"] for entry in sorted(certified, key=lambda entry: entry["epsilon"])]


def page(text: str) -> str:
    """The page with the tables put between their marks."""
    for name, networks in kept().items():
        body = markdown.table(HEADER, map(row, networks))
        text = markdown.between(text, name, "paper_repro.certified_page", body)
    attacked = sorted(KEPT.glob("*/evaluations/certified-*-autoattack.json"))
    body = markdown.table(ATTACKED, map(attacked_row, attacked))
    return markdown.between(text, "autoattack", "paper_repro.certified_page", body)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
