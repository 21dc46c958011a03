"""How to keep norms at their limits, compared by training: measured after it, or by construction.

`python -m paper_repro.constructions OUT` trains two narrow certified networks for a few epochs in
either way (`dsnn.training.constructed`), with all else equal, evaluates them, and keeps the results
for the table in docs/certified-networks.md. A run that was stopped goes on.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from dsnn.errors import UserError
from dsnn.files import write_text
from dsnn.training.constructed import CONSTRUCTIONS
from paper_repro import certified_page, keep
from paper_repro.script import answer

REGIMES = ("certified-non-expansive", "certified-switch")
CONFIGURATION = """\
channels = [24, 96]
depth = [1, 2]
epochs = 3
pad = 1
construction = "{construction}"
"""
RADII = ("36/255", "72/255", "108/255", "1")
IMAGES = "2048"


def compare(out: Path, regime: str, construction: str) -> None:
    """Train, evaluate and keep one network. Raises UserError where a command fails."""
    folder = out / f"{regime}-{construction}"
    config, evaluation = folder.with_suffix(".toml"), folder.with_suffix(".json")
    write_text(config, CONFIGURATION.format(construction=construction))
    asked = ("--regime", regime, "--scale", "cpu", "--config", str(config), "--out", str(folder))
    _dsnn("train", *asked, "--resume")
    radii = (part for radius in RADII for part in ("--eps", radius))
    weights = str(folder / "weights.safetensors")
    _dsnn(
        *("evaluate", weights, *radii, "--limit", IMAGES),
        *("--out", str(out / "evaluations"), "--json", str(evaluation)),
    )
    keep.keep(folder / "run.json", evaluation, certified_page.CONSTRUCTIONS / construction)


def _dsnn(*arguments: str) -> None:
    code = subprocess.run([sys.executable, "-m", "dsnn", *arguments], check=False).returncode
    if code:
        raise UserError(f"`dsnn {arguments[0]}` ended with exit code {code}: see above")


def main(out: Annotated[Path, typer.Argument(help="The folder of the runs.")]) -> None:
    for regime in REGIMES:
        for construction in CONSTRUCTIONS:
            compare(out, regime, construction)
    certified_page.main()


if __name__ == "__main__":
    sys.exit(answer(main))
