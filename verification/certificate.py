"""Certificates: verdicts with all that `dsnn check` needs to derive them again.

A certificate is NAME.json and, beside it, NAME.safetensors; docs/certificates.md has the format.
Numbers are those that the checker derives from the graph by the laws of the derivation, with the
singular values worsened by SLACK, so that another machine's rounding agrees. A verdict that the
checker does not come to, or only with a constant below the auditor's, is left out and named with
the reason: two implementations agree on every verdict that a certificate holds.
"""

import hashlib
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from dsnn.errors import UserError
from dsnn.files import atomic, write_json
from dsnn.weights import canonical_sha256
from verification import sdp
from verification.auditor import Audit, Report
from verification.capture import Uncapturable
from verification.checker import norms, reading, verdicts
from verification.checker.chain import CONTRACTIVE, TOLERANCE, Chain, Pair, Spectra, Values
from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import SLACK
from verification.constant import Constant as Derivation
from verification.graph import Constant, Graph
from verification.graph_file import written_nodes


@dataclass(frozen=True)
class Subject:
    """What was audited: `state` its weights, `source` the file they came from with its SHA-256,
    `statistics` the (mean, std) of its input normalisation."""

    target: str
    state: Mapping[str, Tensor]
    source: tuple[str, str] | None = None
    statistics: tuple[Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Finding:
    """One verdict of an audit about the module `module`, whose graph is `graph`.

    `constant` is the derivation of `upper`; for pixels its last part is that for the graph. The
    `witness` is a pair of single inputs.
    """

    claim: str
    module: str
    verdict: str
    upper: float
    graph: Graph | Uncapturable
    constant: Derivation | None
    witness: tuple[Tensor, Tensor] | None = None
    arithmetic: str = "real"


def certify(path: str | Path, audit: Audit, report: Report) -> list[str]:
    """Write the certificate of a finished audit. Returns and raises as `write`."""
    of = audit.subject
    file_sha256 = of.about.get("file_sha256")
    source = None if file_sha256 is None else (Path(of.text).name, str(file_sha256))
    findings = [
        Finding(
            verdict.claim,
            verdict.module,
            verdict.outcome,
            verdict.upper,
            audit.parts.graph(verdict.module),
            verdict.constant,
            None if verdict.pair is None else (verdict.pair.x, verdict.pair.y),
            verdict.arithmetic,
        )
        for verdict in report.verdicts
    ]
    subject = Subject(of.text, of.parts.state, source, of.statistics)
    return write(path, subject, findings)


PRODUCTS = ("T9-switching", "T10-flexible-switching")
"""Theorems whose constant is the product of those of their steps: a certificate has the steps."""


class _LeftOut(Exception):
    """Why a verdict is not in the certificate."""


def write(path: str | Path, subject: Subject, findings: Iterable[Finding]) -> list[str]:
    """Write the certificate `path` (.json) and its tensors beside it; each file whole or not at
    all. Returns what was left out, a line each. Raises UserError on another ending, and as
    `dsnn.files.atomic`."""
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"--certificate {path}: name it with the ending .json")
    writer = _Writer(subject)
    for finding in findings:
        writer.add(finding)
    tensors = save({name: v.copy(order="C") for name, v in writer.tensors.items()})
    beside = path.with_suffix(".safetensors")
    content = writer.content(beside.name, hashlib.sha256(tensors).hexdigest())
    with atomic(beside) as temporary:
        temporary.write_bytes(tensors)
    write_json(path, content | {"digest": reading.digest(content)})
    return [f"{x['claim']} of {x['module'] or 'the network'}: {x['reason']}" for x in writer.left]


