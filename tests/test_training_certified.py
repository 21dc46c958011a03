"""The certified training step: what it learns from, and that its estimates enter no proof."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dsnn.errors import UserError
from dsnn.models import CERTIFIED, Sizes, build_certified
from dsnn.models.certified import SLOPES, Pair
from dsnn.operators.bounds import singular_values
from dsnn.training.certified import (
    DIRECTION,
    CertifiedStep,
    estimated_times,
    finalise,
    margin_cross_entropy,
    retract,
)
from dsnn.training.constructed import construct, is_constructed
from verification.bound import network_bound

SMALL = Sizes((12, 48), (1, 1))


def batch(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = 0.25 * torch.randn(count, 3, 32, 32, generator=generator)
    return images, torch.arange(count) % 10


def small(arch: str, **settings: Any) -> CertifiedStep:
    torch.manual_seed(0)
    net = build_certified(arch, sizes=SMALL)
    return CertifiedStep(net, rate=1e-2, dtype=torch.float32, **settings)


def constructed(arch: str) -> CertifiedStep:
    torch.manual_seed(0)
    net = build_certified(arch, sizes=SMALL)
    construct(net)
    return CertifiedStep(net, rate=1e-2, dtype=torch.float32)


def test_the_loss_is_cross_entropy_with_an_offset():
    scores, labels = torch.tensor([[1.0, 0.2], [0.1, 0.3]]), torch.tensor([0, 1])
    found = margin_cross_entropy(scores, labels, offset=0.5, temperature=0.25)
    by_hand = [math.log1p(math.exp((0.2 - 0.5) / 0.25)), math.log1p(math.exp((0.1 + 0.2) / 0.25))]
    assert float(found) == pytest.approx(sum(by_hand) / 2, rel=1e-6)


@pytest.mark.parametrize("arch", CERTIFIED)
def test_training_learns_and_the_trained_network_is_proved(arch: str):
    step, (images, labels) = small(arch), batch()
    losses = [float(step(images, labels).loss) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    net = finalise(step.net)
    bound = network_bound(net, (1.0, 1.0, 1.0))
    assert bound.lipschitz <= 1
    assert bound.lipschitz_pixel <= 1


@pytest.mark.parametrize("arch", CERTIFIED)
def test_a_constructed_network_is_proved_whenever_training_ends_and_computes_the_same(arch: str):
    step, (images, labels) = constructed(arch), batch()
    losses = [float(step(images, labels).loss) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    assert not any(DIRECTION in name for name in step.net.state_dict())
    with torch.no_grad():
        before = step.net.body(images)
        net = finalise(step.net)
        after = net.body(images)
    assert not is_constructed(net)
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-5)
    assert network_bound(net, (1.0, 1.0, 1.0)).lipschitz_pixel <= 1


@pytest.mark.parametrize("arch", CERTIFIED)
def test_all_learned_numbers_have_the_gradient_of_the_loss(arch: str):
    """Through the norms too: against automatic differentiation of the whole at once."""
    step, (images, labels) = small(arch), batch(70)  # two parts
    net = step.net
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    losses = step.accumulate(images, labels)
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    for name, value in net.named_buffers():
        value.copy_(buffers[name])
    body = torch.func.functional_call(net.body, estimated_times(net), (images,))
    scores = net.head(body) - 0.53 * F.one_hot(labels, 10)
    whole = F.cross_entropy(scores / 0.25, labels)
    whole.backward()
    assert float(losses.loss) == pytest.approx(float(whole.detach()), rel=1e-4)
    learned = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert found.keys() == learned.keys()
    for name, parameter in learned.items():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-6), name


def test_images_are_moved_along_the_gradient_of_their_loss():
    images, labels = batch(70)  # two parts
    plain = small("certified-smooth")
    times = {name: time.detach() for name, time in estimated_times(plain.net).items()}
    x = images.clone().requires_grad_()
    scores = plain.net.head(torch.func.functional_call(plain.net.body, times, (x,)))
    before = margin_cross_entropy(scores, labels, offset=0.53, temperature=0.25)
    (gradient,) = torch.autograd.grad(before, x)
    moved = images + 0.2 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    by_hand = float(small("certified-smooth").accumulate(moved, labels).loss)
    step = small("certified-smooth", perturbation=0.2)
    assert float(step.accumulate(images, labels).loss) == pytest.approx(by_hand, rel=1e-4)
    assert by_hand > float(before.detach()) + 1e-3


def test_power_iteration_comes_near_from_below_and_is_not_kept():
    step = small("certified-switch")
    net = step.net
    times = {}
    for _ in range(60):
        times = {name: time.detach() for name, time in estimated_times(net).items()}
    for name, part, side in net.steps():
        euler = part.steps[0] if isinstance(part, Pair) else part
        operator = euler.field.get_submodule("operator")
        low, high = singular_values(operator, (side, side)).norm
        short = name.removeprefix("body.")
        if isinstance(part, Pair):
            a = SLOPES["contractive"]
            estimate = 2 * a / (1 - a) / times[f"{short}.0.u"].item()
        else:
            estimate = math.sqrt(2 / times[f"{short}.u"].item())
        assert 0.97 * low < estimate <= high * (1 + 1e-5), name
    assert any(DIRECTION in name for name in net.state_dict())
    assert not any(DIRECTION in name for name in finalise(net).state_dict())


@pytest.mark.parametrize("arch", CERTIFIED)
@pytest.mark.parametrize("name", ["body.stages.0.flow.0.field.operator.weight", "head.weight"])
def test_a_norm_that_vanishes_is_the_users_to_mend(arch: str, name: str):
    """As rows do whose lengths overflow, after a rate that is far too large."""
    net = small(arch).net
    with torch.no_grad():
        net.get_parameter(name).zero_()
    with pytest.raises(UserError, match=r"cannot be bounded: .*smaller rate") as refusal:
        finalise(net)
    assert "\n" not in str(refusal.value)


def test_retraction_restores_orthogonal_matrices_and_rows():
    net = small("certified-switch").net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    retract(net, 4)
    for _, part, side in net.steps():
        if isinstance(part, Pair):
            found = singular_values(part.steps[1].field.get_submodule("operator"), (side, side))
            assert 1 - 1e-5 < found.smallest[0] <= found.norm[1] < 1 + 1e-5
    assert torch.allclose(net.head.weight.norm(dim=1), torch.ones(10))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"offset": -1.0}, "offset -1.0"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"rate": math.nan}, "rate nan"),
        ({"perturbation": -0.1}, "perturbation -0.1"),
        ({"dtype": torch.float16}, "float16"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_settings_that_are_not_allowed(settings: dict, expected: str):
    net = build_certified("certified-non-expansive", sizes=SMALL)
    with pytest.raises(UserError, match=expected):
        CertifiedStep(net, **settings)


def test_inputs_that_are_no_batch():
    step = small("certified-non-expansive")
    images, labels = batch(4)
    for bad in ((images[:, :, :16], labels), (images[:3], labels), (images[:0], labels[:0])):
        with pytest.raises(UserError, match="are not a batch"):
            step(*bad)
