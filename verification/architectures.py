"""Claims about an architecture: about every network that its construction and projection admit.

A claim is refuted by one admissible network, constructed here so that every part of it expands by
more than the claims allow, and searched and replayed like any other. It is proved only by what
holds for all admissible parameters: a theorem over the set, or a part without parameters. That one
network satisfies a claim says nothing about the others, so anything else is unknown.

Admissible is what `dsnn.training.project` leaves unchanged, in float32: for the constrained
regimes its times and rescalings, lifts of norm at most 1 before their scale, a head of Frobenius
norm at most 1. The kernels of the flows are free: the paper has a penalty on them and no bound.
For our certified ones it is what `dsnn.training.certified.finalise` makes: steps by their law for
the spectra that their own matrices are proved to have, a head of norm at most 1.
"""

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import TwoLayerField
from dsnn.integrators import Alternation, Euler, FixedEuler, FlexiblePair
from dsnn.models import ALL_ARCHITECTURES, CERTIFIED, CertifiedNet, CifarNet, build, build_certified
from dsnn.models.cifar import CHANNELS
from dsnn.operators import Convolution
from dsnn.training.certified import finalise
from dsnn.training.projection import constrained, project
from verification.claims import Claim

_REACH = 1e8
"""The largest limit that a construction goes for: beyond it float32 overflows."""
_LIFT = 0.97
"""A lift that the projection leaves alone: its bound of the norm is up to 3 % too large."""
AnyVerdict = TypeVar("AnyVerdict", bound=Any)


class Architecture(ABC):
    """All admissible parameters of a network `name`."""

    name: str

    @abstractmethod
    def worst(self, limit: float) -> nn.Module:
        """An admissible network that stretches, where any does, by more than `limit`."""

    @abstractmethod
    def theorem(self, claim: Claim, part: str) -> tuple[float, str] | None:
        """A bound for a part that holds for all admissible parameters, and why."""

    def over_all(self, verdict: AnyVerdict, claim: Claim, net: nn.Module) -> AnyVerdict:
        """What the verdict on `net`, an admissible network, says about all of them."""
        part, found = net.get_submodule(verdict.module), self.theorem(claim, verdict.module)
        fixed = not [*part.parameters(), *part.buffers()]
        if verdict.outcome == "refuted":
            text = f"by a constructed admissible network: {verdict.evidence.get('text', '')}"
            most = found[0] if found else math.inf  # that of one network bounds no other
            return dataclasses.replace(
                verdict,
                upper=verdict.upper if fixed else most,
                evidence={**verdict.evidence, "text": text},
            )
        if fixed:
            return verdict  # the same map whatever the parameters are
        if found is not None and claim.limit is not None and claim.allows(found[0]):
            evidence = {"kind": "theorem", "text": found[1]}
            return dataclasses.replace(
                verdict, outcome="proved", upper=found[0], evidence=evidence, constant=None
            )
        text = "no theorem over all admissible parameters, and no network found that refutes it"
        evidence = {"kind": "gap", "text": text}
        return dataclasses.replace(
            verdict, outcome="unknown", upper=math.inf, evidence=evidence, constant=None
        )


@dataclasses.dataclass(frozen=True)
class PublishedArchitecture(Architecture):
    """One of the paper's five."""

    name: str
    signed_steps: bool
    channels: tuple[int, int, int]

    def worst(self, limit: float) -> CifarNet:
        """An admissible network all of whose steps, flows, lifts and stages, and which itself,
        stretch some distance by more than `limit`, as far as float32 reaches (a flow 10^8, the
        network 100).

        Its kernels are multiples of the identity at their centre tap, and what enters a flow is
        positive: it is multiplied by a number.
        """
        gain = 2 * min(max(1.0, limit), _REACH) + 1
        free = not constrained(self.name)
        net = build(self.name, channels=self.channels, signed_steps=self.signed_steps)
        project(net)
        with torch.no_grad():
            for stage in net.stages:
                _identity(stage.lift.operator, gain if free else _LIFT)
                if stage.lift.scale is not None:
                    stage.lift.scale.fill_(gain)
                for k, step in enumerate(stage.flow):
                    _expand(step, gain, (-1) ** k)
            features = net.head.in_features // self.channels[-1]
            row = net.head.weight.zero_()[0, : 3 * features]
            row.fill_((gain if free else 0.99) / math.sqrt(3 * features))
            net.head.bias.zero_()
        return net.eval()

    def theorem(self, claim: Claim, part: str) -> tuple[float, str] | None:
        if constrained(self.name) and part == "head" and claim.name in ("lipschitz", "contractive"):
            return 1.0, "|W| <= |W|_F <= 1: the projection of the head"
        return None