@dataclass
class _Writer:
    subject: Subject
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    graphs: dict[str, Any] = field(default_factory=dict)
    claims: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)
    spectra: Spectra = field(default_factory=Spectra)

    def __post_init__(self) -> None:
        self.folded: dict[bytes, str] = {}
        for name, tensor in self.subject.state.items():
            self.tensors[f"weights/{name}"] = tensor.detach().cpu().numpy()

    def content(self, file: str, sha256: str) -> dict[str, Any]:
        """The certificate without its digest."""
        subject, source = self.subject, self.subject.source
        return {
            "format": verdicts.FORMAT,
            "version": version("dsnn"),
            "target": subject.target,
            "environment": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "weights": {"sha256": canonical_sha256(subject.state)},
            "source": None if source is None else {"file": source[0], "sha256": source[1]},
            "tensors": {"file": file, "sha256": sha256},
            "attested": list(verdicts.ATTESTED),
            "graphs": self.graphs,
            "claims": self.claims,
            "left_out": self.left,
        }

    def add(self, finding: Finding) -> None:
        """Add one verdict, or say why it is left out."""
        try:
            self.claims.append(self._claim(finding, verdicts.parse_claim(finding.claim)))
        except (_LeftOut, Wrong, Unreadable, ArithmeticError) as reason:
            about = {"claim": finding.claim, "module": finding.module, "reason": str(reason)}
            self.left.append(about)

    def _claim(self, finding: Finding, claim: verdicts.Claim) -> dict[str, Any]:
        """The verdict with the checker's numbers; it must come to the audit's verdict."""
        if isinstance(finding.graph, Uncapturable) or finding.constant is None:
            raise _LeftOut("there is no graph, or no derivation, of it")
        if finding.arithmetic != "real":
            raise _LeftOut(f"its arithmetic is {finding.arithmetic}, and not real")
        if sdp.used(finding.constant):
            raise _LeftOut("its bound is by LipSDP, for which the checker has no law")
        graph = self._graph(finding.graph, finding.module, claim.pixel)
        key = reading.digest(graph)
        nodes, output = reading.graph(graph, self.tensors)
        chain = Chain(nodes, self.spectra)
        constant = finding.constant.parts[-1] if claim.pixel else finding.constant
        lines = self._lines(chain, constant) if math.isfinite(finding.upper) else []
        root = verdicts.Root(finding.module, graph["normalisation"], output, chain)
        upper, lower, witness = root.upper(), 0.0, None
        if not (upper == finding.upper or upper >= finding.upper * (1 - TOLERANCE)):
            raise _LeftOut(f"the checker derives {upper!r}, the audit {finding.upper!r}")
        if finding.witness is not None and finding.verdict != "proved":
            pair = [t.detach().cpu().numpy() for t in finding.witness]
            lower = verdicts.coarse(root.replayed(pair) * (1 - SLACK))
            witness = {s: self._fold(v, "witness") for s, v in zip("xy", pair, strict=True)}
        verdict = verdicts.decide(claim, lower, upper)
        if verdict != finding.verdict:
            raise _LeftOut(f"the checker calls it {verdict}, the audit {finding.verdict}")
        self.graphs[key] = {"graph": graph, "lines": lines}
        return {
            "claim": finding.claim,
            "limit": str(claim.limit),
            "module": finding.module,
            "graph": key,
            "verdict": verdict,
            "bound": [lower, None if math.isinf(upper) else upper],
            "arithmetic": "real",
            "theorem": None if root.line is None else root.line.law,
            "witness": witness,
        }

    # -- the graph --

    def _graph(self, graph: Graph, module: str, pixel: bool) -> dict[str, Any]:
        normalisation = None
        if pixel and self.subject.statistics is not None:
            mean, std = self.subject.statistics
            normalisation = {"mean": list(mean), "std": list(std)}
        nodes = written_nodes(graph, lambda constant: self._key(constant, module))
        return {
            "module": module,
            "normalisation": normalisation,
            "output": graph.output,
            "nodes": nodes,
        }

    def _key(self, constant: Constant, module: str) -> str:
        """The key of a constant's tensor: a weight's where it is that weight, bit by bit."""
        array = constant.value.detach().cpu().numpy()
        key = "weights/" + ".".join(filter(None, (module, constant.name)))
        stored = self.tensors.get(key)
        same = stored is not None and stored.dtype == array.dtype and stored.shape == array.shape
        if same and stored is not None and stored.tobytes() == array.tobytes():
            return key
        return self._fold(array, "folded")

    def _fold(self, array: np.ndarray, folder: str) -> str:
        """The key of a tensor that is not one of the weights; equal ones are stored once."""
        about = f"{folder} {array.dtype} {array.shape} ".encode()
        data = about + hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
        if data not in self.folded:
            self.folded[data] = f"{folder}/{len(self.folded)}"
            self.tensors[self.folded[data]] = array
        return self.folded[data]

    # -- the lines --

    def _lines(self, chain: Chain, root: Derivation) -> list[dict[str, Any]]:
        """The derivation as lines, each after its parts; the checker's numbers."""
        found: list[dict[str, Any]] = []
        smallest = {
            (part.start, part.end)
            for line in root.lines()
            if line.law == CONTRACTIVE
            for part in line.parts
        }
        for line in _in_order(root):
            pair: Pair = (line.start, line.end)
            parts = [(part.start, part.end) for part in line.parts]
            stated: Values = {}
            if line.law == "norm":
                stated = self._spectrum(chain, line, pair in smallest)
            law = "chain" if line.law in PRODUCTS else line.law
            derived = chain.derive(*pair, law, parts, stated, f"line {' -> '.join(pair)}")
            chain.lines[pair] = derived
            found.append(
                {
                    "start": line.start,
                    "end": line.end,
                    "law": law,
                    "parts": [list(part) for part in parts],
                    "values": {name: _number(v) for name, v in derived.values.items()},
                    "upper": derived.upper,
                }
            )
        return found

    def _spectrum(self, chain: Chain, line: Derivation, with_smallest: bool) -> Values:
        """Singular values as the checker derives them, or as the audit does where those are
        better (the checker then needs a factorisation), worsened by SLACK."""
        node = chain.graph[line.end]
        extent = chain.extent(node)
        norm, smallest = self.spectra.of(node, extent, "largest"), None
        coarse = max(norms.operator(node, extent).sides()) > norms.LARGEST_TORUS
        if line.values["norm"] < norm * (1 - TOLERANCE) and not coarse:
            norm = float(line.values["norm"])
        if with_smallest:
            smallest = self.spectra.of(node, extent, "smallest")
            if line.values["smallest"] > smallest * (1 + TOLERANCE):
                smallest = float(line.values["smallest"])
        return {
            "norm": Fraction(norm * (1 + SLACK)),
            "smallest": None if smallest is None else Fraction(smallest * (1 - SLACK)),
            "factor": node.constants["weight"].factor,
        }


def _in_order(root: Derivation) -> list[Derivation]:
    """Every line once, after its parts."""
    found: dict[Pair, Derivation] = {}
    pending = [(root, False)]
    while pending:
        line, ready = pending.pop()
        if ready:
            found.setdefault((line.start, line.end), line)
        elif (line.start, line.end) not in found:
            pending.append((line, True))
            pending += [(part, False) for part in reversed(line.parts)]
    return list(found.values())


def _number(value: Fraction | None) -> float | str | None:
    """A double as a number, any other fraction as a string."""
    if value is None:
        return None
    power_of_two = value.denominator & (value.denominator - 1) == 0
    if power_of_two and value.denominator > 1 and Fraction(float(value)) == value:
        return float(value)
    return str(value)
