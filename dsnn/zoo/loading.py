"""From a name to a network."""

from pathlib import Path

import torch
from torch import Tensor, nn

from dsnn import weights
from dsnn.data.folder import data_folder
from dsnn.data.statistics import Channels
from dsnn.errors import UserError
from dsnn.weights import Loaded
from dsnn.zoo.index import PREFIX, find, find_target


class Pixels(nn.Module):
    """Images (B, 3, 32, 32) in [0, 1] -> class scores: `net` after (x - mean) / std.

    `net` is the bare network, with its stages and head, for normalised images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Channels, std: Channels):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)


def load(
    id: str,
    dataset: str | None = None,
    margin: float | None = None,
    *,
    data: str | Path | None = None,
) -> Pixels:
    """A trained network of the zoo in eval mode, for images with pixels in [0, 1].

    `dataset` and `margin` may be left out where only one network has the identifier; `data` is the
    data folder for published weights, else DSNN_DATA, else the user's cache. Raises UserError on a
    name that is not in the zoo (it lists what is), a file that is missing or not the known one.
    """
    folder = data_folder(None if data is None else Path(data))
    model = find(id, dataset, margin)
    loaded = weights.load(model.checked(folder), model.arch)
    return Pixels(loaded.net, loaded.card.mean, loaded.card.std).eval()


def load_target(text: str, arch: str | None = None, data: Path | None = None) -> Loaded:
    """The network of a TARGET that is a weights file, with its regime `arch`, or `zoo:...`.

    Raises UserError as `load` and `dsnn.weights.load`.
    """
    if not text.startswith(PREFIX):
        return weights.load(text, arch)
    model = find_target(text)
    if arch is not None:
        raise UserError(f"--arch {arch} is for weights files: leave it out for {text}")
    return weights.load(model.checked(data_folder(data)), model.arch)
