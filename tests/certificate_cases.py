"""A certificate to read, alter and damage: verdicts of all three kinds on a small network."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnn.fields import GradientField, ResidualField
from dsnn.integrators import Alternation, Euler, FlexiblePair
from dsnn.operators import Convolution
from verification.capture import capture
from verification.certificate import Finding, Subject, write
from verification.checker.chain import Spectra
from verification.constant import Constant
from verification.graph import Graph
from verification.lipschitz import derive
from verification.norms import Spectra as AuditSpectra

STATISTICS = ((0.5, 0.25, 0.125), (0.25, 0.5, 0.75))
SHAPES = {"": (3, 6, 6), "flow": (4, 6, 6), "flow.1": (4, 6, 6), "head": (8,)}


class Small(nn.Module):
    """A network with a line of nearly every law."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lift = nn.Conv2d(3, 4, 3, padding=1)
        zero, one, circular = Convolution(4, 4), Convolution(4, 4), Convolution(4, 4, circular=True)
        self.flow = nn.Sequential(
            Euler(GradientField(circular, 4, 0.5), 0.75),
            Alternation(ResidualField(one, 4, 0.5), GradientField(zero, 4, 0.5), (0.125, 0.5)),
            FlexiblePair(
                GradientField(Convolution(4, 4), 4, 0.5), GradientField(Convolution(4, 4), 4, 0.0),
                (1.0, 0.0625),
            ),
        )  # fmt: skip
        for parameter in self.flow.parameters():
            if parameter.ndim == 4:
                parameter.data += 0.02 * torch.randn_like(parameter)
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.flow(torch.relu(self.lift(x))))
        x = torch.cat([x, 0.5 * torch.tanh(x) - x], 1)
        return self.head(self.mean(x)[:, :, 0, 1])


KNOWN: dict[Any, Any] = {}


def derived(net: nn.Module, spectra: AuditSpectra, path: str) -> tuple[Graph, Constant]:
    """The graph of a module and its constant, once."""
    if (path, spectra.tight) not in KNOWN:
        graph = capture(net.get_submodule(path), SHAPES[path])
        KNOWN[path, spectra.tight] = (graph, derive(graph, spectra))
    return KNOWN[path, spectra.tight]


def finding(net: nn.Module, spectra: AuditSpectra, claim: str, path: str, **about: Any) -> Finding:
    """The verdict that an audit would come to without searching for a witness."""
    graph, constant = derived(net, spectra, path)
    if "pixel" in claim:
        least = min(STATISTICS[1])
        constant = Constant(constant.upper / least, "chain", parts=(constant,))
    upper = constant.upper
    limit = float(claim.rpartition("<=")[2]) if "<=" in claim else 1.0
    proved = upper <= limit if "<=" in claim else upper < limit
    verdict = "proved" if proved else "unknown"
    return Finding(claim, path, about.get("verdict", verdict), upper, graph, constant)


@dataclass(frozen=True)
class Written:
    path: Path
    weights: Path
    content: dict[str, Any]
    data: bytes
    spectra: Spectra


def certified(folder: Path) -> Written:
    """A certificate with proved, refuted and unknown verdicts, and the weights it is about."""
    net, tight = Small().eval(), AuditSpectra(tight=True)
    weights = folder / "weights.safetensors"
    save_file(dict(net.state_dict()), weights)
    source = ("weights.pt", hashlib.sha256(weights.read_bytes()).hexdigest())
    (folder / "weights.pt").write_bytes(weights.read_bytes())
    x = torch.randn(3, 6, 6, dtype=torch.float64)
    pair = (x, x + 0.125 * torch.randn(3, 6, 6, dtype=torch.float64))
    refuted = finding(net, tight, "lipschitz<=1e-3", "", verdict="refuted")
    pixel = finding(net, tight, "lipschitz[pixel]<=1e-3", "", verdict="refuted")
    findings = [
        finding(net, tight, "lipschitz<=1000", ""),
        replace(refuted, witness=pair),
        replace(pixel, witness=pair),
        finding(net, tight, "lipschitz[pixel]<=1e4", ""),
        finding(net, tight, "flow:lipschitz<=1", "flow"),
        finding(net, tight, "flow.*:lipschitz<=1.125", "flow.1"),
        finding(net, tight, "h*:contractive", "head"),
    ]
    path = folder / "audit.json"
    assert write(path, Subject("small", net.state_dict(), source, STATISTICS), findings) == []
    content = json.loads(path.read_text())
    return Written(path, weights, content, path.with_suffix(".safetensors").read_bytes(), Spectra())
