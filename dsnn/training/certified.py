"""Training of the certified networks: the step, its loss, and the export that a proof is made of.

While a network is trained its matrices are near orthogonal: a retraction follows every update.
`finalise` then measures their spectra rigorously, and freezes the steps that the laws allow for
what was measured. Nothing that training believed enters a proof.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.integrators import Alternation, Euler
from dsnn.models.certified import SIDE, SLOPE, CertifiedNet
from dsnn.operators import Dense
from dsnn.operators.bounds import singular_values
from dsnn.operators.orthogonal import polar
from dsnn.training.precision import DTYPES, fastest_dtype, training_device
from theory import projections

KEEP = float(projections.KEEP)
CHUNK = 64
"""Images that go through the network at once on a processor, so that a state stays in its cache."""
SETTLED = 4
"""Retractions that bring a trained matrix to the rounding of float32."""

_measured = projections.measured.numeric("torch")


@dataclass(frozen=True)
class CertifiedLosses:
    """Scalar tensors on the training device, detached: the loss before the update, and the share
    of the batch that was classified rightly."""

    loss: Tensor
    accuracy: Tensor


def margin_cross_entropy(
    scores: Tensor, labels: Tensor, *, offset: float, temperature: float
) -> Tensor:
    """Mean cross-entropy of (scores - offset on the right class) / temperature, in float32.

    An image that is right by more than `offset` costs little: with rows of norm 1 the offset of a
    radius r is about sqrt(2) r.
    """
    own = F.one_hot(labels, scores.shape[1])
    return F.cross_entropy((scores.float() - offset * own) / temperature, labels)


class CertifiedStep:
    """step(images, labels) -> CertifiedLosses: forward, loss, backward, AdamW without decay,
    retraction.

    `images` (B, 3, 32, 32) are less their mean, `labels` (B,) integers, on any device. The body
    runs in `dtype`, by default bfloat16 where the hardware multiplies it; parameters, head and loss
    are float32. Learning-rate schedules act on `optimizer`. Raises UserError on an offset, rate or
    temperature that is not allowed, an absent device, or inputs that do not fit the network.
    """

    def __init__(
        self,
        net: CertifiedNet,
        *,
        offset: float = 0.53,
        temperature: float = 0.25,
        rate: float = 3e-3,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ):
        for name, value, limit, holds in (
            ("offset", offset, "0 or a positive number", offset >= 0),
            ("temperature", temperature, "a positive number", temperature > 0),
            ("rate", rate, "a positive number", rate > 0),
        ):
            if not (holds and math.isfinite(value)):
                raise UserError(f"{name} {value!r} is not allowed: {limit}")
        self.device = training_device(device)
        self.dtype = dtype or fastest_dtype(self.device)
        if self.dtype not in DTYPES:
            raise UserError(f"dtype {self.dtype} is not allowed: torch.float32 or torch.bfloat16")
        self.net = net.to(self.device)
        self.offset, self.temperature = offset, temperature
        learned = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0, fused=True)
        retract(self.net)

    def __call__(self, images: Tensor, labels: Tensor) -> CertifiedLosses:
        losses = self.accumulate(images, labels)
        self.optimizer.step()
        self.optimizer.zero_grad()
        retract(self.net)
        return losses

    def accumulate(self, images: Tensor, labels: Tensor) -> CertifiedLosses:
        """Forward and backward pass only: gradients are added to those the parameters hold."""
        _check(images, labels)
        images = images.to(self.device, self.dtype, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        loss, right = torch.zeros(2, device=self.device).unbind()
        size = CHUNK if self.device.type == "cpu" else len(images)
        for part, own in zip(images.split(size), labels.split(size), strict=True):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                features = self.net.body(part)
            scores = self.net.head(features.float())
            share = margin_cross_entropy(
                scores, own, offset=self.offset, temperature=self.temperature
            ) * (len(part) / len(images))
            share.backward()
            loss = loss + share.detach()
            right = right + (scores.detach().argmax(1) == own).sum() / len(images)
        return CertifiedLosses(loss, right)


@torch.no_grad()
def retract(net: CertifiedNet, iterations: int = 1) -> None:
    """Bring the matrices of the steps back towards orthogonal ones, and the rows of the head to
    norm 1."""
    for operator in _operators(net):
        operator.weight.copy_(polar(operator.weight, iterations))
    net.head.weight.copy_(F.normalize(net.head.weight))


@torch.no_grad()
def finalise(net: CertifiedNet) -> CertifiedNet:
    """Freeze, in place, what makes the network 1-Lipschitz: steps from the measured spectra of its
    matrices, by the laws [T8, T9], and a head of norm at most 1. Returns it in eval mode.

    Scaling the head changes no radius. Finalising again changes nothing that a law needs.
    """
    net.to("cpu", torch.float32)
    retract(net, SETTLED)
    for step in net.steps():
        if isinstance(step, Euler):
            _, largest = _spectrum(step.field)
            step.u.fill_(KEEP * 2 / largest**2)
        else:
            smallest, largest = _spectrum(step.contractive)
            _, pushed = _spectrum(step.expansive)
            _assign(step, smallest, largest, pushed)
    scale = KEEP / singular_values(net.head).norm[1]
    net.head.weight.mul_(scale)
    if net.head.bias is not None:
        net.head.bias.mul_(scale)
    return net.eval()


def _operators(net: nn.Module) -> list[Dense]:
    return [module for module in net.modules() if isinstance(module, Dense)]


def _spectrum(field: nn.Module) -> tuple[float, float]:
    """Proved bounds: the smallest singular value from below, the largest from above."""
    (operator,) = _operators(field)
    found = singular_values(operator)
    return found.smallest[0], found.norm[1]


def _assign(step: Alternation, s_min: float, s_max: float, w_max: float) -> None:
    """The largest times that T9 allows for these spectra."""
    raw = {"a": SLOPE["contractive"], "s_min": s_min, "s_max": s_max, "w_max": w_max}
    values = {name: torch.tensor(v, dtype=torch.float64) for name, v in raw.items()}
    largest = torch.tensor(math.inf, dtype=torch.float64)
    down, up = _measured(h_C=largest, h_E=largest, **values)
    step.u.copy_(torch.stack([up, down]))


def _check(images: Tensor, labels: Tensor) -> None:
    shape = (len(labels), 3, SIDE, SIDE)
    if tuple(images.shape) != shape or labels.ndim != 1 or len(labels) == 0:
        raise UserError(
            f"images {tuple(images.shape)} and labels {tuple(labels.shape)} are not a batch: "
            f"(B, 3, {SIDE}, {SIDE}) and (B,) with B > 0"
        )
