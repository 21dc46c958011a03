"""What counts as an adversarial example, and what the attack finds on a classifier we can solve."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments.attacks import AT_RADIUS, PAPER, distances, into_ball, judge, l2_pgd


class Halves(nn.Module):
    """Two classes split by the hyperplane <w, x> = c: the distance to it is |<w, x> - c| / |w|."""

    def __init__(self):
        super().__init__()
        self.w = torch.randn(3 * 8 * 8, generator=torch.Generator().manual_seed(3))

    def distance(self, x: torch.Tensor) -> torch.Tensor:
        w = self.w.double()
        return (x.double() - 0.5).flatten(1) @ w / w.norm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x - 0.5).flatten(1) @ self.w
        return torch.stack((-score, score), 1)


@pytest.fixture
def model() -> nn.Module:
    return Halves().eval()


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return 0.3 + 0.4 * torch.rand((64, 3, 8, 8), generator=generator)


@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 1e-4, 0.03, 1.0])
@pytest.mark.parametrize("reach", [0.5, 1.0, 1.0000001, 50.0])
def test_what_is_drawn_into_the_ball_is_in_it(epsilon: float, reach: float):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((50, 3, 8, 8), generator=generator)
    direction = torch.randn(images.shape, generator=generator)
    direction /= direction.flatten(1).norm(dim=1)[:, None, None, None]
    drawn = into_ball(images, images + reach * epsilon * direction, epsilon)
    assert (distances(images, drawn) <= epsilon).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.dtype == torch.float32


def test_what_is_inside_the_ball_stays_and_what_is_outside_is_hardly_moved(images: torch.Tensor):
    step = torch.full_like(images, 0.1)
    size = step[0].norm().item()
    assert torch.equal(into_ball(images, images + step, 2 * size), images + step)
    drawn = into_ball(images, images + step, 0.5 * size)
    assert (distances(images, drawn) > 0.499 * size).all()


def test_only_examples_in_the_ball_and_the_pixel_range_count(model: nn.Module):
    labels = torch.ones(1, dtype=torch.int64)
    image = torch.full((1, 3, 8, 8), 0.5) + 1e-3 * Halves().w.reshape(1, 3, 8, 8).sign()
    other = torch.full((1, 3, 8, 8), 0.5) - 1e-3 * Halves().w.reshape(1, 3, 8, 8).sign()
    distance = distances(image, other).item()
    assert judge(model, image, labels, other, distance).broken.item()
    assert not judge(model, image, labels, other, float(np.nextafter(distance, 0))).broken.item()
    assert not judge(model, image, labels, image, distance).broken.item()
    outside = other.clone()
    outside[0, 0, 0, 0] = -1e-6
    assert not judge(model, image, labels, outside, 10.0).broken.item()
    assert not judge(model, image, labels, outside * torch.nan, 10.0).broken.item()


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_the_attack_breaks_what_is_near_and_nothing_that_is_far(
    model: nn.Module, images: torch.Tensor, epsilon: float
):
    signed = Halves().distance(images)
    labels = (signed > 0).long()
    shift = torch.linspace(0.01, 2.0, len(images), dtype=torch.float64) * epsilon
    unit = Halves().w.double().reshape(3, 8, 8) / Halves().w.double().norm()
    wanted = (2 * labels - 1) * shift - signed
    images = (images.double() + wanted[:, None, None, None] * unit).float()
    true = Halves().distance(images).abs()
    outcome = l2_pgd(model, images, labels, epsilon, 0, PAPER)
    assert not (outcome.broken & (true > epsilon)).any()
    assert outcome.broken[true < 0.1 * epsilon].all()
    assert (outcome.distance <= epsilon).all()


def test_certified_images_are_attacked_where_the_cross_entropy_has_no_gradient(
    images: torch.Tensor,
):
    """A wrong radius of a network with large scores would else never be found."""
    model = Halves().eval()
    model.w *= 1e6
    true = model.distance(images)
    labels = (true > 0).long()
    near = (true.abs() > 0.15) & (true.abs() < 0.3)
    assert near.sum() > 5
    picked = (model, images[near], labels[near], 0.4, 0)
    assert not l2_pgd(*picked, PAPER).broken.any()
    assert l2_pgd(*picked, AT_RADIUS).broken.all()


def test_the_seed_decides_and_the_global_state_stays(model: nn.Module, images: torch.Tensor):
    labels = (Halves().distance(images) > 0).long()
    state = torch.get_rng_state()
    first = l2_pgd(model, images, labels, 0.4, 1, PAPER)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = l2_pgd(model, images, labels, 0.4, 1, PAPER)
    other = l2_pgd(model, images, labels, 0.4, 2, PAPER)
    assert torch.equal(first.distance, again.distance)
    assert torch.equal(first.broken, again.broken)
    assert not torch.equal(first.distance, other.distance)
