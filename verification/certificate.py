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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from torch import Tensor

from dsnn.errors import UserError
from dsnn.files import atomic, write_json
from verification.auditor import Audit
from verification.capture import Uncapturable
from verification.certificate_lines import TOLERANCE, LeftOut, lines
from verification.checker import proofs, reading, verdicts
from verification.checker.chain import Chain, Spectra
from verification.checker.nodes import check_shapes
from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import SLACK
from verification.checker.work import limited
from verification.constant import Constant as Derivation
from verification.graph import Constant, Graph
from verification.graph_file import written_nodes
from verification.verdicts import Report, Verdict


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

    `constant` is the derivation of `upper`; for pixels its last part is that for the graph; None
    for an equality. The `witness` is a pair of single inputs, or a point where an equality fails
    and the directions (k, *shape) that show it, None where it needs none.
    """

    claim: str
    module: str
    verdict: str
    upper: float
    graph: Graph | Uncapturable
    constant: Derivation | None
    witness: tuple[Tensor, Tensor | None] | None = None
    arithmetic: str = "real"


def certify(path: str | Path, audit: Audit, report: Report) -> list[str]:
    """Write the certificate of a finished audit. Returns and raises as `write`."""
    of = audit.subject
    file_sha256 = of.about.get("file_sha256")
    file = str(of.about.get("file", of.text))
    source = None if file_sha256 is None else (Path(file).name, str(file_sha256))
    findings = [
        Finding(
            verdict.claim,
            verdict.module,
            verdict.outcome,
            verdict.upper,
            audit.parts.graph(verdict.module),
            verdict.constant,
            _witness(verdict),
            verdict.arithmetic,
        )
        for verdict in report.verdicts
    ]
    subject = Subject(of.text, of.parts.state, source, of.statistics)
    return write(path, subject, findings)


def _witness(verdict: Verdict) -> tuple[Tensor, Tensor | None] | None:
    if verdict.pair is not None:
        return verdict.pair.x, verdict.pair.y
    return None if verdict.point is None else (verdict.point, verdict.directions)


def _rounded(graph: Graph) -> bool:
    """Whether a constant of it is only near the exact one, as those of a batch normalisation."""
    return any(c.rounded for node in graph for c in node.constants.values())


_REFUSED = (
    LeftOut, Wrong, Unreadable, ArithmeticError, AttributeError, IndexError, KeyError,
    MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What the checker may raise where it cannot derive a verdict."""


