"""Pairs of points at which a module is evaluated with a bound on its error: they refute constants.

Half of them lie along the direction in which the Jacobian says that most happens.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import nn

from dsnn.errors import UserError
from verification.running_error import evaluate
from verification.strategies import draws
from verification.strategies.arithmetic import inner, minus, over
from verification.strategies.fields import Images
from verification.strategies.rounding import COVER, UNIT, Array, Tracked, exact
from verification.strategies.trial import Structure

STATES = 4096  # up to which sums of products are bounded
JACOBIANS = 256  # states up to which pairs follow its eigenvectors
PAIRS = 8


@dataclass(frozen=True, repr=False)
class ModuleSample(Structure):
    """Pairs of points at the scale `size`, `apart` times that from each other: along the largest
    eigenvector of the symmetric part of the Jacobian, of JᵀJ, or anywhere."""

    size: float
    apart: float
    along: str
    seed: int


def samples(shape: tuple[int, ...]) -> SearchStrategy[ModuleSample]:
    """Samples for states of `shape`, what is simple first."""
    few = math.prod(shape) <= JACOBIANS
    return st.builds(
        ModuleSample,
        size=st.sampled_from((1.0, 4.0, 0.25, 32.0)),
        apart=st.sampled_from((1.0, 2.0**-4, 2.0**-10)),
        along=st.sampled_from(("symmetric", "norm", "any") if few else ("any",)),
        seed=draws.seeds,
    )


def images(exactly: nn.Module, shape: tuple[int, ...], sample: ModuleSample) -> Images:
    """Pairs as columns (1, states, pairs) and the field at them, with a bound on its error."""
    size = math.prod(shape)
    if size > STATES:
        raise UserError(f"{size} states: pairs are bounded for up to {STATES}, give a smaller one")
    rng = np.random.default_rng(sample.seed)
    x = sample.size * rng.standard_normal((PAIRS, size))
    d = rng.standard_normal((PAIRS, size))
    if sample.along != "any":
        d = _directions(exactly, shape, x, sample.along)
    d *= sample.apart * sample.size / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-300)
    y = x + d
    found = evaluate(exactly, torch.tensor(np.concatenate([x, y])).reshape(2 * PAIRS, *shape))
    value = found.value.flatten(1).numpy()
    error = found.error[:, None].numpy()  # in l2, so of each entry too
    sides = [
        Tracked(value[rows].T[None], np.broadcast_to(error[rows].T[None], (1, size, PAIRS)))
        for rows in (slice(PAIRS), slice(PAIRS, None))
    ]
    return Images(x.T[None], y.T[None], *sides)


def _directions(exactly: nn.Module, shape: tuple[int, ...], x: Array, along: str) -> Array:
    """Eigenvectors at each of the points (pairs, states). Examples of a batch are independent, so
    the Jacobian of their sum is that of each."""
    batch, size = x.shape

    def summed(points: torch.Tensor) -> torch.Tensor:
        return exactly(points.reshape(batch, *shape)).reshape(batch, size).sum(0)

    jacobian = torch.autograd.functional.jacobian(summed, torch.tensor(x))
    J = torch.as_tensor(jacobian).permute(1, 0, 2).numpy()
    turned = J.swapaxes(1, 2)
    return np.linalg.eigh(J + turned if along == "symmetric" else turned @ J)[1][:, :, -1]


def stretches(pairs: Images) -> Array:
    """Lower bounds of |X(x) - X(y)| / |x - y|."""
    d, moved = minus(exact(pairs.x), exact(pairs.y)), minus(pairs.at_x, pairs.at_y)
    ratio = over(inner(moved, moved), inner(d, d))
    low = ratio.value - ratio.error * COVER - 4 * UNIT * np.abs(ratio.value)
    return np.sqrt(np.maximum(np.nan_to_num(low, nan=0.0), 0.0)) * (1 - 4 * UNIT)
