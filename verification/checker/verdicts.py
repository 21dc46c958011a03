"""A whole certificate: what it claims, derived again."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from fractions import Fraction
from itertools import accumulate
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from verification.checker import proofs, replay
from verification.checker.chain import Chain, Line, Spectra
from verification.checker.nodes import check_shapes, round_up
from verification.checker.proofs import PROOFS
from verification.checker.reading import (
    LARGEST_JSON,
    Unreadable,
    Wrong,
    agree,
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
from verification.checker.work import CALL, limited, spend

FORMAT = "dsnn-certificate/1"
ATTESTED = (
    "that each graph computes what the module of its name computes",
    "that the embedded weights are those of the target (dsnn check CERTIFICATE TARGET compares "
    "them with those of a .safetensors file)",
    "that pixels are normalised by the mean and std of the graphs that state some",
)
"""What is not derived here, and every certificate says so."""
SLACK = 1e-9
"""How much worse than derived a floating-point result is stated, relative, so that another
machine's rounding agrees."""
LARGEST_TENSORS, LONGEST_NAME = 2**33, 1000
"""Bytes of a tensor file, and characters of a claim or of the name of a module."""
_NUMBER = r"[0-9.eE+/-]{1,60}"
_CLAIM = re.compile(
    rf"(?:(?P<glob>[^:]+):)?(?:contractive|lipschitz(?P<pixel>\[pixel\])?<=(?P<limit>{_NUMBER})"
    rf"|(?P<equality>{'|'.join(PROOFS)})(?:\[dim=(?P<dim>-?[0-9]{{1,2}})\])?"
    rf"(?:~(?P<tolerance>{_NUMBER}))?)"
)
DEFAULTS = {"float64": Fraction(1, 10**10)}
"""The tolerance of an equality that names none, by dtype of the part's weights; 1e-5 for others."""


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
    """`contractive` and `lipschitz<=L`: the limit, and whether it may be reached; or an
    `equality`: the limit of its defect, None for that of the weights' dtype."""

    glob: str | None
    limit: Fraction | None
    strict: bool = False
    pixel: bool = False
    equality: str | None = None
    dim: int = -1


def parse_claim(text: str) -> Claim:
    """A claim. Raises Unreadable on another text."""
    match = _CLAIM.fullmatch(text) if len(text) <= LONGEST_NAME else None
    need(match is not None, f"{text[:60]!r} is no claim that is checked here")
    assert match is not None
    name, written = match["equality"], match["limit"] or match["tolerance"]
    need(name == "symplectic" or match["dim"] is None, f"{text[:60]!r} has no dimension")
    pixel = match["pixel"] is not None
    need(not (pixel and match["glob"]), f"{text[:60]!r}: pixels are those of the whole network")
    if written is None:
        return Claim(match["glob"], None if name else Fraction(1), name is None, False, name,
                     int(match["dim"] or -1))  # fmt: skip
    try:
        sizes = [float(part) for part in written.split("/")]
        need(all(0 < size < math.inf for size in sizes), f"{text[:60]!r} has no positive bound")
        limit = Fraction(written)
    except ValueError as error:
        raise Unreadable(f"{text[:60]!r} has no positive bound") from error
    return Claim(match["glob"], limit, False, pixel, name, int(match["dim"] or -1))


def tolerances(module: str, tensors: Mapping[str, np.ndarray]) -> set[Fraction]:
    """What an equality of a part may be off by where its claim does not say."""
    spend(500 * len(tensors))
    prefix = f"weights/{module}." if module else "weights/"
    kinds = {v.dtype.name for k, v in tensors.items() if k.startswith(prefix)}
    floats = {kind for kind in kinds if kind.startswith("float")} or {"float32"}
    return {DEFAULTS.get(kind, Fraction(1, 10**5)) for kind in floats}


def matches(pattern: list[str], parts: list[str]) -> bool:
    """Whether a module's path matches a glob: ** is any number of components, * is one, or any
    characters of one."""
    return _wild(pattern, parts, "**", lambda piece, part: _wild(piece, part, "*", str.__eq__))