def _array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor. bfloat16, which NumPy has not, becomes float32."""
    tensor = tensor.detach().cpu()
    try:
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantized, ...
        raise LeftOut(f"a tensor that is no array: {error}") from error


def _readable(array: np.ndarray) -> np.ndarray:
    """The array, if the checker reads what is written of it."""
    try:
        reading.tensors(save({"": array.copy(order="C")}), "a tensor")
    except (Unreadable, SafetensorError, KeyError, TypeError) as error:
        raise LeftOut(f"the checker cannot read it: {error}") from error
    return array


def write(path: str | Path, subject: Subject, findings: Iterable[Finding]) -> list[str]:
    """Write the certificate `path` (.json) and its tensors beside it; each file whole or not at
    all. Returns what was left out, verdicts and weights, a line each. Raises UserError on another
    ending and where the checker does not read what was written, and as `dsnn.files.atomic`."""
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"--certificate {path}: name it with the ending .json")
    writer = _Writer(subject)
    findings = list(findings)
    writer.choose(findings)
    with limited():
        for finding in {(each.claim, each.module): each for each in findings}.values():
            writer.add(finding)
    tensors = save({name: v.copy(order="C") for name, v in writer.tensors.items()})
    beside = path.with_suffix(".safetensors")
    content = writer.content(beside.name, hashlib.sha256(tensors).hexdigest())
    with atomic(beside) as temporary:
        temporary.write_bytes(tensors)
    write_json(path, content | {"digest": reading.digest(content)})
    try:
        verdicts.read(path)
    except (Unreadable, Wrong) as error:
        raise UserError(f"--certificate {path}: the checker cannot read it: {error}") from error
    left = [f"{x['claim']} of {x['module'] or 'the network'}: {x['reason']}" for x in writer.left]
    return left + [f"the weights {name!r}: {why}" for name, why in writer.unread.items()]


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
        self.unread: dict[str, str] = {}
        self.best: dict[tuple[str, bool], Derivation] = {}
        for name, tensor in self.subject.state.items():
            try:
                self.tensors[f"weights/{name}"] = _readable(_array(tensor))
            except LeftOut as reason:
                self.unread[name] = str(reason)

    def content(self, file: str, sha256: str) -> dict[str, Any]:
        """The certificate without its digest."""
        subject, source = self.subject, self.subject.source
        weights = verdicts.Certificate({}, self.tensors).weights
        return {
            "format": verdicts.FORMAT,
            "version": version("dsnn"),
            "target": subject.target,
            "environment": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "weights": {"sha256": reading.canonical_sha256(weights)},
            "source": None if source is None else {"file": source[0], "sha256": source[1]},
            "tensors": {"file": file, "sha256": sha256},
            "attested": list(verdicts.ATTESTED),
            "graphs": self.graphs,
            "claims": self.claims,
            "left_out": self.left,
        }

    def choose(self, findings: Sequence[Finding]) -> None:
        """Keep the least constant of each part: an audit may tighten one between two claims."""
        for finding in findings:
            if (constant := finding.constant) is not None:
                place = (finding.module, "[pixel]" in finding.claim)
                known = self.best.setdefault(place, constant)
                self.best[place] = min(known, constant, key=lambda line: line.upper)

    def add(self, finding: Finding) -> None:
        """Add one verdict, or say why it is left out."""
        try:
            self.claims.append(self._claim(finding, verdicts.parse_claim(finding.claim)))
        except _REFUSED as reason:
            why = str(reason) or type(reason).__name__
            self.left.append({"claim": finding.claim, "module": finding.module, "reason": why})

    def _claim(self, finding: Finding, claim: verdicts.Claim) -> dict[str, Any]:
        """The verdict with the checker's numbers; it must come to the audit's verdict."""
        if isinstance(finding.graph, Uncapturable):
            raise LeftOut("there is no graph of it")
        if finding.arithmetic != "real":
            raise LeftOut(f"its arithmetic is {finding.arithmetic}, and not real")
        graph = self._graph(finding.graph, finding.module, claim.pixel)
        key = reading.digest(graph)
        nodes, output = reading.graph(graph, self.tensors)
        if key not in self.graphs:
            check_shapes(nodes)
        root = verdicts.Root(finding.module, graph["normalisation"], output,
                             Chain(nodes, self.spectra))  # fmt: skip
        stated: list[dict[str, Any]] = []
        if claim.equality is None:
            stated = self._derived(finding, root, claim.pixel)
        lower, witness = 0.0, None
        if finding.witness is not None and finding.verdict != "proved":
            point = [None if t is None else _array(t) for t in finding.witness]
            lower = verdicts.coarse(root.below(claim, point) * (1 - SLACK))
            witness = {s: None if v is None else self._fold(v, "witness")
                       for s, v in zip("xy", point, strict=True)}  # fmt: skip
        law, upper = root.above(claim, witness is not None)
        limits = {claim.limit}
        if claim.limit is None:
            limits = verdicts.tolerances(finding.module, self.tensors)
        if len(limits) != 1:
            raise LeftOut("its weights are of several types, and so are its tolerances")
        (limit,) = limits
        assert limit is not None
        verdict = verdicts.decide(claim, limit, lower, upper)
        if verdict != finding.verdict:
            reason = f"[{lower!r}, {upper!r}]"
            if claim.equality and not law:
                proof = proofs.prove(claim.equality, nodes, output, claim.dim)
                reason = proof if isinstance(proof, str) else reason
            raise LeftOut(f"the checker calls it {verdict}, the audit {finding.verdict}: {reason}")
        if claim.equality and law and upper < finding.upper and _rounded(finding.graph):
            raise LeftOut("constants of its graph are rounded, which the checker does not charge")
        self.graphs[key] = {"graph": graph, "lines": stated or self._lines_of(key)}
        return {
            "claim": finding.claim,
            "limit": str(limit),
            "module": finding.module,
            "graph": key,
            "verdict": verdict,
            "bound": [lower, None if math.isinf(upper) else upper],
            "arithmetic": "real",
            "theorem": law,
            "witness": witness,
        }

    def _lines_of(self, key: str) -> list[dict[str, Any]]:
        return self.graphs[key]["lines"] if key in self.graphs else []

    def _derived(self, finding: Finding, root: verdicts.Root, pixel: bool) -> list[dict[str, Any]]:
        """The lines of the best derivation there is of the graph, which all claims about it
        share; those of the audit's verdict on this one may be another."""
        found = self.best.get((finding.module, pixel))
        if found is None or finding.constant is None:  # that of one network proves none of many
            raise LeftOut("there is no derivation of it")
        constant = found.parts[-1] if pixel else found
        stated = lines(root.chain, constant) if math.isfinite(found.upper) else []
        upper = root.upper()
        if not (upper == found.upper or upper >= found.upper * (1 - TOLERANCE)):
            raise LeftOut(f"the checker derives {upper!r}, the audit {found.upper!r}")
        return stated

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
        array = _array(constant.value)
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
            name = f"{folder}/{len(self.folded)}"
            self.tensors[name] = _readable(array)
            self.folded[data] = name
        return self.folded[data]
