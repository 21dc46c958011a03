"""TARGET as text: weights files, factories, architectures and the zoo, as parts to audit.

========================================== =======================================================
text                                       is
========================================== =======================================================
FILE.safetensors, FILE.pt                  a network of ours or published, read by `dsnn.weights`
package.module:factory                     what the factory returns, captured in a sandbox
arch:NAME[?signed_steps=false&channels=..] all networks that the architecture admits
zoo:ID/DATASET/MARGIN                      a trained network of the zoo
========================================== =======================================================
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError
from dsnn.zoo.loading import load_target
from verification import architectures, sandbox
from verification.architectures import Architecture
from verification.claims import Claim
from verification.parts import Live, Parts, Seen
from verification.wording import one_line

IMAGE = (3, SIDE, SIDE)
"""What the CIFAR networks take."""
LARGEST = 2**26
"""Entries of one example."""

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Target:
    """What is audited: `parts` with their graphs, (mean, std) of the input normalisation where it
    is known, and `about`, what else the report says of it.

    With an `architecture`, `parts` are those of one network that it admits: verdicts on them are
    turned into verdicts on the architecture by `Architecture.over_all`.
    """

    text: str
    parts: Parts
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    architecture: Architecture | None = None


def resolve(
    text: str,
    claims: Iterable[Claim] = (),
    *,
    arch: str | None = None,
    shape: tuple[int, ...] | None = None,
    budget: float = 0.0,
) -> Target:
    """Find what `text` names. `arch` is for weights files, `shape` that of one example, `claims`
    and `budget` (seconds) say what the sandbox captures and how long it may take.

    Raises UserError on a text of no known form, and as what reads it does.
    """
    claims = list(claims)
    if text.startswith("arch:"):
        _only_for_files(text, arch)
        return _architecture(text, claims, shape)
    if text.startswith("zoo:"):
        _only_for_files(text, arch)
        return _weights(text, None, shape)
    if text.endswith((".safetensors", ".pt")) or _exists(text):
        return _weights(text, arch, shape)
    if _FACTORY.fullmatch(text):
        _only_for_files(text, arch)
        return _factory(text, claims, shape, budget)
    raise UserError(
        f"target {one_line(text)!r} is no file: a .safetensors or .pt file, "
        "package.module:factory, arch:NAME or zoo:ID/DATASET/MARGIN"
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """`3,32,32`, the shape of one example without a batch. Raises UserError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) <= 8 and all(re.fullmatch(r"[1-9]\d{0,8}", part, re.ASCII) for part in parts):
        shape = tuple(map(int, parts))
        if math.prod(shape) <= LARGEST:
            return shape
    raise UserError(
        f"--input-shape {one_line(text)}: positive whole numbers with commas between "
        f"them, as in 3,32,32, of at most {LARGEST} entries"
    )


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a name
        return False


def _only_for_files(text: str, arch: str | None) -> None:
    if arch is not None:
        raise UserError(f"--arch {arch} is for weights files, and {text} is none: leave it out")


def _image(text: str, shape: tuple[int, ...] | None) -> None:
    if shape not in (None, IMAGE):
        given, taken = (",".join(map(str, s)) for s in (shape or (), IMAGE))
        raise UserError(f"--input-shape {given}: {text} takes {taken}")


def _weights(text: str, arch: str | None, shape: tuple[int, ...] | None) -> Target:
    _image(text, shape)
    loaded = load_target(text, arch)
    about: dict[str, Any] = {"file_sha256": loaded.file_sha256, "card": vars(loaded.card)}
    if text.startswith("zoo:"):
        about["file"] = str(loaded.path)
    statistics = (loaded.card.mean, loaded.card.std)
    return Target(text, Live(loaded.net, IMAGE), statistics, about)


def _architecture(text: str, claims: list[Claim], shape: tuple[int, ...] | None) -> Target:
    _image(text, shape)
    architecture = architectures.parse(text.removeprefix("arch:"))
    limit = max((float(claim.limit) for claim in claims if claim.limit is not None), default=1.0)
    parts = Live(architecture.worst(limit), IMAGE, architectures.bright)
    about = {"parameters": "constructed, one network that the architecture admits"}
    return Target(text, parts, None, about, architecture)


def _factory(
    text: str, claims: list[Claim], shape: tuple[int, ...] | None, budget: float
) -> Target:
    if shape is None:
        raise UserError(f"{text}: give the shape of one example with --input-shape")
    globs = tuple(dict.fromkeys(claim.glob for claim in claims if claim.glob))
    default = sandbox.Limits()
    limits = sandbox.Limits(seconds=max(default.seconds, budget))
    captured = sandbox.capture_factory(text, shape, globs, limits)
    return Target(text, Seen(captured), None, {"isolation": list(captured.layers)})
