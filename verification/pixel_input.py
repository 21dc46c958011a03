"""A network of normalised images as one of pixels."""

import torch
from torch import Tensor, nn


class PixelInput(nn.Module):
    """x -> module((x - mean) / std) on images (B, channels, H, W) with pixels in [0, 1].

    The statistics are kept in float64, as the numbers that are certified; `.float()` or
    `.double()` brings all parameters to one type for execution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.module((x - self.mean) / self.std)
