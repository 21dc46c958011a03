"""The training step of the paper's five regimes, written down from the published formulae.

Nothing of `dsnn` computes here: plain tensors in float32 and NCHW, one statement per formula, the
optimiser and the penalty as the authors call them. It is what the fast step is compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Block:
    """One stage: lift kernel, and its scale or (in the baselines) its bias; the kernels and four
    biases of the layers; times u, of which the baselines have none, and rescalings r."""

    lift: Tensor
    scale: Tensor | None
    lift_bias: Tensor | None
    kernels: list[Tensor]
    biases: list[Tensor]
    u: list[Tensor]
    r: list[Tensor]
    vector: Tensor = field(default_factory=lambda: torch.empty(0))

    def parameters(self) -> list[Tensor]:
        lift = (self.lift, self.scale, self.lift_bias)
        others = (*self.kernels, *self.biases, *self.u, *self.r)
        return [parameter for parameter in (*lift, *others) if parameter is not None]


def gradient_term(x: Tensor, kernel: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Aᵀσ(Ax + b)."""
    z = F.leaky_relu(F.conv2d(x, kernel, bias, padding=1), slope)
    return F.conv_transpose2d(z, kernel, padding=1)


def two_layers(x: Tensor, block: Block, i: int) -> Tensor:
    """B ReLU(Ax + b)."""
    z = F.relu(F.conv2d(x, block.kernels[2 * i], block.biases[i], padding=1))
    return F.conv2d(z, block.kernels[2 * i + 1], padding=1)


def unconstrained(x: Tensor, block: Block) -> Tensor:
    for i in range(4):
        x = x + two_layers(x, block, i)
    return x


def naive(x: Tensor, block: Block) -> Tensor:
    for i in range(4):
        x = 0.5 * (x + two_layers(x, block, i))
    return x


def non_expansive(x: Tensor, block: Block) -> Tensor:
    for i in range(4):
        x = x - block.u[i] * gradient_term(x, block.kernels[i], block.biases[i], 0.0)
    return x


def switch_prescribed(x: Tensor, block: Block) -> Tensor:
    for i in range(2):
        expansive, contractive = 2 * i, 2 * i + 1
        for _ in range(2):
            z = F.conv2d(x, block.kernels[expansive], block.biases[expansive], padding=1)
            x = x + block.u[expansive] / 2 * block.r[i] * F.leaky_relu(z, 0.5)
            step = gradient_term(x, block.kernels[contractive], block.biases[contractive], 0.5)
            x = x - block.u[contractive] / 2 * step
    return x


def switch_flexible(x: Tensor, block: Block) -> Tensor:
    for i in range(2):
        contractive, expansive = 2 * i, 2 * i + 1
        for _ in range(2):
            step = gradient_term(x, block.kernels[contractive], block.biases[contractive], 0.5)
            x = x - block.u[contractive] / 2 * step
        step = gradient_term(x, block.kernels[expansive], block.biases[expansive], 0.0)
        x = x + block.u[expansive] * step
    return x


FLOWS: dict[str, Callable[[Tensor, Block], Tensor]] = {
    "unconstrained": unconstrained,
    "naive": naive,
    "non-expansive": non_expansive,
    "switch-prescribed": switch_prescribed,
    "switch-flexible": switch_flexible,
}


class LiteralStep:
    """The published step with signed times: call it with images (B, 3, 32, 32) and labels (B,)."""

    def __init__(
        self,
        regime: str,
        blocks: list[Block],
        head: tuple[Tensor, Tensor],
        *,
        margin: float,
        gamma: float,
        rate: float,
    ):
        self.flow, self.regime, self.blocks, self.head = FLOWS[regime], regime, blocks, head
        self.margin, self.gamma = margin, gamma
        parameters = [p for block in blocks for p in block.parameters()] + list(head)
        for parameter in parameters:
            parameter.requires_grad_()
        self.optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
        for k, block in enumerate(blocks):
            block.vector = torch.randn(1, block.lift.shape[1], 32 >> k, 32 >> k)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        self.optimizer.zero_grad()
        losses = self.accumulate(images, labels)
        self.optimizer.step()
        self.project()
        return losses

    def accumulate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Adds the gradients; returns the hinge loss and the penalty."""
        x = images
        for block in self.blocks:
            x = F.conv2d(x, block.lift, block.lift_bias, padding=1)
            if block.scale is not None:
                x = F.relu(block.scale * x)
            x = self.flow(x, block)
            x = F.max_pool2d(x, 2, 2)
        scores = F.linear(x.flatten(1), *self.head)
        hinge = self.hinge(scores, labels)
        penalty = torch.zeros(())
        for block in self.blocks if self.gamma else ():
            for kernel in block.kernels:
                penalty = penalty + self.defect(kernel)
        (hinge + self.gamma * penalty).backward()
        return float(hinge.detach()), float(penalty.detach())

    def hinge(self, scores: Tensor, labels: Tensor) -> Tensor:
        own = scores[torch.arange(len(labels)), labels].unsqueeze(1)
        others = F.one_hot(labels, scores.shape[1]) == 0
        return (F.relu(self.margin - (own - scores)) * others).sum() / len(labels)

    @staticmethod
    def defect(kernel: Tensor) -> Tensor:
        """|conv2d(K, K, padding=2) - I at the centre|_F."""
        autocorrelation = F.conv2d(kernel, kernel, padding=2)
        target = torch.zeros_like(autocorrelation)
        target[:, :, 2, 2] = torch.eye(len(kernel))
        return torch.norm(autocorrelation - target)

    @torch.no_grad()
    def project(self) -> None:
        if self.regime in ("unconstrained", "naive"):
            return
        for block in self.blocks:
            if self.regime == "non-expansive":
                for u in block.u:
                    u.clamp_(0, 1.9)
            elif self.regime == "switch-prescribed":
                for u_e, u_c, r in zip(block.u[::2], block.u[1::2], block.r, strict=True):
                    u_c.clamp_(0.3, 1)
                    u_e.copy_(4 / torch.sqrt(u_c**2 - 2 * u_c + 4) - 2)
                    r.clamp_(0, 1)
            else:
                for u_c, u_e in zip(block.u[::2], block.u[1::2], strict=True):
                    u_c.clamp_(0.11, 1.89)
                    u_e.clamp_(-1.9, 0.05)
            self.one_power_iteration(block)
        weight = self.head[0]
        weight /= max(1.0, float(torch.norm(weight)))

    def one_power_iteration(self, block: Block) -> None:
        """The lift divided by an estimate of its norm where that exceeds 1, as in the authors'
        loop, but by the norm and not by its square."""
        image = F.conv2d(block.vector / block.vector.norm(), block.lift, padding=1)
        block.lift /= max(1.0, float(image.norm()))
        block.vector = F.conv_transpose2d(image, block.lift, padding=1)