def _wild(
    pattern: Sequence[str], found: Sequence[str], star: str, fits: Callable[[str, str], bool]
) -> bool:
    """Whether the elements fit those of a pattern, in which `star` stands for any number."""
    reached = [True, *(False for _ in found)]  # which beginnings of `found` fit
    for piece in pattern:
        if piece == star:
            reached = list(accumulate(reached, or_))
        else:
            pairs = zip(reached, found, strict=False)
            reached = [False, *(known and fits(piece, each) for known, each in pairs)]
    return reached[-1]


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
        need(len(self.module) <= LONGEST_NAME, "the name of a module is too long")
        if (given := self.normalisation) is not None:
            record(given, "normalisation", mean=listed(is_number), std=listed(is_number))
            fits = len(given["mean"]) == len(given["std"]) > 0 and min(given["std"]) > 0
            agree(fits, "no such input normalisation")
            channels = next(iter(self.chain.graph.values())).shape[:1]
            agree(channels == (len(given["mean"]),), "the normalisation is of other channels")

    @property
    def line(self) -> Line | None:
        """The line from the input to the output."""
        return self.chain.lines.get((next(iter(self.chain.graph)), self.output))

    def above(self, claim: Claim, refuted: bool = False) -> tuple[str | None, float]:
        """The law of the upper bound on what is claimed, and that bound. None is looked for of an
        equality that a point speaks against."""
        if claim.equality is None:
            return (None if self.line is None else self.line.law), self.upper()
        if refuted:
            return None, math.inf
        found = proofs.prove(claim.equality, self.chain.graph, self.output, claim.dim)
        return (None, math.inf) if isinstance(found, str) else (found[0], round_up(found[1]))

    def below(self, claim: Claim, point: list[Any]) -> float:
        """What replaying a witness shows of the claimed constant, or defect, from below."""
        if claim.equality is None:
            agree(point[1] is not None, "a witness has two inputs")
            return self.replayed(point)
        along = None if point[1] is None else point[1].astype(np.float64)
        about = (claim.equality, claim.dim, point[0].astype(np.float64), along)
        return replay.defect(self.chain, self.output, *about)

    def upper(self) -> float:
        """The upper bound: that of the line, over the least std for pixels [T11]."""
        if self.line is None or self.normalisation is None:
            return math.inf if self.line is None else self.line.upper
        return round_up(Fraction(self.line.upper) / Fraction(min(self.normalisation["std"])))

    def replayed(self, pair: list[np.ndarray]) -> float:
        """Lower bound of |f(x) - f(y)| / |x - y| for a witness (x, y) of single inputs."""
        x, y = (side.astype(np.float64) for side in pair)
        agree(x.shape == y.shape, "the two inputs of a witness differ in shape")
        around = [replay.Value(side, 0.0) for side in (x, y)]
        if (given := self.normalisation) is not None:
            around = [replay.normalised(side, given["mean"], given["std"]) for side in (x, y)]
        moved = replay.moved(self.chain, self.output, around[0], around[1])
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
            bound=lambda v: isinstance(v, list) and len(v) == 2 and is_number(v[0])
            and _optional(is_number)(v[1]),
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
        with np.errstate(all="ignore"), limited():
            return _check(certificate, spectra or Spectra())
    except (ArithmeticError, ValueError, IndexError) as error:  # of Python's and NumPy's numbers
        raise Wrong(f"numbers out of range: {error}") from error


