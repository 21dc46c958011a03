"""Certified radii of images: the margin of the executed logits, less their rounding, over the
Lipschitz constant [T4].

Where the last map is linear with rows w, and L is a constant of what comes before it, the
difference of two logits moves by at most L |w_y - w_j|, and the radius is the least over j of
(N_y - N_j) / (L |w_y - w_j|). Without rows, sqrt(2) L for every pair. Networks of smooth steps have
radii from the gradient at the image too (`verification.second_order`), and of a pair the larger
one counts.

The arithmetic is `real`: within the radius, the network as a function of real numbers on the
stored weights gives the true class. The logits at the image itself are the executed float32 ones;
their distance to the exact ones is bounded by their distance to a float64 evaluation plus the
rigorous error of that (`verification.running_error`). So whatever float32 does at the image,
be it a Winograd convolution or TF32, is measured and paid for. Float32 execution at other points
of the ball is not part of the claim: an a-priori bound on it exceeds the margins themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dsnn.operators.rounding import TINY, down, gamma, up
from theory import curvature
from theory.compile import compiled
from verification.pixel_input import PixelInput
from verification.running_error import evaluate, norm
from verification.second_order import Margins, Smooth

ARITHMETIC = "real"
"""The arithmetic of these certificates, by the name that reports use."""
_BATCH = 8
_SQRT2 = math.nextafter(math.sqrt(2.0), math.inf)
_root = compiled(curvature.radius, "math")


@dataclass(frozen=True)
class Radii:
    """(B,) float64 each, l2 in pixels, rounded down: the class of an image cannot change within.
    `by_constant` those of the constant alone."""

    largest: np.ndarray
    by_constant: np.ndarray


def certified_radius(margin: float, error: float, lipschitz: float) -> float:
    """(margin - sqrt(2) error) / (sqrt(2) lipschitz), rounded down; 0 where that is not positive
    or not finite.

    `margin` is that of computed logits (negative when misclassified), `error` an upper bound on
    their l2 distance to the exact ones, `lipschitz` on the constant of the network, l2 to l2, whose
    input is what the radius is measured in.
    """
    return _radius(margin, error, up(_SQRT2 * lipschitz))


def _radius(margin: float, error: float, slope: float, bend: float = 0.0) -> float:
    """`slope` bounds the constant of the difference of the two logits; with a `bend`, what the
    difference loses at distance r is at most slope r + bend r^2 / 2."""
    if not all(map(math.isfinite, (margin, error, slope, bend))):
        return 0.0
    exact = _exact(margin, error)
    if bend and exact:
        radius = _root(margin=exact, slope=up(slope), curvature=up(bend))
    else:
        radius = exact / slope
    return down(radius) if math.isfinite(radius) else 0.0


def _exact(margin: float, error: float) -> float:
    """What the margin of exact logits is at least; 0 where that is not positive."""
    return down(math.nextafter(margin, -math.inf) - up(_SQRT2 * error))


def separations(rows: Tensor) -> Tensor:
    """|w_i - w_j| of the rows w of a matrix (classes, n), rounded up: (classes, classes), float64.

    The differences and their lengths are computed in float64, where a difference of float32 numbers
    errs by one rounding. Raises ArithmeticError on rows that are not finite.
    """
    w = rows.detach().to("cpu", torch.float64)
    if not torch.isfinite(w).all():
        raise ArithmeticError("the rows of the head are not finite")
    squares = (w[:, None, :] - w[None, :, :]).square().sum(2)
    lengths = (squares * (1 + gamma(w.shape[1] + 4))).sqrt() * (1 + 2**-44) + TINY
    return lengths.fill_diagonal_(0.0)


def certified_radii(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    lipschitz_pixel: float,
    rows: Tensor | None = None,
) -> np.ndarray:
    """`Radii.by_constant` of `radii`."""
    return radii(net, images, labels, mean, std, lipschitz_pixel, rows).by_constant


def radii(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    lipschitz_pixel: float,
    rows: Tensor | None = None,
    around: Smooth | None = None,
    at: tuple[float, ...] = (),
) -> Radii:
    """By the constant and, with `around`, for which `std` is 1, by the gradient; where that ends
    below a radius of `at` that can be proved with more work, it is just above that one.

    `images` (B, channels, H, W) are float32 pixels in [0, 1], `labels` (B,) the true classes.
    `net` takes normalised images, on its own device, and executes all of them at once, as
    evaluation does: rounding may depend on the batch. `lipschitz_pixel` bounds the Lipschitz
    constant of the network with its normalisation from above. With `rows` (classes, n), the weight
    of the linear map that the network ends in, it bounds that of all before it, with the
    normalisation. A radius is 0 for an image that the executed network misclassifies, a tie, and
    logits that are not finite. Raises ValueError on a Lipschitz bound that is negative or NaN,
    UnboundedOperation as `evaluate`, ArithmeticError as `separations`.
    """
    if not lipschitz_pixel >= 0:
        raise ValueError(f"a Lipschitz bound is at least 0, not {lipschitz_pixel}")
    pixels = PixelInput(net, mean, std)
    slopes = None if rows is None else separations(rows) * lipschitz_pixel * (1 + 2**-44) + TINY
    parts = (part.split(_BATCH) for part in (_execute(net, pixels, images), images, labels))
    found = [
        pair
        for executed, batch, classes in zip(*parts, strict=True)
        for pair in _radii(executed, pixels, batch, classes, lipschitz_pixel, slopes, around, at)
    ]
    largest, by_constant = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return Radii(largest, by_constant)


def _radii(
    executed: Tensor,
    pixels: PixelInput,
    images: Tensor,
    labels: Tensor,
    lipschitz: float,
    slopes: Tensor | None,
    around: Smooth | None,
    at: tuple[float, ...],
) -> list[tuple[float, float]]:
    """The largest radius and that by the constant, of each image."""
    gaps, errors = _gaps(executed, pixels, images, labels)
    if slopes is None:
        pairs = zip(gaps.amin(1).tolist(), errors, strict=True)
        alone = [certified_radius(margin, error, lipschitz) for margin, error in pairs]
        return list(zip(alone, alone, strict=True))
    found = []
    for i, label in enumerate(labels.tolist()):
        others = [j for j in range(gaps.shape[1]) if j != label]
        margins = {j: float(gaps[i, j]) for j in others}
        alone = {j: _radius(margins[j], errors[i], float(slopes[label, j])) for j in others}
        largest = by_constant = min(alone.values())
        if around is not None and by_constant > 0:
            x = images[i].detach().cpu().double() - pixels.mean.cpu()
            largest = _by_gradient(around.around(x, label), margins, errors[i], alone, at)
        found.append((largest, by_constant))
    return found


def _by_gradient(
    own: Margins,
    margins: dict[int, float],
    error: float,
    alone: dict[int, float],
    at: Sequence[float],
) -> float:
    """The largest radius of an image with these margins over other classes, whose radii by the
    constant are `alone`. Classes that cannot be the nearest are not looked at."""
    nearest_first = sorted(alone, key=alone.__getitem__)
    largest = math.inf
    for j in nearest_first:
        if alone[j] >= largest:
            break
        fall = own.fall(j)
        radius = _radius(margins[j], error, fall.slope, fall.curvature)
        largest = min(largest, max(alone[j], radius))
    for r in sorted(at):
        beyond = r * (1 + 2**-40)
        if largest < beyond and all(
            alone[j] >= beyond or own.stays(_exact(margins[j], error), j, beyond)
            for j in nearest_first
        ):
            largest = beyond
    return largest


def _gaps(
    executed: Tensor, pixels: PixelInput, images: Tensor, labels: Tensor
) -> tuple[Tensor, list[float]]:
    """Of each image, how far the executed logit of its class is above each other one (infinity for
    its own), and the distance of the executed logits to the exact ones."""
    exact = evaluate(pixels, images)
    distance = norm(executed - exact.value, True) * (1 + 2**-44) + TINY
    error = (distance + exact.error) * (1 + 2**-44)
    chosen = torch.nn.functional.one_hot(labels.cpu(), executed.shape[1]).bool()
    gaps = executed[chosen][:, None] - executed
    # A logit that is not finite leaves its own class no gap either.
    own = torch.where(executed[chosen].isfinite(), math.inf, math.nan)
    return torch.where(chosen, own[:, None], gaps), error.tolist()


def _execute(net: nn.Module, pixels: PixelInput, images: Tensor) -> Tensor:
    """The logits that evaluation sees, as float64 on the CPU."""
    place = next(net.parameters())
    x = images.to(place.device, place.dtype)
    mean, std = (s.to(place.device, place.dtype) for s in (pixels.mean, pixels.std))
    with torch.no_grad():
        return net((x - mean) / std).to("cpu", torch.float64)
