"""A whole certificate: what it claims, derived again."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from verification.checker import replay
from verification.checker.chain import Chain, Line, Spectra
from verification.checker.nodes import agree, check_shapes, round_up
from verification.checker.reading import (
    LARGEST_JSON,
    Unreadable,
    Wrong,
    canonical_sha256,
    digest,
    graph,
    is_fraction,
    is_number,
    listed,
    load_bytes,
    need,
    of,
    parse_json,
    record,
    tensors,
)

FORMAT = "dsnn-certificate/1"
ATTESTED = (
    "that each graph computes what the module of its name computes",
    "that the embedded weights are those of the target (dsnn check CERTIFICATE TARGET compares)",
)
"""What is not derived here, and every certificate says so."""
SLACK = 1e-9
"""How much worse than derived a floating-point result is stated, relative, so that another
machine's rounding agrees."""
LARGEST_TENSORS = 2**33
_CLAIM = re.compile(
    r"(?:(?P<glob>[^:]+):)?(?:contractive|lipschitz(?P<pixel>\[pixel\])?<=(?P<limit>[0-9.eE+/-]{1,60}))"
)


@dataclass(frozen=True)
class Checked:
    """One verdict that was derived again."""

    claim: str
    module: str
    verdict: str
    lower: float
    upper: float


@dataclass(frozen=True)
class Claim:
    """`contractive` or `lipschitz<=L`: the limit, and whether it may be reached."""

    glob: str | None
    limit: Fraction
    strict: bool
    pixel: bool

    def allows(self, constant: float) -> bool:
        return constant < self.limit if self.strict else constant <= self.limit


def parse_claim(text: str) -> Claim:
    """A claim of one of the two kinds. Raises Unreadable on another text."""
    match = _CLAIM.fullmatch(text)
    need(match is not None, f"{text[:60]!r} is no claim that is checked here")
    assert match is not None
    if match["limit"] is None:
        return Claim(match["glob"], Fraction(1), True, False)
    try:
        sizes = [float(part) for part in match["limit"].split("/")]
        need(all(0 < size < math.inf for size in sizes), f"{text[:60]!r} has no positive bound")
        limit = Fraction(match["limit"])
    except ValueError as error:
        raise Unreadable(f"{text[:60]!r} has no positive bound") from error
    return Claim(match["glob"], limit, False, match["pixel"] is not None)


def matches(pattern: list[str], parts: list[str]) -> bool:
    """Whether a module's path matches a glob: * is one component, ** any number of them."""
    if not pattern or not parts:
        return all(piece == "**" for piece in pattern) and not parts
    if pattern[0] == "**":
        return matches(pattern[1:], parts) or matches(pattern, parts[1:])
    piece = ".*".join(map(re.escape, pattern[0].split("*")))
    return re.fullmatch(piece, parts[0]) is not None and matches(pattern[1:], parts[1:])


