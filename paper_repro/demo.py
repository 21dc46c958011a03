"""The main job: `python -m paper_repro.demo --out out/demo [--data DIR]`.

Audits and evaluates published networks, checks the theorems, draws the figures that need no
training, and puts everything on one page. Where the published weights and CIFAR-10 are not found
it does the same with two narrow networks trained in seconds on generated images, and says so.
The audit refutes by design, so its exit code 1 is accepted; any other failure ends the demo.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from dsnn.cli import run
from dsnn.data.folder import DataFolder, data_folder
from dsnn.errors import UserError
from dsnn.files import check_writable, write_json
from dsnn.published import REGIMES
from paper_repro.models import CLAIMS, Model, Source
from paper_repro.published import IMAGES
from paper_repro.script import answer

MARGIN = "0.15"
ATTACKED = "switch-flexible"
CERTIFIED_AT = "36/255"
EPSILONS = (CERTIFIED_AT, "0.5")
STEPS = 150
FOUND_OR_NOT = (0, 1, 3)
"""Exit codes of an audit that did its work."""


@dataclass(frozen=True)
class Network:
    """One network of the demo: what the other commands call it and what the page says of it."""

    name: str
    regime: str
    target: str
    dataset: str
    margin: str | None


@dataclass(frozen=True)
class Input:
    """Which networks and images the demo runs on, and the words that say so."""

    networks: list[Network]
    noun: str
    words: str
    protocol: str
    images: int
    attacked: int


@dataclass
class Story:
    """The commands as they run, for the page; stops the demo at the first that fails."""

    out: Path
    commands: list[dict[str, Any]] = field(default_factory=list)

    def tell(
        self,
        kind: str,
        arguments: Sequence[str],
        json: str,
        network: str | None = None,
        accepted: tuple[int, ...] = (0,),
    ) -> None:
        """Run `dsnn ARGUMENTS --json out/JSON`; Failed on an exit code that is not accepted."""
        arguments = [*arguments, "--json", str(self.out / json)]
        line = shlex.join(["dsnn", *arguments])
        print(f"\n$ {line}", flush=True)
        start = time.perf_counter()
        code = run(arguments)
        sys.stdout.flush()
        if code not in accepted:
            raise Failed(line, code)
        self.commands.append(
            {
                "kind": kind,
                "network": network,
                "line": line,
                "exit": code,
                "seconds": round(time.perf_counter() - start, 1),
                "json": json,
            }
        )


class Failed(Exception):
    """A command of the demo ended with a code that it must not end with."""

    def __init__(self, line: str, code: int):
        super().__init__(f"`{line}` ended with exit code {code}")
        self.code = code


def published_input(folder: DataFolder) -> Input | None:
    """The three published networks at margin 0.15 with CIFAR-10, or None where one is missing."""
    networks = [
        Network(
            regime,
            regime,
            str(folder.path / Model(Source.published, regime, "cifar10", MARGIN).published_file),
            "cifar10",
            MARGIN,
        )
        for regime in REGIMES
    ]
    needed = [Path(network.target) for network in networks]
    needed.append(folder.path / "cifar-10-batches-py" / "test_batch")
    if not all(path.is_file() for path in needed):
        return None
    return Input(
        networks,
        "three published CIFAR-10 networks",
        f"Input: the authors' published weights of three regimes at margin {MARGIN} and CIFAR-10 "
        f"test images, from the data folder {folder}.",
        "published",
        IMAGES,
        64,
    )


def standin_input(folder: DataFolder, out: Path) -> Input:
    """Two narrow networks, trained here for `STEPS` steps on generated images."""
    from paper_repro.standin import REGIMES as NARROW
    from paper_repro.standin import save_standin, train

    networks = []
    for regime in NARROW:
        print(f"training a narrow {regime} network on generated images", flush=True)
        path = out / f"standin-{regime}.safetensors"
        save_standin(path, train(regime, steps=STEPS))
        networks.append(Network(f"narrow {regime}", regime, str(path), "generated", None))
    return Input(
        networks,
        "two narrow networks trained here in seconds",
        "Input: no published weights with CIFAR-10 images were found in the data folder "
        f"{folder}, so two narrow networks were trained here in seconds on generated images. "
        "They show what the commands do; nothing about the paper's networks follows from them.",
        "consistent",
        256,
        64,
    )


def tell_all(story: Story, given: Input, data: Path | None) -> None:
    """Every command of the demo, in order."""
    place = [] if data is None else ["--data", str(data)]
    story.tell("verify", ["verify", "--profile", "quick"], "verify.json")
    for network in given.networks:
        target = [network.target]
        if network.target.endswith(".pt"):
            target += ["--arch", network.regime]
        claims = [part for claim in CLAIMS for part in ("--claim", claim)]
        story.tell(
            "audit",
            ["audit", *target, *claims],
            f"audit-{network.regime}.json",
            network.name,
            FOUND_OR_NOT,
        )
        evaluate = ["evaluate", *target, "--dataset", network.dataset]
        evaluate += ["--protocol", given.protocol, "--out", str(story.out / "evaluate"), *place]
        clean = ["--attack", "clean", "--eps", CERTIFIED_AT, "--limit", str(given.images)]
        story.tell("evaluate", [*evaluate, *clean], f"evaluate-{network.regime}.json", network.name)
        if network.regime == ATTACKED:
            pgd = ["--attack", "pgd-paper", "--limit", str(given.attacked)]
            pgd += [part for epsilon in EPSILONS for part in ("--eps", epsilon)]
            story.tell("evaluate", [*evaluate, *pgd], "evaluate-pgd.json", network.name)
    figures = ["reproduce", "figures", "tables", "--out", str(story.out / "reproduce"), *place]
    story.tell("reproduce", figures, "reproduce.json")


def demo(out: Path, data: Path | None = None) -> str:
    """Run everything into `out`; returns the sentence that says what was found.

    Raises UserError on bad input and Failed where a command fails.
    """
    from paper_repro.page import build, finding

    check_writable(out / "index.html")
    folder = data_folder(data)
    given = published_input(folder)
    if given is None and data is not None:
        raise UserError(
            f"--data {data} lacks the published weights of margin {MARGIN} or CIFAR-10: "
            f"`dsnn data --data {data}` says what is missing; without --data a network is trained"
        )
    given = given or standin_input(folder, out)
    story = Story(out)
    tell_all(story, given, data)
    write_json(
        out / "demo.json",
        {
            "input": {"networks": given.noun, "words": given.words},
            "networks": [asdict(network) for network in given.networks],
            "commands": story.commands,
        },
    )
    build(out)
    return finding(out)


def main(
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("out/demo"),
    data: Annotated[
        Path | None, typer.Option(help="The data folder; else DSNN_DATA or the cache.")
    ] = None,
) -> int:
    start = time.perf_counter()
    try:
        found = demo(out, data)
    except Failed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return failure.code
    print(f"\n{found}")
    print(f"The report is {out / 'index.html'} ({time.perf_counter() - start:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(answer(main))
