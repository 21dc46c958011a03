"""Training of the certified networks: the step, its loss, and the export that a proof is made of.

In training the norm of a convolution is a power iteration's, one step of it each update on a vector
that is kept, and differentiated through: an estimate. `finalise` measures all spectra rigorously
and sets the times that the laws allow for what was measured; no estimate enters a proof. A network
that is constructed (`dsnn.training.constructed`) has the times for norms of 1 from the beginning.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError
from dsnn.fields import GradientField, ResidualField
from dsnn.integrators import Euler
from dsnn.models.certified import CertifiedNet, Pair, pair_times
from dsnn.operators.bounds import geometry_of, singular_values
from dsnn.operators.bounds import norm_upper as convolution_norm
from dsnn.operators.orthogonal import polar
from dsnn.training.constructed import export, is_constructed, operator_of
from dsnn.training.muon import Muon
from dsnn.training.precision import check_batch, training_device, training_dtype
from theory import projections

KEEP = float(projections.KEEP)
CHUNK = 64
"""Images that go through the network at once on a processor, so that a state stays in its cache."""
SETTLED = 4
"""Retractions that bring a trained matrix to the rounding of float32."""
NORMALISED = 0.3
"""Share of the rate at which kernels move that are kept at norm 1."""
DIRECTION = "direction"
"""The buffer of a convolution that keeps its power iteration's vector while it is trained."""

_largest = projections.largest_step.numeric("math")
_largest_of_tensor = projections.largest_step.numeric("torch")


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
    """step(images, labels) -> CertifiedLosses: forward, loss, backward, update by `Muon`, and back
    to orthogonal matrices and rows of norm 1.

    With a `perturbation` the images that are learned from are moved by that much, in l2, along the
    gradient of their loss (Goodfellow et al. 2015): where radii come from the gradients of margins
    (`verification.second_order`), that is the loss that counts. The losses are then of those.
    `images` (B, 3, 32, 32) are less their mean, `labels` (B,) integers, on any device. The body
    runs in `dtype`, by default bfloat16 where it is faster; parameters, head and loss
    are float32. Learning-rate schedules act on `optimizer`. All that changes lies in `net` and
    `optimizer`: the network holds the vectors of the power iteration until it is finalised.
    Raises UserError on an offset, rate, temperature or perturbation that is not allowed, an absent
    device, or inputs that do not fit the network.
    """

    def __init__(
        self,
        net: CertifiedNet,
        *,
        offset: float = 0.53,
        temperature: float = 0.25,
        rate: float = 6e-3,
        perturbation: float = 0.0,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ):
        for name, value, limit, holds in (
            ("offset", offset, "0 or a positive number", offset >= 0),
            ("temperature", temperature, "a positive number", temperature > 0),
            ("rate", rate, "a positive number", rate > 0),
            ("perturbation", perturbation, "0 or a positive number", perturbation >= 0),
        ):
            if not (holds and math.isfinite(value)):
                raise UserError(f"{name} {value!r} is not allowed: {limit}")
        self.device = training_device(device)
        self.dtype = training_dtype(dtype, self.device)
        self.constructed = is_constructed(net)
        if self.constructed:
            _set_times(net)
        else:
            _remember(net)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.offset, self.temperature, self.perturbation = offset, temperature, perturbation
        learned = [p for p in self.net.parameters() if p.requires_grad]
        kernels = [p for p in learned if p.ndim == 4]
        others = [p for p in learned if p.ndim != 4]
        self.optimizer = Muon(kernels, others, lr=rate, dtype=self.dtype)
        if net.arch != "certified-non-expansive" and not self.constructed:
            self.optimizer.param_groups[0]["lr"] *= NORMALISED
        self._retract()

    def __call__(self, images: Tensor, labels: Tensor) -> CertifiedLosses:
        losses = self.accumulate(images, labels)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._retract()
        return losses

    def _retract(self) -> None:
        if self.constructed:
            normalise_head(self.net)
        else:
            retract(self.net)

    def accumulate(self, images: Tensor, labels: Tensor) -> CertifiedLosses:
        """Forward and backward pass only: gradients are added to those the parameters hold."""
        check_batch(images, labels, SIDE)
        images = images.to(
            self.device, self.dtype, memory_format=torch.channels_last, non_blocking=True
        )
        labels = labels.to(self.device, non_blocking=True)
        times = {} if self.constructed else estimated_times(self.net)
        # The times' own graph is walked once, after all parts of the batch.
        leaves = {name: time.detach().requires_grad_() for name, time in times.items()}
        loss, right = torch.zeros(2, device=self.device).unbind()
        size = CHUNK if self.device.type == "cpu" else len(images)
        for part, own in zip(images.split(size), labels.split(size), strict=True):
            if self.perturbation:
                part = self._perturbed(part, own, times)
            scores = self._scores(part, leaves)
            share = self._loss(scores, own) * (len(part) / len(images))
            share.backward()
            loss = loss + share.detach()
            right = right + (scores.detach().argmax(1) == own).sum() / len(images)
        if times:
            torch.autograd.backward(list(times.values()), [leaf.grad for leaf in leaves.values()])
        return CertifiedLosses(loss, right)

    def _scores(self, images: Tensor, times: dict[str, Tensor]) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = functional_call(self.net.body, times, (images,))
        return self.net.head(features.float())

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return margin_cross_entropy(
            scores, labels, offset=self.offset, temperature=self.temperature
        )

    def _perturbed(self, images: Tensor, labels: Tensor, times: dict[str, Tensor]) -> Tensor:
        """Each image moved by `perturbation` in l2 along the gradient of its loss."""
        fixed = {name: time.detach() for name, time in times.items()}
        x = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._loss(self._scores(x, fixed), labels), x)
        direction = F.normalize(gradient.float().flatten(1)).view_as(gradient)
        return images + self.perturbation * direction.to(images.dtype)


