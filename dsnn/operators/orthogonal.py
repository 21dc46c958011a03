"""Matrices and kernels of norm at most 1: a retraction, and two parametrisations.

========= ==================================================================================
polar     W -> W (3I - WᵀW) / 2, repeated: quadratically to the nearest orthogonal matrix from
          any W with singular values in (0, √3); a retraction after an optimiser step
Cayley    X -> (I - S)(I + S)⁻¹ with S = X - Xᵀ: orthogonal for every square X
Rescaled  K -> D^(-1/2) K with D_i = Σ_j Σ_d |C_d|_ij, C the autocorrelation of the kernel: a norm
          of at most 1, by Gershgorin, for matrices, and for convolutions of stride 1 with zero or
          circular padding ("almost orthogonal", Prach and Lampert 2022; with x - 2AᵀReLU(Ax + b)
          the layer of Araujo et al. 2023, as positive factors pass through ReLU)
========= ==================================================================================

Both parametrisations are for `torch.nn.utils.parametrize` and keep a factor 1 - 1e-6, so that the
weights that `parametrize.remove_parametrizations` leaves in float32 have a norm of at most 1 too.
What a network was trained with is no proof: verdicts rest on `dsnn.operators.bounds` alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEEP = 1 - 1e-6
TINY = 1e-30


def polar(weight: Tensor, iterations: int = 1) -> Tensor:
    """So many Newton-Schulz iterations towards the orthogonal polar factor of matrices (..., n, n);
    a defect |WᵀW - I| = e < 1 falls below e^2 (3 + e) / 4 in each."""
    for _ in range(iterations):
        weight = torch.lerp(weight, weight @ (weight.mT @ weight), -0.5)
    return weight


class Cayley(nn.Module):
    """X (n, n), or a kernel (n, n, 1, 1), -> (1 - 1e-6) (I - S)(I + S)⁻¹, S = X - Xᵀ: all rotations
    without eigenvalue -1."""

    def forward(self, x: Tensor) -> Tensor:
        square = x.reshape(len(x), -1)
        skew = square - square.mT
        identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
        # The two factors commute.
        return KEEP * torch.linalg.solve(identity + skew, identity - skew).reshape(x.shape)


class Rescaled(nn.Module):
    """W (m, n) or K (m, n, k, k) -> (1 - 1e-6) D^(-1/2) K; rows of zeros stay zero."""

    def forward(self, kernel: Tensor) -> Tensor:
        if kernel.ndim == 2:
            sums = (kernel @ kernel.mT).abs().sum(1)
        else:
            size = kernel.shape[-1]
            sums = F.conv2d(kernel, kernel, padding=size - 1).abs().sum((1, 2, 3))
        scale = KEEP * sums.clamp(min=TINY).rsqrt()
        return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
