"""Certified radii of images: the margin of the executed logits, less their rounding, over the
Lipschitz constant [T4].

The arithmetic is `real`: within the radius, the network as a function of real numbers on the
stored weights gives the true class. The logits at the image itself are the executed float32 ones;
their distance to the exact ones is bounded by their distance to a float64 evaluation plus the
rigorous error of that (`verification.running_error`). So whatever float32 does at the image,
be it a Winograd convolution or TF32, is measured and paid for. Float32 execution at other points
of the ball is not part of the claim: an a-priori bound on it exceeds the margins themselves.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from dsnn.operators.rounding import TINY, down, up
from verification.running_error import evaluate, norm

ARITHMETIC = "real"
"""The arithmetic of these certificates, by the name that reports use."""
_BATCH = 8
_SQRT2 = math.nextafter(math.sqrt(2.0), math.inf)


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


def certified_radius(margin: float, error: float, lipschitz: float) -> float:
    """(margin - sqrt(2) error) / (sqrt(2) lipschitz), rounded down; 0 where that is not positive
    or not finite.

    `margin` is that of computed logits (negative when misclassified), `error` an upper bound on
    their l2 distance to the exact ones, `lipschitz` on the constant of the network, l2 to l2, whose
    input is what the radius is measured in.
    """
    if not (math.isfinite(margin) and math.isfinite(error) and math.isfinite(lipschitz)):
        return 0.0
    exact = math.nextafter(margin, -math.inf) - up(_SQRT2 * error)
    radius = down(exact) / up(_SQRT2 * lipschitz)
    return down(radius) if math.isfinite(radius) else 0.0


def certified_radii(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    lipschitz_pixel: float,
) -> np.ndarray:
    """Radii (B,) float64, l2 in pixels, rounded down: the class of an image cannot change within.

    `images` (B, channels, H, W) are float32 pixels in [0, 1], `labels` (B,) the true classes.
    `net` takes normalised images, on its own device; `lipschitz_pixel` bounds the Lipschitz
    constant of the network with its normalisation from above. A radius is 0 for an image that the
    executed network misclassifies, a tie, and logits that are not finite. Raises ValueError on a
    Lipschitz bound that is negative or NaN, UnboundedOperation as `evaluate`.
    """
    if not lipschitz_pixel >= 0:
        raise ValueError(f"a Lipschitz bound is at least 0, not {lipschitz_pixel}")
    pixels = PixelInput(net, mean, std)
    radii = [
        certified_radius(margin, error, lipschitz_pixel)
        for batch, classes in zip(images.split(_BATCH), labels.split(_BATCH), strict=True)
        for margin, error in _margins(net, pixels, batch, classes)
    ]
    return np.array(radii, dtype=np.float64)


def _margins(
    net: nn.Module, pixels: PixelInput, images: Tensor, labels: Tensor
) -> list[tuple[float, float]]:
    """Of each image, the margin of the executed logits and their distance to the exact ones."""
    executed = _execute(net, pixels, images)
    exact = evaluate(pixels, images)
    distance = norm(executed - exact.value, True) * (1 + 2**-44) + TINY
    error = (distance + exact.error) * (1 + 2**-44)
    chosen = torch.nn.functional.one_hot(labels.cpu(), executed.shape[1]).bool()
    margin = executed[chosen] - executed.masked_fill(chosen, -math.inf).amax(1)
    return list(zip(margin.tolist(), error.tolist(), strict=True))


def _execute(net: nn.Module, pixels: PixelInput, images: Tensor) -> Tensor:
    """The logits that evaluation sees, as float64 on the CPU."""
    place = next(net.parameters())
    x = images.to(place.device, place.dtype)
    mean, std = (s.to(place.device, place.dtype) for s in (pixels.mean, pixels.std))
    with torch.no_grad():
        return net((x - mean) / std).to("cpu", torch.float64)