def estimated_times(net: CertifiedNet) -> dict[str, Tensor]:
    """The times of the steps by estimated norms, under their names in the body: the largest that T8
    allows for a gradient step, and for an expansive one what its contraction pays for, over |W|."""
    times = {}
    for name, step, side in net.steps():
        name = name.removeprefix("body.")
        if isinstance(step, Pair):
            up, _ = pair_times()
            times[f"{name}.0.u"] = (up / _estimate(step.steps[0], side)).reshape(1)
        else:
            (time,) = _largest_of_tensor(s_max=_estimate(step, side))
            times[f"{name}.u"] = time.reshape(1)
    return times


@torch.no_grad()
def retract(net: CertifiedNet, iterations: int = 1) -> None:
    """Bring the matrices that contract back towards orthogonal ones, and to norm 1 the rows of the
    head and, by estimate, the other kernels of smooth steps."""
    for _, step, side in net.steps():
        first = step.steps[0] if isinstance(step, Pair) else step
        if _is_smooth(first):
            _scale(first, 1 / _estimate(first, side))
        if isinstance(step, Pair):
            kernel = operator_of(step.steps[1]).weight
            kernel.copy_(polar(kernel[:, :, 0, 0], iterations)[:, :, None, None])
    normalise_head(net)


@torch.no_grad()
def normalise_head(net: CertifiedNet) -> None:
    """Bring the rows of the head to norm 1."""
    net.head.weight.copy_(F.normalize(net.head.weight))


@torch.no_grad()
def finalise(net: CertifiedNet) -> CertifiedNet:
    """Freeze, in place, what makes the network 1-Lipschitz: times from the measured spectra of its
    operators, by the laws [T8, T9], and a head of norm at most 1. Returns it in eval mode, on the
    processor, with nothing but what it executes.

    Scaling the head changes no radius. What was constructed is exported, and keeps its times.
    Raises UserError where norms vanish or overflow, as after a learning rate that is far too large.
    """
    net.to("cpu", torch.float32)
    try:
        _bound_norms(net)
    except ArithmeticError as error:
        raise UserError(
            f"the norms of this network cannot be bounded: {error}; train it at a smaller rate"
        ) from error
    for module in net.modules():
        module._buffers.pop(DIRECTION, None)
    return net.eval()


def _bound_norms(net: CertifiedNet) -> None:
    """Raises ArithmeticError where a norm vanishes or overflows."""
    if is_constructed(net):
        export(net)
        _set_times(net)
    else:
        _remember(net)
        retract(net, SETTLED)
        for _, step, side in net.steps():
            first = step.steps[0] if isinstance(step, Pair) else step
            if _is_smooth(first):
                _scale(first, 1 / _norm(first, side))
        _set_times(net, least=0.0)
    scale = KEEP / singular_values(net.head).norm[1]
    net.head.weight.mul_(scale)
    net.head.bias.mul_(scale)


@torch.no_grad()
def _set_times(net: CertifiedNet, least: float = 1.0) -> None:
    """The times that the laws allow for the measured spectra, norms below `least` taken as that."""
    for _, step, side in net.steps():
        if isinstance(step, Pair):
            expansive, contractive = step.steps
            spectrum = singular_values(operator_of(contractive), (side, side))
            limit = max(_norm(expansive, side), least)
            up, down = pair_times(spectrum.smallest[0], spectrum.norm[1], limit)
            expansive.u.fill_(up)
            contractive.u.fill_(down)
        else:
            (time,) = _largest(s_max=max(_norm(step, side), least))
            step.u.fill_(float(time))


def _remember(net: CertifiedNet) -> None:
    """A starting vector for the power iteration of every convolution whose norm is estimated."""
    generator = torch.Generator().manual_seed(0)
    for _, step, side in net.steps():
        operator = operator_of(step.steps[0] if isinstance(step, Pair) else step)
        if DIRECTION not in operator._buffers:
            start = torch.randn(1, operator.inputs, side, side, generator=generator)
            operator.register_buffer(DIRECTION, start / start.norm())


def _estimate(step: Euler, side: int) -> Tensor:
    """|Au| at the kept vector u after one power iteration: an estimate of |A| from below, with the
    gradient of the kernel."""
    operator = operator_of(step)
    vector = operator.get_buffer(DIRECTION)
    with torch.no_grad():
        moved = operator.adjoint(operator(vector))
        vector.copy_(moved / moved.norm().clamp(min=torch.finfo(moved.dtype).tiny))
    return operator(vector).norm()


def _is_smooth(step: Euler) -> bool:
    return isinstance(step.field, GradientField | ResidualField) and bool(step.field.sharpness)


def _scale(step: Euler, factor: Tensor | float) -> None:
    """Multiply the field's operator and bias."""
    operator_of(step).weight.mul_(factor)
    cast(GradientField | ResidualField, step.field).bias.mul_(factor)


def _norm(step: Euler, side: int) -> float:
    """A proved upper bound on the norm of the step's operator."""
    operator = operator_of(step)
    return convolution_norm(operator.weight, geometry_of(operator, (side, side)))
