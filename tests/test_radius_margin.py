"""Certified radii: never beyond the true distance to another class, and what makes them zero."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from verification.radius import certified_radii, certified_radius, separations

MEAN, STD = (0.5,), (0.25,)


def opposed(seed: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor, float]:
    """Logits (w·x, -w·x), images, their classes and the pixel constant sqrt(2) |w| / std."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(48, generator=generator)
    head = nn.Linear(48, 2, bias=False)
    head.weight = nn.Parameter(torch.stack([weight, -weight]))
    net = nn.Sequential(nn.Flatten(), head)
    images = torch.rand((64, 3, 4, 4), generator=generator)
    exact = distances(weight, images)
    labels = torch.from_numpy((exact < 0).astype(np.int64))
    lipschitz = math.sqrt(2) * float(weight.double().norm()) / STD[0] * (1 + 1e-14)
    return net, images, labels, lipschitz


def weight_of(net: nn.Sequential) -> torch.Tensor:
    return next(net.parameters())[0].detach()


def distances(weight: torch.Tensor, images: torch.Tensor) -> np.ndarray:
    """The signed distance in pixels of each image to the boundary w·(x - mean) = 0, in fsum."""
    w = weight.double().tolist()
    length = math.sqrt(math.fsum(a * a for a in w))
    rows = (images.double().flatten(1) - MEAN[0]).tolist()
    return np.array(
        [math.fsum(a * b for a, b in zip(w, row, strict=True)) / length for row in rows]
    )