@dataclasses.dataclass(frozen=True)
class CertifiedArchitecture(Architecture):
    """One of ours that is 1-Lipschitz by construction."""

    name: str

    def worst(self, limit: float) -> CertifiedNet:
        """Identities throughout: what is bright stays so, and an expansive step stretches it by
        1 + h. Nothing that is larger than 1 in these networks grows with `limit`."""
        net = build_certified(self.name)
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, Convolution):
                    _identity(module, 1.0)
        return finalise(net)

    def theorem(self, claim: Claim, part: str) -> tuple[float, str] | None:
        if claim.name != "lipschitz" or claim.pixel or not _WHOLE_STEPS.fullmatch(part):
            return None
        return 1.0, _BY_CONSTRUCTION[self.name]


_WHOLE_STEPS = re.compile(r"(body(\.stages\.\d+(\.flow(\.\d+)?)?)?)?|head")
"""Parts that hold both steps of a pair or neither; the expansive one alone does expand."""
_BY_CONSTRUCTION = {
    "certified-non-expansive": "T8 at every step, h <= 2 / |A|^2 for the proved norm of its own "
    "kernel; isometries between them, and |W| <= 1 for the head",
    "certified-smooth": "T8 at every step, h <= 2 / |A|^2 for the proved norm of its own kernel; "
    "isometries between them, and |W| <= 1 for the head",
    "certified-switch": "T8 at every single step and T9 at every pair, with times held to the "
    "proved spectra of their own kernels; isometries between them, and |W| <= 1 for the head",
}


def parse(text: str) -> Architecture:
    """`NAME[?signed_steps=true|false&channels=A,B,C]`. Raises UserError."""
    name, _, query = text.partition("?")
    if name not in ALL_ARCHITECTURES:
        raise UserError(f"unknown architecture {name!r}: one of {', '.join(ALL_ARCHITECTURES)}")
    if name in CERTIFIED:
        if query:
            raise UserError(f"arch:{text}: {name} has no options")
        return CertifiedArchitecture(name)
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError:
        raise UserError(f"arch:{text}: options are written OPTION=VALUE, joined by &") from None
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= {"signed_steps", "channels"}:
        raise UserError(f"arch:{text}: the options are signed_steps and channels, once each")
    signed = options.get("signed_steps", "true")
    if signed not in ("true", "false"):
        raise UserError(f"arch:{text}: signed_steps is {signed!r}, expected true or false")
    return PublishedArchitecture(name, signed == "true", _channels(text, options))


def bright(shape: tuple[int, ...]) -> Tensor:
    """Where the constructed networks stretch: eight examples of ones and minus ones in turn."""
    ones = torch.ones(8, *shape)
    ones[1::2] = -1
    return ones


def _channels(text: str, options: Mapping[str, str]) -> tuple[int, int, int]:
    if "channels" not in options:
        return CHANNELS
    parts = options["channels"].split(",")
    if len(parts) == 3 and all(p.isascii() and p.isdecimal() and len(p) < 5 for p in parts):
        first, second, third = map(int, parts)
        if min(first, second, third) >= 3:
            return (first, second, third)
    raise UserError(f"arch:{text}: channels are three numbers from 3 to 9999, as in 32,64,128")


def _identity(operator: Any, gain: float) -> None:
    """`gain` times the identity on the channels that input and output share."""
    assert isinstance(operator, Convolution)
    kernel = operator.weight.zero_()
    middle = [side // 2 for side in kernel.shape[2:]]
    shared = range(min(kernel.shape[:2]))
    kernel[shared, shared, middle[0], middle[1]] = gain


@singledispatch
def _expand(step: nn.Module, gain: float, sign: int) -> None:
    raise TypeError(f"no construction for {type(step).__name__}")


@_expand.register
def _(step: FixedEuler, gain: float, sign: int) -> None:
    """x + h (B ReLU(Ax) - c x) with A = I, B = (gain / h) I."""
    assert isinstance(step.field, TwoLayerField)
    _identity(step.field.inner, 1.0)
    _identity(step.field.outer, gain / step.time)


@_expand.register
def _(step: Euler, gain: float, sign: int) -> None:
    """x - h Aᵀ ReLU(Ax) with A = s I and h s^2 = 1 + gain: a step too long for its kernel [T8]. It
    turns the sign, and the next one, with -A, turns it back."""
    _identity(step.field.operator, sign * math.sqrt((1 + gain) / float(step.u)))


@_expand.register
def _(step: Alternation, gain: float, sign: int) -> None:
    """x + (h_E / S) σ(Wx) with W = w I, and contractive steps with A = 0."""
    _identity(step.expansive.operator, gain * step.substeps / float(step.u[0]))
    _identity(step.contractive.operator, 0.0)


@_expand.register
def _(step: FlexiblePair, gain: float, sign: int) -> None:
    """x + h_2 Aᵀ ReLU(Ax). Where |u| is executed and the kernels are tied, u = -1.9, meant as a
    contraction, is one of +1.9, and an orthogonal kernel is enough up to (7/8)^2 2.9 = 2.22."""
    if step.signed:
        _identity(step.contractive.operator, 0.0)
        _identity(step.expansive.operator, math.sqrt(gain / float(step.u[1])))
    else:
        step.u.copy_(torch.tensor([0.25, -1.9]))
        _identity(step.contractive.operator, 1.0 if gain < 5.4 else math.sqrt(16 + gain))