def _check(certificate: Certificate, spectra: Spectra) -> list[Checked]:
    content = certificate.content
    agree(content["attested"] == list(ATTESTED), "it does not say what it does not derive")
    agree(bool(content["claims"] or content["left_out"]), "it holds no verdict")
    unsigned = {name: value for name, value in content.items() if name != "digest"}
    agree(digest(unsigned) == content["digest"], "the digest is not that of the certificate")
    agree(
        canonical_sha256(certificate.weights) == content["weights"]["sha256"],
        "the hash of the weights is not that of the embedded weights",
    )
    chains: dict[str, Root] = {}
    bodies: dict[str, str] = {}
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
        body = digest(entry["graph"] | {"normalisation": None})
        same = bodies.setdefault(entry["graph"]["module"], body) == body
        agree(same, f"it holds two graphs of {entry['graph']['module']!r}")
    inputs = {(root.module, root.normalisation is None) for root in chains.values()}
    agree(len(inputs) == len(chains), "a graph is there twice, for other pixels")
    about = [(entry["claim"], entry["module"]) for entry in content["claims"]]
    agree(len(set(about)) == len(about), "a verdict is there twice")
    used = {entry["graph"] for entry in content["claims"]}
    agree(used == set(chains), "a graph is missing, or has no claim")
    return [_claim(certificate, entry, chains[entry["graph"]]) for entry in content["claims"]]


def _claim(certificate: Certificate, entry: Any, root: Root) -> Checked:
    """One verdict from the constant of its graph and its witness."""
    spend(10 * CALL + 1e3 * len(entry["claim"]) * (1 + len(entry["module"])))
    module = root.module
    claim, what = parse_claim(entry["claim"]), f"{entry['claim']} of {entry['module'] or 'all'}"
    agree(entry["module"] == module, f"{what}: its graph is that of {module!r}")
    glob = claim.glob.split(".") if claim.glob else []
    agree(matches(glob, module.split(".") if module else []), f"{what}: the glob does not match")
    agree(entry["arithmetic"] == "real", f"{what}: bounds are for real arithmetic")
    limit = Fraction(entry["limit"])
    usual = tolerances(module, certificate.tensors) if claim.limit is None else {claim.limit}
    agree(len(usual) == 1, f"{what}: its weights are of several types, and so are its tolerances")
    agree(limit in usual, f"{what}: its limit is {claim.limit}")
    agree(claim.pixel == (root.normalisation is not None), f"{what}: a graph of other inputs")
    point = None
    if entry["witness"] is not None:
        record(entry["witness"], "a witness", x=of(str), y=_optional(of(str)))
        names = [entry["witness"][side] for side in ("x", "y")]
        known = all(n in certificate.tensors for n in names if n is not None)
        need(known, f"{what}: there is no such witness")
        point = [None if n is None else certificate.tensors[n] for n in names]
    law, upper = root.above(claim, point is not None)
    shown = 0.0 if point is None else root.below(claim, point)
    lower, stated = entry["bound"]
    agree(entry["theorem"] == law, f"{what}: its last law is {law}")
    agree((math.inf if stated is None else stated) == upper, f"{what}: its constant is {upper!r}")
    near = {coarse(shown), coarse(shown * (1 - 2 * SLACK))} if shown > 0 else {0.0}
    agree(
        lower <= shown and lower in near,
        f"{what}: replaying its witness shows {shown!r}, not {lower!r}",
    )
    agree(lower <= upper, f"{what}: its interval is empty")
    verdict = decide(claim, limit, lower, upper)
    agree(entry["verdict"] == verdict, f"{what} is {verdict}, not {entry['verdict'][:20]!r}")
    return Checked(entry["claim"], module, verdict, lower, upper)


def coarse(value: float) -> float:
    """A number of six digits at or below a positive one: what a replay shows on any machine."""
    return float(Context(6, ROUND_FLOOR).create_decimal_from_float(value))


def decide(claim: Claim, limit: Fraction, lower: float, upper: float) -> str:
    """The verdict on a claim about a constant, or a defect, in [lower, upper]."""
    if upper < limit or (upper == limit and not claim.strict):
        return "proved"
    return "refuted" if lower > limit or (lower == limit and claim.strict) else "unknown"


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
    return (
        "the file has the hash that the certificate states for its source; the embedded weights "
        "were not compared with those in it"
    )