@pytest.mark.parametrize("seed", range(5))
def test_radius_is_at_most_the_distance_to_the_other_class_and_close_to_it(seed: int):
    net, images, labels, lipschitz = opposed(seed)
    radii = certified_radii(net, images, labels, MEAN, STD, lipschitz)
    truth = np.abs(distances(weight_of(net), images))
    assert (radii < truth).all()
    assert (radii[truth > 1e-2] > 0.9999 * truth[truth > 1e-2]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_radius_without_the_factor_sqrt2_would_be_wrong(seed: int):
    net, images, labels, lipschitz = opposed(seed)
    radii = certified_radii(net, images, labels, MEAN, STD, lipschitz)
    truth = np.abs(distances(weight_of(net), images))
    assert (math.sqrt(2) * radii > truth)[truth > 1e-2].all()


def test_the_other_class_begins_just_beyond_the_distance():
    net, images, labels, _ = opposed(0)
    weight = weight_of(net).double()
    truth = distances(weight_of(net), images)
    step = torch.from_numpy(truth)[:, None] * (weight / weight.norm())
    moved = (images.double().flatten(1) - 1.001 * step).reshape(images.shape)
    logits = net.double()((moved - MEAN[0]) / STD[0])
    assert (logits.argmax(1) != labels).all()


def test_wrong_class_tie_and_non_finite_logits_have_radius_zero():
    net, images, labels, lipschitz = opposed(1)
    assert not certified_radii(net, images, 1 - labels, MEAN, STD, lipschitz).any()
    tie = torch.full((1, 3, 4, 4), MEAN[0])
    assert not certified_radii(net, tie, labels[:1], MEAN, STD, lipschitz).any()
    for bad in (math.nan, math.inf):
        broken = images[:2].clone()
        broken[:, 0, 0, 0] = bad
        assert not certified_radii(net, broken, labels[:2], MEAN, STD, lipschitz).any()


def test_a_nearly_tied_image_whose_margin_is_rounding_has_radius_zero():
    assert certified_radius(1e-7, 1e-7, 1.0) == 0.0
    assert certified_radius(0.0, 0.0, 1.0) == 0.0
    assert certified_radius(math.nan, 0.0, 1.0) == 0.0
    assert certified_radius(1.0, math.inf, 1.0) == 0.0
    assert certified_radius(1.0, 0.0, math.inf) == 0.0


def test_radius_falls_as_the_lipschitz_bound_grows():
    net, images, labels, lipschitz = opposed(2)
    tight = certified_radii(net, images, labels, MEAN, STD, lipschitz)
    loose = certified_radii(net, images, labels, MEAN, STD, 2 * lipschitz)
    assert (loose[tight > 0] < tight[tight > 0]).all()
    assert (loose > 0.49 * tight)[tight > 0].all()


@pytest.mark.parametrize("lipschitz", [-1.0, math.nan])
def test_a_lipschitz_bound_below_zero_is_refused(lipschitz: float):
    net, images, labels, _ = opposed(0)
    with pytest.raises(ValueError, match="Lipschitz"):
        certified_radii(net, images, labels, MEAN, STD, lipschitz)


def test_the_rounding_of_the_executed_logits_is_measured_and_paid_for():
    net, images, labels, lipschitz = opposed(3)
    radii = certified_radii(net, images, labels, MEAN, STD, lipschitz)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = certified_radii(net, images, labels, MEAN, STD, lipschitz)
    assert (coarse < np.abs(distances(weight_of(net), images))).all()
    assert (coarse < 0.9999 * radii)[radii > 0].any()
    assert coarse.any()


class Batched(nn.Sequential):
    """In float32 all ties for many images at once: a kernel may round by the size of the batch."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores = super().forward(input)
        return scores * 0 if input.shape[0] > 8 and input.dtype == torch.float32 else scores


def test_margins_are_those_of_the_batch_that_is_evaluated():
    net, images, labels, lipschitz = opposed(3)
    assert certified_radii(net, images, labels, MEAN, STD, lipschitz).any()
    assert not certified_radii(Batched(*net), images, labels, MEAN, STD, lipschitz).any()


# With the rows of the head. ------------------------------------------------------------------


def three_classes(seed: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A linear network with rows of different lengths, images, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(48, 3, bias=False)
    lengths = torch.tensor([[0.2], [1.0], [3.0]])
    head.weight = nn.Parameter(torch.randn(3, 48, generator=generator) * lengths)
    net = nn.Sequential(nn.Flatten(), head)
    images = torch.rand((64, 3, 4, 4), generator=generator)
    with torch.no_grad():
        return net, images, net.double()((images.double() - MEAN[0]) / STD[0]).argmax(1)


@pytest.mark.parametrize("seed", range(5))
def test_radius_by_rows_is_at_most_the_distance_to_every_other_class_and_close_to_it(seed: int):
    net, images, labels = three_classes(seed)
    rows = weights_of(net)
    radii = certified_radii(net.float(), images, labels, MEAN, STD, 1 / STD[0], rows)
    truth = []
    for image, label in zip(images, labels.tolist(), strict=True):
        others = [rows[label].double() - rows[j].double() for j in range(3) if j != label]
        truth.append(min(float(distances(w, image[None])[0]) for w in others))
    exact = np.array(truth)
    assert (radii < exact).all()
    assert (radii[exact > 1e-2] > 0.999 * exact[exact > 1e-2]).all()


def weights_of(net: nn.Sequential) -> torch.Tensor:
    return next(net.parameters()).detach().float()


def test_rows_never_give_less_than_the_margin_over_sqrt2_when_their_norm_is_at_most_1():
    net, images, labels = three_classes(7)
    with torch.no_grad():
        next(net.parameters()).div_(torch.linalg.matrix_norm(weights_of(net), 2) * 1.001)
    plain = certified_radii(net.float(), images, labels, MEAN, STD, 1 / STD[0])
    by_rows = certified_radii(net, images, labels, MEAN, STD, 1 / STD[0], weights_of(net))
    assert (by_rows >= plain).all()
    assert (by_rows > 1.1 * plain)[plain > 0].any()


@pytest.mark.parametrize("seed", range(10))
def test_separations_are_above_the_exact_distances(seed: int):
    rows = torch.randn(4, 97, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (seed - 5)
    found = separations(rows)
    for i in range(4):
        for j in range(4):
            w = [Fraction(a) - Fraction(b) for a, b in zip(*rows[[i, j]].tolist(), strict=True)]
            square = sum((a * a for a in w), Fraction(0))
            assert Fraction(float(found[i, j])) ** 2 >= square
            assert Fraction(float(found[i, j])) ** 2 <= square * (1 + Fraction(1, 10**9))


def test_rows_by_which_ties_errors_and_bad_numbers_have_radius_zero():
    net, images, labels = three_classes(1)
    rows = weights_of(net)
    wrong = certified_radii(net.float(), images, (labels + 1) % 3, MEAN, STD, 1 / STD[0], rows)
    assert not wrong.any()
    tie = torch.full((1, 3, 4, 4), MEAN[0])
    assert not certified_radii(net, tie, labels[:1], MEAN, STD, 1 / STD[0], rows).any()
    broken = images[:2].clone()
    broken[:, 0, 0, 0] = math.nan
    assert not certified_radii(net, broken, labels[:2], MEAN, STD, 1 / STD[0], rows).any()
    with pytest.raises(ArithmeticError, match="finite"):
        separations(torch.tensor([[math.inf], [0.0]]))


def test_equal_rows_decide_nothing():
    """Two classes with one row differ by their biases alone; a tie of them is no certificate."""
    head = nn.Linear(48, 2)
    with torch.no_grad():
        head.weight.copy_(head.weight[:1].expand(2, -1))
        head.bias.copy_(torch.tensor([1.0, 1.0]))
    net = nn.Sequential(nn.Flatten(), head)
    images, labels = torch.rand(4, 3, 4, 4), torch.zeros(4, dtype=torch.long)
    assert not certified_radii(net, images, labels, MEAN, STD, 4.0, weights_of(net)).any()
