"""An image set made by a formula: ten classes of simple shapes, for where no CIFAR is found.

A class is one pattern; an image draws its position, scale, orientation, two colours and noise from
a seed of its own (split, index), so the first n images are the same whatever the count. The task
is learnt in seconds, and is no substitute for photographs: results on it say so.
"""

import math

import numpy as np
import torch
from torch import Tensor

from dsnn.data.statistics import SIDE
from dsnn.errors import UserError

NAMES = (
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
    "disc",
    "ring",
    "square",
    "cross",
    "triangle",
    "gradient",
)
"""The classes, by label."""
_SPLITS = {"train": 0, "test": 1}
_NOISE = 0.04
_COLOUR_DISTANCE = 0.6


def _turned(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = math.cos(angle), math.sin(angle)
    return c * u + s * v, c * v - s * u


def _pattern(label: int, rng: np.random.Generator) -> np.ndarray:
    """The share of the first colour at every pixel, (SIDE, SIDE) in [0, 1]."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    frequency, phase = rng.uniform(1.5, 3.5), rng.uniform(0, 2 * math.pi)
    u, v = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    size, tilt = rng.uniform(0.45, 0.7), rng.uniform(-0.2, 0.2)
    radius = np.hypot(u, v)
    p, q = _turned(u, v, tilt)
    if label < 3:
        angle = (math.pi / 2, 0.0, math.pi / 4)[label] + tilt / 2
        along, _ = _turned(x, y, angle)
        share = 0.5 + 0.5 * np.sin(math.pi * frequency * along + phase)
    elif label == 3:
        share = 0.5 + 0.5 * np.sign(
            np.sin(math.pi * frequency * x + phase) * np.sin(math.pi * frequency * y + phase)
        )
    elif label == 9:
        along, _ = _turned(x, y, phase)
        share = 0.5 + along / (2 * math.sqrt(2))
    else:
        inside = {
            4: radius < size,
            5: abs(radius - size) < 0.14,
            6: np.maximum(abs(p), abs(q)) < 0.85 * size,
            7: np.minimum(abs(p), abs(q)) < 0.16,
            8: (q < 0.6 * size) & (q > 1.8 * abs(p) - size),
        }[label]
        share = inside.astype(float)
    return np.clip(share, 0, 1)


def _colours(rng: np.random.Generator) -> np.ndarray:
    """Two colours that can be told apart, (2, 3)."""
    while True:
        colours = rng.uniform(0.05, 0.95, (2, 3))
        if np.linalg.norm(colours[0] - colours[1]) > _COLOUR_DISTANCE:
            return colours


def generated(split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` images of a split and their labels, which run through the classes in turn.

    `split` is "train" or "test"; they share no seed. Images are float32 (count, 3, 32, 32) in
    [0, 1], labels int64 (count,). Raises UserError on another split or a count below 1.
    """
    if split not in _SPLITS or count < 1:
        raise UserError(f"no generated images {split!r} x {count}: train or test, at least one")
    images = np.empty((count, 3, SIDE, SIDE), dtype=np.float32)
    for index in range(count):
        rng = np.random.default_rng((_SPLITS[split], index))
        share = _pattern(index % len(NAMES), rng)
        first, second = _colours(rng)[:, :, None, None]
        clean = share * first + (1 - share) * second
        images[index] = np.clip(clean + rng.normal(0, _NOISE, clean.shape), 0, 1)
    return torch.from_numpy(images), torch.arange(count, dtype=torch.int64) % len(NAMES)