@dataclass(frozen=True)
class Certificate:
    """A well-formed certificate with its tensors."""

    content: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The embedded state dict."""
        prefix = "weights/"
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Root:
    """A graph with its derivation, of the module `module`, after (pixels - mean) / std where it
    has a `normalisation`."""

    module: str
    normalisation: Any
    output: str
    chain: Chain

    def __post_init__(self) -> None:
        if (given := self.normalisation) is not None:
            record(given, "normalisation", mean=listed(is_number), std=listed(is_number))
            fits = len(given["mean"]) == len(given["std"]) > 0 and min(given["std"]) > 0
            agree(fits, "no such input normalisation")

    @property
    def line(self) -> Line | None:
        """The line from the input to the output."""
        return self.chain.lines.get((next(iter(self.chain.graph)), self.output))

    def upper(self) -> float:
        """The upper bound: that of the line, over the least std for pixels [T11]."""
        if self.line is None or self.normalisation is None:
            return math.inf if self.line is None else self.line.upper
        return round_up(Fraction(self.line.upper) / Fraction(min(self.normalisation["std"])))

    def replayed(self, pair: list[np.ndarray]) -> float:
        """Lower bound of |f(x) - f(y)| / |x - y| for a witness (x, y) of single inputs."""
        x, y = (side.astype(np.float64) for side in pair)
        agree(x.shape == y.shape, "the two inputs of a witness differ in shape")
        values = [replay.Value(side, 0.0) for side in (x, y)]
        if (given := self.normalisation) is not None:
            values = [replay.normalised(side, given["mean"], given["std"]) for side in (x, y)]
        moved = replay.moved(self.chain, self.output, values[0], values[1])
        return moved / replay.distance(x, y) * replay.DOWN


def _optional(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


def read(path: Path) -> Certificate:
    """Read a certificate and the tensors beside it. Raises Unreadable, and Wrong where the
    tensors are not those that the certificate was written with."""
    content = parse_json(load_bytes(path, LARGEST_JSON), str(path))
    need(isinstance(content, dict) and content.get("format") == FORMAT, f"{path} is no {FORMAT}")
    record(
        content, str(path), format=of(str), version=of(str), target=of(str), environment=of(dict),
        weights=of(dict), source=_optional(of(dict)), tensors=of(dict), claims=of(list),
        attested=listed(of(str)), graphs=of(dict),
        left_out=listed(of(dict)), digest=of(str),
    )  # fmt: skip
    record(content["weights"], "weights", sha256=of(str))
    record(content["tensors"], "tensors", file=of(str), sha256=of(str))
    if content["source"] is not None:
        record(content["source"], "source", file=of(str), sha256=of(str))
    for entry in content["left_out"]:
        record(entry, "left_out", claim=of(str), module=of(str), reason=of(str))
    for entry in content["claims"]:
        record(
            entry, "a claim", claim=of(str), limit=is_fraction, module=of(str), graph=of(str),
            verdict=of(str),
            bound=lambda v: isinstance(v, list) and len(v) == 2
            and all(x is None or is_number(x) for x in v),
            arithmetic=of(str), theorem=_optional(of(str)), witness=_optional(of(dict)),
        )  # fmt: skip
    name = content["tensors"]["file"]
    need(Path(name).name == name and name not in ("", ".", ".."), "the tensors are elsewhere")
    data = load_bytes(path.with_name(name), LARGEST_TENSORS)
    found = tensors(data, name)
    agree(hashlib.sha256(data).hexdigest() == content["tensors"]["sha256"],
          f"{name} is not the file that the certificate was written with")  # fmt: skip
    return Certificate(content, found)


def check(certificate: Certificate, spectra: Spectra | None = None) -> list[Checked]:
    """Derive everything again. Raises Unreadable or Wrong. `spectra` keeps singular values of
    the same tensors between calls."""
    try:
        with np.errstate(all="ignore"):
            return _check(certificate, spectra or Spectra())
    except (ArithmeticError, ValueError) as error:  # of Python's and NumPy's numbers
        raise Wrong(f"numbers out of range: {error}") from error


def _check(certificate: Certificate, spectra: Spectra) -> list[Checked]:
    content = certificate.content
    agree(content["attested"] == list(ATTESTED), "it does not say what it does not derive")
    agree(bool(content["claims"]), "it holds no verdict")
    unsigned = {name: value for name, value in content.items() if name != "digest"}
    agree(digest(unsigned) == content["digest"], "the digest is not that of the certificate")
    agree(
        canonical_sha256(certificate.weights) == content["weights"]["sha256"],
        "the hash of the weights is not that of the embedded weights",
    )
    chains: dict[str, Root] = {}
    for key, entry in content["graphs"].items():
        record(entry, f"graph {key}", graph=of(dict), lines=of(list))
        agree(digest(entry["graph"]) == key, f"graph {key} is not the one of that name")
        nodes, output = graph(entry["graph"], certificate.tensors)
        check_shapes(nodes)
        chain = Chain(nodes, spectra)
        for line in entry["lines"]:
            chain.check(line)
        loose = chain.loose((next(iter(nodes)), output), entry["lines"])
        agree(not loose, f"nothing rests on the line {' -> '.join(loose[0]) if loose else ''}")
        chains[key] = Root(entry["graph"]["module"], entry["graph"]["normalisation"], output, chain)
    about = [(entry["claim"], entry["module"]) for entry in content["claims"]]
    agree(len(set(about)) == len(about), "a verdict is there twice")
    used = {entry["graph"] for entry in content["claims"]}
    agree(used == set(chains), "a graph is missing, or has no claim")
    return [_claim(certificate, entry, chains[entry["graph"]]) for entry in content["claims"]]


def _claim(certificate: Certificate, entry: Any, root: Root) -> Checked:
    """One verdict from the constant of its graph and its witness."""
    module = root.module
    claim, what = parse_claim(entry["claim"]), f"{entry['claim']} of {entry['module'] or 'all'}"
    agree(entry["module"] == module, f"{what}: its graph is that of {module!r}")
    glob = claim.glob.split(".") if claim.glob else []
    agree(matches(glob, module.split(".") if module else []), f"{what}: the glob does not match")
    agree(entry["arithmetic"] == "real", f"{what}: bounds are for real arithmetic")
    agree(Fraction(entry["limit"]) == claim.limit, f"{what}: its limit is {claim.limit}")
    agree(claim.pixel == (root.normalisation is not None), f"{what}: a graph of other inputs")
    law = None if root.line is None else root.line.law
    agree(entry["theorem"] == law, f"{what}: its last law is {law}")
    upper, lower = root.upper(), 0.0
    stated = [math.inf if end is None else end for end in entry["bound"]]
    agree(stated[1] == upper, f"{what}: its constant is {upper!r}")
    if entry["witness"] is not None:
        record(entry["witness"], "a witness", x=of(str), y=of(str))
        names = [entry["witness"][side] for side in ("x", "y")]
        need(all(n in certificate.tensors for n in names), f"{what}: there is no such witness")
        pair = [certificate.tensors[name] for name in names]
        shown = root.replayed(pair)
        near = {coarse(shown), coarse(shown * (1 - 2 * SLACK))}
        agree(
            stated[0] <= shown and stated[0] in near,
            f"{what}: replaying its witness shows {shown!r}, not {stated[0]!r}",
        )
        lower = stated[0]
    agree(stated[0] == lower, f"{what}: a lower bound of {stated[0]!r} without a witness")
    agree(lower <= upper, f"{what}: its interval is empty")
    verdict = decide(claim, lower, upper)
    agree(entry["verdict"] == verdict, f"{what} is {verdict}, not {entry['verdict'][:20]!r}")
    return Checked(entry["claim"], module, verdict, lower, upper)


def coarse(value: float) -> float:
    """A number of six digits at or below a positive one: what a replay shows on any machine."""
    return float(Context(6, ROUND_FLOOR).create_decimal_from_float(value))


def decide(claim: Claim, lower: float, upper: float) -> str:
    """The verdict on a claim about a constant in [lower, upper]."""
    if claim.allows(upper):
        return "proved"
    return "unknown" if claim.allows(lower) else "refuted"


def compare(certificate: Certificate, target: Path) -> str:
    """Compare with the weights the certificate is said to be about: the canonical bytes of a
    .safetensors file, the file itself of another. Raises Unreadable or Wrong."""
    data = load_bytes(target, LARGEST_TENSORS)
    if target.suffix == ".safetensors":
        same = canonical_sha256(tensors(data, str(target)))
        agree(same == certificate.content["weights"]["sha256"], f"{target} holds other weights")
        return "the weights are those of the certificate"
    source = certificate.content["source"]
    agree(source is not None, "the certificate names no file of weights")
    agree(
        hashlib.sha256(data).hexdigest() == source["sha256"],
        f"{target} is not the file that was audited",
    )
    return "the file is the one that was audited"
