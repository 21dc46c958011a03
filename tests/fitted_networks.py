"""Networks that classify generated images, for the tests of evaluation."""

from pathlib import Path

import torch

from dsnn.data.generated import generated
from dsnn.data.statistics import training
from dsnn.models import build
from dsnn.weights import Card, save


def fitted(arch: str, classes: int, dataset: str, path: Path) -> Path:
    """A narrow network at its initialisation, its head fitted to generated images."""
    torch.manual_seed(0)
    net = build(arch, classes, channels=(6, 8, 8)).eval()
    mean, std = training(dataset)
    images, labels = generated("train", 400)
    shape = (1, 3, 1, 1)
    features = (images - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)
    with torch.no_grad():
        for stage in net.stages:
            features = stage(features)
        features = features.flatten(1).double()
        targets = torch.nn.functional.one_hot(labels, classes).double() - 1 / classes
        gram = features.T @ features + 10 * torch.eye(features.shape[1], dtype=torch.float64)
        net.head.weight.copy_(torch.linalg.solve(gram, features.T @ targets).T)
        net.head.bias.zero_()
    save(path, net, Card(arch, dataset, 0.15, mean, std))
    return path
