"""Keep a trained network: its results and, of a certified one, its weights and its certificate.

`python -m paper_repro.keep RUN EVALUATION.json`: RUN is the folder of a run of `dsnn train`, the
other the result of `dsnn evaluate --json` on its weights. The results go to where
`paper_repro.models` finds them; AutoAttack, which sees fewer images, has a place of its own. A
short run is known by its settings. The weights of other certified networks go into the zoo of this
checkout, with a certificate that `dsnn check` accepted.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.errors import UserError
from dsnn.files import write_json
from dsnn.models import CERTIFIED
from dsnn.zoo import index
from paper_repro import certified_page, grid_page, models
from paper_repro.models import KEPT, Model, Source
from paper_repro.script import answer

PLACES = ("target", "table")
"""Entries that say where files were on the machine of the run."""
RUN, EVALUATION = "configuration", "results"
"""What the result of a training has, and that of an evaluation."""
_, *CLAIMS = models.CLAIMS


def keep(run: Path, evaluation: Path, folder: Path = KEPT) -> Model:
    """Keep the two results of a network. Raises UserError when they are no results or not of the
    same weights."""
    trained, evaluated = _read(run, RUN), _read(evaluation, EVALUATION)
    if trained["sha256"] is None or trained["sha256"] != evaluated["sha256"]:
        raise UserError(f"{evaluation} is not about the weights of {run}: evaluate those")
    evaluated = {key: value for key, value in evaluated.items() if key not in PLACES}
    asked = trained["configuration"]
    known = asked["regime"], asked["dataset"]
    model = Model(Source.certified, *known, seed=asked["seed"])
    if asked["regime"] not in CERTIFIED:
        model = Model(Source.retrained, *known, f"{asked['margin']:g}", asked["seed"])
    model = _short(asked) or model
    folder = folder / asked["scale"]
    if attacked(evaluated):
        write_json(folder / "evaluations" / f"{model.id}-autoattack.json", evaluated)
    else:
        write_json(folder / "models" / model.id / "run.json", trained)
        write_json(folder / "evaluations" / f"{model.id}.json", evaluated)
    return model


def _short(asked: Mapping[str, Any]) -> Model | None:
    """The short run of these settings, whatever folder it lies in; None where they are others."""
    for model in models.short():
        settings = {"regime": model.regime, "dataset": model.dataset, "seed": model.seed}
        file = models.DATA / f"short-{model.construction}.toml"
        changed = tomllib.loads(file.read_text(encoding="utf-8"))
        if all(asked.get(name) == value for name, value in {**settings, **changed}.items()):
            return model
    return None


def attacked(evaluation: Mapping[str, Any]) -> bool:
    """Whether AutoAttack is in the result of an evaluation."""
    return any(row["attack"] == "autoattack" for row in evaluation["results"])


def certify(model: index.Model) -> None:
    """Write a certificate of `CLAIMS` about a network of the zoo and derive it again. Raises
    UserError where it is refused."""
    certificate, weights = certificate_of(model.file), index.FOLDER / model.file
    certificate.parent.mkdir(exist_ok=True)
    claims = [part for claim in CLAIMS for part in ("--claim", claim)]
    audit = ["audit", index.PREFIX + model.name, *claims, "--certificate", str(certificate)]
    for command in (audit, ["check", str(certificate), str(weights)]):
        done = subprocess.run(
            [sys.executable, "-m", "dsnn", *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"dsnn {' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def card(run: dict[str, Any], evaluation: dict[str, Any]) -> dict[str, str]:
    """The zoo's entries on a kept network."""
    asked = run["configuration"]
    clean = next(r["accuracy"] for r in evaluation["results"] if r["attack"] == "clean")
    shares = certified_page.certified_shares(evaluation["certified_accuracy"])
    radii = ", ".join(
        f"{100 * share:.2f} % at {at}"
        for share, at in zip(shares, ("36/255", "72/255", "108/255", "1"), strict=True)
    )
    return {
        "proved": " and ".join(CLAIMS),
        "arithmetic": evaluation["certified_arithmetic"],
        "accuracy": f"{100 * clean:.2f} % clean, certified {radii}; "
        f"{evaluation['images']} test images",
        "trained": f"{asked['epochs']} epochs at scale {asked['scale']}, seed {asked['seed']}, "
        f"commit {run['code']['commit'][:10]}",
    }


def certificate_of(name: str) -> Path:
    """Of the zoo's file of that name."""
    return index.FOLDER / "certificates" / f"{Path(name).stem}.json"


def _read(path: Path, what: str) -> dict[str, Any]:
    """A result with the weights' sum and an entry `what`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not {"sha256", what} <= found.keys():
        raise UserError(f"cannot read {path}: it is no result of `dsnn train` or `dsnn evaluate`")
    return found


def main(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the training.")],
    evaluation: Annotated[Path, typer.Argument(help="The JSON of `dsnn evaluate`.")],
) -> None:
    model = keep(folder / "run.json", evaluation)
    run, found = _read(folder / "run.json", RUN), _read(evaluation, EVALUATION)
    if model.source != Source.certified:
        grid_page.main()
        return
    if not attacked(found) and not model.construction:
        asked = run["configuration"]
        variant = f"{model.regime.removeprefix('certified-')}-{model.seed}"
        kept = index.add(
            folder / "weights.safetensors",
            f"Dsnn2026Certified_{variant}",
            asked["dataset"],
            asked["margin"],
            card(run, found),
        )
        certify(kept)
    certified_page.main()


if __name__ == "__main__":
    sys.exit(answer(main))
