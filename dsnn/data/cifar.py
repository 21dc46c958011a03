"""CIFAR-10 and CIFAR-100 as tensors, read by torchvision, whose MD5 lists are checked first."""

import numpy as np
import torch
from torch import Tensor

from dsnn.data.folder import DataFolder
from dsnn.data.generated import generated
from dsnn.errors import UserError

CLASSES = {"cifar10": 10, "cifar100": 100, "generated": 10}
"""Number of classes by data set."""
_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_GENERATED_COUNT = {"train": 4096, "test": 1024}


def check_dataset(dataset: str) -> None:
    """Raise UserError on a data set that is not one of CLASSES."""
    if dataset not in CLASSES:
        raise UserError(f"unknown data set {dataset!r}: one of {', '.join(CLASSES)}")


def images_and_labels(dataset: str, split: str, folder: DataFolder) -> tuple[Tensor, Tensor]:
    """All images of a split in their published order, and their labels.

    `split` is "train" or "test". Images are float32 (N, 3, 32, 32) in [0, 1], exactly byte/255 as
    torchvision's ToTensor gives; labels are int64 (N,), for CIFAR-100 the fine ones. "generated"
    needs no folder. Raises UserError where the files are missing or not the published ones.
    """
    check_dataset(dataset)
    if dataset == "generated":
        return generated(split, _GENERATED_COUNT[split])
    pixels, labels = pixels_and_labels(dataset, split, folder)
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous(), labels


def pixels_and_labels(
    dataset: str, split: str, folder: DataFolder, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """The first `limit` images of a split as bytes (N, 32, 32, 3), and their labels as above.

    Generated images are rounded to bytes. Raises UserError as `images_and_labels`.
    """
    check_dataset(dataset)
    if dataset == "generated":
        count = _GENERATED_COUNT[split]
        images, labels = generated(split, min(limit or count, count))
        return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), labels
    pixels, labels = _read(dataset, split, folder)
    return torch.from_numpy(pixels)[:limit], torch.tensor(labels, dtype=torch.int64)[:limit]


def _read(dataset: str, split: str, folder: DataFolder) -> tuple[np.ndarray, list[int]]:
    from dsnn.data.vision import torchvision

    place = folder.path / _FOLDERS[dataset]
    remedy = f"run `dsnn data {dataset}`, or name the folder with --data or DSNN_DATA"
    if not place.is_dir():
        raise UserError(
            f"no {dataset} images: looked for {_FOLDERS[dataset]} in {folder}; {remedy}"
        )
    reader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    try:
        found = reader[dataset](folder.path, train=split == "train", download=False)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"{place} is incomplete or damaged: `dsnn data {dataset}` names the file; "
            "delete it and run that again"
        ) from error
    return found.data, found.targets
