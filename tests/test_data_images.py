"""Images: generated ones repeat and can be learnt, real ones are what torchvision reads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dsnn.data.cifar import CLASSES, images_and_labels
from dsnn.data.folder import data_folder
from dsnn.data.generated import NAMES, generated
from dsnn.data.statistics import TRAINING, published_evaluation, training
from dsnn.errors import UserError


def test_generated_images_are_the_same_every_time_and_for_every_count():
    images, labels = generated("test", 64)
    again, _ = generated("test", 20)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (64, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(images[:20], again)
    assert not torch.equal(images[:20], generated("train", 20)[0])
    assert sorted(set(labels.tolist())) == list(range(len(NAMES)))


def test_generated_classes_can_be_told_apart_by_shape():
    """A nearest neighbour on gradient magnitudes is far above chance: labels are not noise."""

    def edges(images: torch.Tensor) -> torch.Tensor:
        right = (images[..., :-1, 1:] - images[..., :-1, :-1]).abs().mean(1)
        down = (images[..., 1:, :-1] - images[..., :-1, :-1]).abs().mean(1)
        pooled = torch.nn.functional.avg_pool2d(torch.stack((right, down), 1), 5)
        return torch.nn.functional.normalize(pooled.flatten(1))

    (seen, names), (new, truth) = generated("train", 1000), generated("test", 200)
    nearest = (edges(new) @ edges(seen).T).argmax(1)
    assert (names[nearest] == truth).double().mean() > 0.5


@pytest.mark.parametrize(("split", "count"), [("valid", 3), ("test", 0)])
def test_generated_refuses_what_it_does_not_have(split: str, count: int):
    with pytest.raises(UserError, match="train or test"):
        generated(split, count)


def test_statistics_by_protocol():
    assert set(TRAINING) == set(CLASSES)
    assert published_evaluation("non-expansive", "cifar10") == training("cifar10")
    mean, std = published_evaluation("switch-prescribed", "cifar10")
    assert mean == training("cifar10")[0]
    assert all(p > t for p, t in zip(std, training("cifar10")[1], strict=True))
    with pytest.raises(UserError, match="mnist"):
        training("mnist")


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_real_images_are_the_bytes_over_255(data_folder: Path, dataset: str):
    from dsnn.data.folder import data_folder as resolve
    from dsnn.data.vision import torchvision

    images, labels = images_and_labels(dataset, "test", resolve(data_folder))
    assert images.shape == (10000, 3, 32, 32)
    assert torch.bincount(labels).tolist() == [10000 // CLASSES[dataset]] * CLASSES[dataset]
    reader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    published = reader[dataset](data_folder, train=False)
    picture, label = published[17]
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    assert np.array_equal(images[17].permute(1, 2, 0).numpy(), pixels)
    assert labels[17] == label


def test_torchvision_imports_whatever_build_it_is():
    """In a fresh process, twice in one, and without a warning."""
    code = (
        "from dsnn.data.vision import torchvision as first\n"
        "import importlib, dsnn.data.vision as module\n"
        "assert importlib.reload(module).torchvision is first\n"
        "import torch; torch.ops.torchvision.nms, torch.ops.torchvision.qnms\n"
        "import torchvision.transforms.v2"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_unknown_data_set_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cifar10, cifar100, generated"):
        images_and_labels("mnist", "test", data_folder(tmp_path))


def test_a_damaged_file_is_refused(data_folder: Path, tmp_path: Path):
    from dsnn.data.folder import data_folder as resolve

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for file in (data_folder / "cifar-100-python").iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "test").unlink()
    (folder / "test").write_bytes(b"not the test set")
    with pytest.raises(UserError, match="incomplete or damaged"):
        images_and_labels("cifar100", "test", resolve(tmp_path))
