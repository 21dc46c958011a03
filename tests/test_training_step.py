"""The fast step against the literal one, what it does to a network, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from benchmarks.training_step import literal_copy
from dsnn.errors import UserError
from dsnn.models import ARCHITECTURES, CifarNet, build
from dsnn.models.cifar import Stage
from dsnn.published import REGIMES
from dsnn.training import TrainingStep
from dsnn.training.precision import fastest_dtype, out_of_memory, training_device

SMALL = (4, 6, 8)
MARGIN, GAMMA, RATE = 0.3, 0.1, 1e-2


def training_step(
    net: CifarNet, dtype: torch.dtype | None = None, device: str = "cpu", rate: float = RATE
) -> TrainingStep:
    return TrainingStep(net, margin=MARGIN, gamma=GAMMA, rate=rate, device=device, dtype=dtype)


def batch(size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    return images, torch.randint(10, (size,), generator=generator)


def network(arch: str, signed_steps: bool = True) -> CifarNet:
    """A narrow network with kernels that are not orthogonal, so that the penalty has a slope."""
    torch.manual_seed(0)
    net = build(arch, channels=SMALL, signed_steps=signed_steps)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 4:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return net


@pytest.mark.parametrize("regime", ARCHITECTURES)
def test_float32_step_computes_the_literal_losses_and_gradients(regime: str):
    step = training_step(network(regime), torch.float32)
    literal = literal_copy(step.net, margin=MARGIN, gamma=GAMMA, rate=RATE)
    images, labels = batch()
    ours, (hinge, penalty) = step.accumulate(images, labels), literal.accumulate(images, labels)
    assert hinge > 0
    assert penalty > 0
    assert float(ours.hinge) == pytest.approx(hinge, rel=1e-5)
    assert float(ours.penalty) == pytest.approx(penalty, rel=1e-5)
    for stage, block in zip(step.net.stages, literal.blocks, strict=True):
        assert isinstance(stage, Stage)
        flow = list(stage.flow.named_parameters())
        for kind, expected in (
            ("weight", block.kernels),
            ("bias", block.biases),
            ("rescaling", block.r),
        ):
            found = [parameter for name, parameter in flow if name.endswith(kind)]
            for parameter, reference in zip(found, expected, strict=True):
                close(parameter.grad, reference.grad)
        times = [p.grad for name, p in flow if name.endswith(".u") and p.grad is not None]
        for time, expected in zip([u for one in times for u in one], block.u, strict=True):
            close(time, expected.grad)
        close(stage.lift.operator.weight.grad, block.lift.grad)
        for found, expected in (
            (stage.lift.scale, block.scale),
            (stage.lift.bias, block.lift_bias),
        ):
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                close(found.grad, expected.grad)
    close(step.net.head.weight.grad, literal.head[0].grad)
    close(step.net.head.bias.grad, literal.head[1].grad)


def close(found: Tensor | None, expected: Tensor | None) -> None:
    assert found is not None
    assert expected is not None
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed_steps", [True, False])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_steps_reduce_the_loss_and_keep_the_state_finite(
    arch: str, signed_steps: bool, dtype: torch.dtype
):
    rate = 1e-5 if arch == "unconstrained" else RATE  # twelve layers that double their input
    step = training_step(network(arch, signed_steps), dtype, rate=rate)
    images, labels = batch()
    losses = [step(images, labels) for _ in range(25)]
    total = [float(loss.hinge) + GAMMA * float(loss.penalty) for loss in losses]
    assert total[-1] < 0.9 * total[0]
    assert all(torch.isfinite(value).all() for value in step.net.state_dict().values())
    assert all(p.dtype == torch.float32 for p in step.net.parameters())


@pytest.mark.parametrize("regime", REGIMES)
def test_bfloat16_losses_are_close_to_float32(regime: str):
    images, labels = batch(32)
    exact, rounded = (
        training_step(network(regime), dtype).accumulate(images, labels)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.hinge.dtype == torch.float32
    assert float(rounded.hinge) == pytest.approx(float(exact.hinge), rel=0.02)
    assert float(rounded.penalty) == float(exact.penalty)


def test_a_batch_in_parts_gives_the_same_losses_and_gradients(monkeypatch: pytest.MonkeyPatch):
    images, labels = batch(7)
    whole, parts = (training_step(network("switch-flexible"), torch.float32) for _ in range(2))
    once = whole.accumulate(images, labels)
    monkeypatch.setattr("dsnn.training.step.CACHE", 3 * SMALL[0] * 32 * 32 * 4)
    forwards = []
    parts.net.register_forward_pre_hook(lambda _, inputs: forwards.append(len(inputs[0])))
    summed = parts.accumulate(images, labels)
    assert forwards == [3, 3, 1]
    assert float(summed.hinge) == pytest.approx(float(once.hinge), rel=1e-5)
    for found, expected in zip(parts.net.parameters(), whole.net.parameters(), strict=True):
        close(found.grad, expected.grad)


def test_no_gamma_means_no_penalty():
    step = TrainingStep(network("switch-flexible"), margin=0.3, gamma=0, dtype=torch.float32)
    losses = step(*batch())
    assert float(losses.penalty) == 0
    assert float(losses.hinge) > 0


def test_two_runs_give_the_same_bits():
    states = []
    for _ in range(2):
        step = training_step(network("switch-prescribed"), torch.float32)
        for _ in range(3):
            step(*batch())
        states.append(step.net.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_losses_are_close_to_the_processors():
    images, labels = batch(32)
    here, there = (
        training_step(network("switch-flexible"), torch.float32, device)
        for device in ("cpu", "cuda")
    )
    first, second = here(images, labels), there(images, labels)
    assert float(second.hinge) == pytest.approx(float(first.hinge), rel=1e-3)
    assert float(second.penalty) == pytest.approx(float(first.penalty), rel=1e-4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("margin", 0.0),
        ("margin", math.nan),
        ("gamma", -0.1),
        ("rate", 0.0),
        ("rate", math.inf),
        ("momentum", 1.0),
        ("device", "tpu0"),
        ("device", "mps"),
        ("device", "cuda:99"),
        ("dtype", torch.float16),
    ],
)
def test_bad_options_are_refused(option: str, value: object):
    options = {"margin": MARGIN, "gamma": GAMMA, option: value}
    with pytest.raises(UserError) as caught:
        TrainingStep(network("non-expansive"), **options)  # pyright: ignore[reportArgumentType]
    assert str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels"),
    [((4, 3, 28, 28), (4,)), ((4, 3, 32, 32), (5,)), ((0, 3, 32, 32), (0,)), ((3, 32, 32), (1,))],
)
def test_inputs_that_are_not_a_batch_are_refused(images: tuple[int, ...], labels: tuple[int, ...]):
    step = training_step(network("non-expansive"), torch.float32)
    with pytest.raises(UserError, match="not a batch"):
        step(torch.zeros(images), torch.zeros(labels, dtype=torch.long))


def test_the_default_dtype_is_one_the_step_accepts():
    device = training_device("cpu")
    step = training_step(network("non-expansive"))
    assert step.dtype == fastest_dtype(device)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("tried to allocate 80 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("Storage size calculation overflowed with sizes=[1000000000, 9]"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_full_memory_is(error: Exception, full: bool):
    assert out_of_memory(error) is full
