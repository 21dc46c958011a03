"""Crops, flips and normalisation are those of torchvision, and orders are reproducible."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from training_cases import COUNT, MEAN, SIDE, STD, images

from dsnn.data.cifar import images_and_labels, pixels_and_labels
from dsnn.data.folder import DataFolder
from dsnn.errors import UserError
from dsnn.training.accuracy import correct
from dsnn.training.images import PAD, ResidentImages

NOWHERE = DataFolder(Path("nowhere"), "a test")


def test_a_batch_is_cropped_flipped_and_normalised_as_torchvision_does():
    data = images()
    draw = data.draw(seed=4, epoch=2)
    batch, labels = data.batch(draw, 3, 40)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    for place in range(3, 40):
        index = int(draw.order[place])
        padded = F.pad(data.pixels[index].permute(2, 0, 1), (PAD,) * 4)
        row, column = draw.corner[place].tolist()
        window = padded[:, row : row + SIDE, column : column + SIDE]
        if draw.mirrored[place]:
            window = window.flip(2)
        torch.testing.assert_close(
            batch[place - 3], (window.float() / 255 - mean) / std, rtol=1e-6, atol=1e-6
        )
        assert labels[place - 3] == data.labels[index]


def test_every_corner_and_both_directions_are_drawn():
    draws = [images().draw(0, epoch) for epoch in range(40)]
    corner = torch.cat([draw.corner for draw in draws])
    assert corner.min() == 0
    assert corner.max() == 2 * PAD
    assert len(corner.unique(dim=0)) == (2 * PAD + 1) ** 2
    share = torch.cat([draw.mirrored for draw in draws]).float().mean()
    assert 0.45 < float(share) < 0.55


def test_a_draw_belongs_to_its_seed_and_epoch():
    first, again = images().draw(1, 2), images().draw(1, 2)
    assert torch.equal(first.order, again.order)
    assert torch.equal(first.corner, again.corner)
    assert sorted(first.order.tolist()) == list(range(COUNT))
    for seed, epoch in ((1, 3), (2, 2), (0, 2)):
        assert not torch.equal(images().draw(seed, epoch).order, first.order)


def test_without_augmentation_images_are_as_stored():
    data = images(augment=False)
    draw = data.draw(0, 0)
    batch, _ = data.batch(draw, 0, COUNT)
    plain, labels = data.plain(0, COUNT)
    assert torch.equal(batch, plain[draw.order])
    assert torch.equal(labels, data.labels)


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (torch.zeros(4, 6, 6, 3), torch.zeros(4)),
        (torch.zeros(4, 3, 6, 6, dtype=torch.uint8), torch.zeros(4)),
        (torch.zeros(4, 6, 6, 3, dtype=torch.uint8), torch.zeros(5)),
    ],
)
def test_what_is_no_set_of_images_is_refused(pixels: torch.Tensor, labels: torch.Tensor):
    with pytest.raises(UserError):
        ResidentImages(pixels, labels, mean=MEAN, std=STD, device=torch.device("cpu"))


def test_the_bytes_are_the_images_of_the_evaluation(data_folder: Path):
    folder = DataFolder(data_folder, "a test")
    pixels, labels = pixels_and_labels("cifar10", "test", folder, limit=50)
    images, all_labels = images_and_labels("cifar10", "test", folder)
    assert len(pixels) == 50
    assert torch.equal(pixels.permute(0, 3, 1, 2).float() / 255, images[:50])
    assert torch.equal(labels, all_labels[:50])


def test_generated_images_are_rounded_to_bytes():
    pixels, labels = pixels_and_labels("generated", "train", NOWHERE, limit=20)
    assert pixels.shape == (20, 32, 32, 3)
    assert pixels.dtype == torch.uint8
    assert labels.tolist() == [*range(10)] * 2


def test_correct_counts_and_leaves_the_network_in_its_mode():
    data = images(augment=False)
    head = torch.nn.Linear(3 * SIDE**2, 3)
    net = torch.nn.Sequential(torch.nn.Flatten(), head)
    predicted = net(data.plain(0, COUNT)[0]).argmax(1)
    data.labels.copy_(predicted)
    data.labels[30:] = (predicted[30:] + 1) % 3
    assert correct(net, data) == 30
    assert net.training
    with torch.no_grad():
        head.bias[0] = float("nan")
    assert correct(net, data) == 0
