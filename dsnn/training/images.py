"""A data set that lives on the training device as bytes, and its random crops and flips there."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnn.data.statistics import Channels
from dsnn.errors import UserError

PAD = 4
"""Black pixels around an image from which a window of the image's size is cut at random, in the
paper's protocol."""


@dataclass(frozen=True)
class Draw:
    """What one epoch draws: the order of the images (N,), where each one's window starts (N, 2)
    in 0..2 pad, and which ones are mirrored (N,)."""

    order: Tensor
    corner: Tensor
    mirrored: Tensor


class ResidentImages:
    """Images (N, H, W, 3) as bytes and labels (N,), on `device`; batches are normalised there with
    `mean` and `std` for pixels in [0, 1].

    With `augment`, a batch holds what RandomCrop(H, padding=pad) and RandomHorizontalFlip make.
    Raises UserError on anything but bytes of that shape with as many labels.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        *,
        mean: Channels,
        std: Channels,
        device: torch.device,
        augment: bool = True,
        pad: int = PAD,
    ):
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise UserError(
                f"images {tuple(pixels.shape)} of {pixels.dtype}: expected bytes (N, H, W, 3)"
            )
        if labels.shape != pixels.shape[:1]:
            raise UserError(f"{len(pixels)} images and labels {tuple(labels.shape)}: one each")
        self.pixels, self.labels = pixels.to(device), labels.to(device)
        self.mean, self.std = (torch.tensor(v, device=device) for v in (mean, std))
        self.device, self.augment, self.pad = device, augment, pad

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, seed: int, epoch: int) -> Draw:
        """All that is random in an epoch, a function of `seed` and `epoch` alone: the same on
        every device, and whatever part of the epoch is left to compute."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        count = len(self)
        order = torch.randperm(count, generator=generator)
        corner = torch.randint(2 * self.pad + 1, (count, 2), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5
        if not self.augment:
            corner, mirrored = torch.full_like(corner, self.pad), torch.zeros_like(mirrored)
        return Draw(*(part.to(self.device) for part in (order, corner, mirrored)))

    def batch(self, draw: Draw, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Places start..stop of the epoch's order: images (B, 3, H, W), float32 in channels-last
        memory order, and labels (B,)."""
        chosen = draw.order[start:stop]
        pixels = self.pixels[chosen]
        if self.augment:
            pixels = _window(pixels, draw.corner[start:stop], draw.mirrored[start:stop], self.pad)
        return self._normalised(pixels), self.labels[chosen]

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images start..stop in stored order as they are, normalised, and their labels."""
        return self._normalised(self.pixels[start:stop]), self.labels[start:stop]

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = pixels.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)
        return images.permute(0, 3, 1, 2)


def _window(pixels: Tensor, corner: Tensor, mirrored: Tensor, pad: int) -> Tensor:
    """The windows of the padded images (B, H, W, 3), columns reversed where mirrored."""
    count, height, width, _ = pixels.shape
    padded = F.pad(pixels, (0, 0, pad, pad, pad, pad))
    rows = torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns) + corner[:, 1:]
    which = torch.arange(count, device=pixels.device)[:, None, None]
    return padded[which, (rows + corner[:, :1])[:, :, None], columns[:, None, :]]
