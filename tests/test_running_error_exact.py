"""The running error against exact rational arithmetic, and what it refuses to bound."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from torch import Tensor, nn

from dsnn.fields import GradientField, ResidualField, TwoLayerField
from dsnn.integrators import Alternation, Euler, FixedEuler, FlexiblePair
from dsnn.operators import Convolution, Dense, LinearOperator
from verification.running_error import UnboundedOperation, evaluate

Rational = np.ndarray
"""An array of Fractions; NumPy's sums and products of objects are exact."""


def exact(values: Tensor) -> Rational:
    rational = np.vectorize(Fraction, otypes=[object])
    return rational(values.detach().double().numpy())


def convolve(x: Rational, kernel: Rational, padding: int, circular: bool) -> Rational:
    """The convolution of x (C, H, W), stride 1, by its definition."""
    _, height, width = x.shape
    size = kernel.shape[-1]
    out_h, out_w = height + 2 * padding - size + 1, width + 2 * padding - size + 1
    y = np.full((kernel.shape[0], out_h, out_w), Fraction(0), dtype=object)
    for i, j, k, l in np.ndindex(out_h, out_w, size, size):
        p, q = i + k - padding, j + l - padding
        if circular or (0 <= p < height and 0 <= q < width):
            y[:, i, j] += kernel[:, :, k, l] @ x[:, p % height, q % width]
    return y


def flipped(kernel: Rational) -> Rational:
    """The kernel of the adjoint of a stride-1 convolution with padding size // 2."""
    return kernel.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]


def apply(operator: LinearOperator, x: Rational, adjoint: bool = False) -> Rational:
    weight = exact(operator.weight)
    if isinstance(operator, Dense):
        return (weight.T if adjoint else weight) @ x
    assert isinstance(operator, Convolution)
    kernel = flipped(weight) if adjoint else weight
    return convolve(x, kernel, operator.padding, operator.circular)


def leaky(x: Rational, slope: float) -> Rational:
    return np.where(x > 0, x, Fraction(slope) * x)


def shifted(y: Rational, bias: Tensor) -> Rational:
    b = exact(bias)
    return y + b.reshape(-1, *[1] * (y.ndim - 1))


def velocity(field: nn.Module, x: Rational) -> Rational:
    """f(x) of the fields, from their formulae."""
    if isinstance(field, GradientField):
        inner = leaky(shifted(apply(field.operator, x), field.bias), field.slope)
        return -apply(field.operator, inner, adjoint=True)
    if isinstance(field, ResidualField):
        return leaky(shifted(apply(field.operator, x), field.bias), field.slope)
    assert isinstance(field, TwoLayerField)
    inner = leaky(shifted(apply(field.inner, x), field.bias), 0.0)
    return apply(field.outer, inner) - Fraction(field.damping) * x


def step(module: nn.Module, x: Rational) -> Rational:
    """A step from its formula, in exact arithmetic on the stored numbers."""
    if isinstance(module, FixedEuler):
        return x + Fraction(module.time) * velocity(module.field, x)
    assert isinstance(module, Euler | Alternation | FlexiblePair)
    times = exact(module.times())
    if isinstance(module, Euler):
        return x + times[0] * velocity(module.field, x)
    for _ in range(module.substeps):
        if isinstance(module, Alternation):
            rate = times[0] / module.substeps * Fraction(module.rescaling.item())
            x = x + rate * velocity(module.expansive, x)
            x = x + times[1] / module.substeps * velocity(module.contractive, x)
        else:
            x = x + times[0] / module.substeps * velocity(module.contractive, x)
    if isinstance(module, FlexiblePair):
        x = x - times[1] * velocity(module.expansive, x)
    return x


def conv(circular: bool = False) -> Convolution:
    return Convolution(2, 2, circular=circular)


STEPS: dict[str, Callable[[], nn.Module]] = {
    "euler": lambda: Euler(GradientField(conv(), 2), 0.7),
    "euler-circular": lambda: Euler(GradientField(conv(circular=True), 2), 0.7),
    "residual-block": lambda: FixedEuler(TwoLayerField(conv(), conv(), 2), 1.0),
    "averaged-block": lambda: FixedEuler(TwoLayerField(conv(), conv(), 2, damping=1.0), 0.3),
    "alternation-in-thirds": lambda: Alternation(
        ResidualField(conv(), 2), GradientField(conv(), 2, 0.3),
        (0.3, 0.9), substeps=3,
    ),
    "flexible-in-thirds": lambda: FlexiblePair(
        GradientField(conv(circular=True), 2, 0.5), GradientField(conv(), 2),
        (0.9, -1.1), substeps=3,
    ),
    "dense": lambda: Euler(GradientField(Dense(5, 7), 7, 0.3), 0.7),
}  # fmt: skip


def randomised(name: str, scale: float) -> nn.Module:
    torch.manual_seed(3)
    module = STEPS[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim != 1 or len(parameter) > 2:
                parameter.copy_(torch.randn_like(parameter) * scale)
            else:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    return module


def distance(computed: Tensor, truth: Rational) -> float:
    """|computed - truth| in l2, from exact squares; correct to float precision."""
    return float(sum(((exact(computed) - truth) ** 2).flat)) ** 0.5


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("scale", [1e-3, 0.5, 30.0])
def test_the_exact_value_lies_within_the_bound(name: str, scale: float):
    module = randomised(name, scale)
    shape = (5,) if name == "dense" else (2, 4, 4)
    x = torch.randn((3, *shape)) * scale
    result = evaluate(module, x)
    for value, error, start in zip(result.value, result.error, x, strict=True):
        off = distance(value, step(module, exact(start)))
        assert off <= float(error)
        assert float(error) <= 1e-6 * float(value.norm() + start.norm())


def test_float32_values_are_outside_the_bound():
    """The comparison can fail: rounding at 2^-24 instead of 2^-53 is seen."""
    module = randomised("euler", 0.5)
    x = torch.randn(3, 2, 4, 4)
    coarse = module(x).detach()
    errors = evaluate(module, x).error
    for value, error, start in zip(coarse, errors, x, strict=True):
        assert distance(value, step(module, exact(start))) > float(error)


def true_error(function: Callable[[Rational], Rational], module: nn.Module, x: Tensor) -> None:
    result = evaluate(module, x)
    for value, error, start in zip(result.value, result.error, x, strict=True):
        assert distance(value, function(exact(start))) <= float(error)


def test_normalisation_sums_and_products_with_constants_lie_within_the_bound():
    mean, std = (
        torch.tensor([[[0.49]], [[0.3]]]).double(),
        torch.tensor([[[0.2]], [[0.7]]]).double(),
    )
    x = torch.rand(4, 2, 3, 3)
    m, s = exact(mean), exact(std)
    true_error(lambda v: (v - m) / s, Buffered(lambda x, m, s: (x - m) / s, mean, std), x)
    true_error(lambda v: (m - v) * s, Buffered(lambda x, m, s: (m - x) * s, mean, std), x)
    rate = Fraction(0.1)
    true_error(lambda v: v * v + rate * v, Buffered(lambda x: torch.addcmul(0.1 * x, x, x)), x)


def test_errors_of_weights_and_inputs_are_carried_by_layers_that_round_nothing():
    """(x / 3) then a shift, a doubling or a pooling: the error is that of x / 3, in new places."""
    x = torch.rand(2, 1, 4, 4) + 1
    third = torch.full((1, 1, 1, 1), 3.0)
    ones = torch.ones(1, 1, 1, 1)
    cases = [
        (lambda v: 2 * v / 3, lambda x, t, w: F.conv2d(x / t, 2 * w)),
        (lambda v: v / 3, lambda x, t, w: F.conv2d(x, w / t)),
        (
            lambda v: (v / 3).reshape(1, 2, 2, 2, 2).max((2, 4)),
            lambda x, t, w: F.max_pool2d(x / t, 2),
        ),
        (
            lambda v: (v / 3).reshape(1, 2, 2, 2, 2).transpose(0, 2, 4, 1, 3).reshape(4, 2, 2),
            lambda x, t, w: F.pixel_unshuffle(x / t, 2),
        ),
        (
            lambda v: (v / 3).reshape(1, 2, 2, 2, 2).sum(4).sum(2) / 4,
            lambda x, t, w: F.avg_pool2d(x / t, 2),
        ),
    ]
    for truth, computed in cases:
        true_error(truth, Buffered(computed, third, ones), x)
    overlapping = evaluate(Buffered(lambda x, t: F.max_pool2d(x / t, 3, 1), third), x)
    plain = evaluate(Buffered(lambda x, t: x / t, third), x)
    assert (overlapping.error >= 3 * plain.error).all()
    means = evaluate(Buffered(lambda x, t: F.avg_pool2d(x / t, 2), third), x)
    assert (means.error < 8 * plain.error).all()
    with pytest.raises(UnboundedOperation, match="average pooling"):
        evaluate(Buffered(lambda x, t: F.avg_pool2d(x / t, 3, 1), third), x)


def test_circular_convolutions_carry_errors_by_the_norm_of_their_torus():
    """Forty orthogonal ones in a row: padding on its own account would double the error each."""
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[0, 0, 0, 1] = 1.0

    def shifts(x: Tensor, t: Tensor, w: Tensor) -> Tensor:
        x = x / t
        for _ in range(40):
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w)
        return x

    module = Buffered(shifts, torch.full((1,), 3.0), kernel)
    x = torch.rand(2, 1, 4, 4)
    true_error(lambda v: v / 3, module, x)
    assert (evaluate(module, x).error < 1e-12).all()


def test_padding_changed_in_place_is_no_longer_circular():
    def changed(x: Tensor, t: Tensor, w: Tensor) -> Tensor:
        y = F.pad(x, (1, 1, 1, 1), mode="circular")
        y.add_(y / t)
        return F.conv2d(y, w)

    module = Buffered(changed, torch.full((1,), 3.0), torch.ones(1, 1, 3, 3))
    x = torch.rand(2, 1, 4, 4)
    kernel = exact(torch.ones(1, 1, 3, 3))
    true_error(lambda v: convolve(v + v / 3, kernel, 1, True), module, x)
    assert (evaluate(module, x).error > 1e-16).all()


def test_what_is_done_in_place_to_a_view_worsens_the_whole():
    third = torch.full((1,), 3.0)

    def add_to_a_strip(x: Tensor, t: Tensor) -> Tensor:
        y = x.clone()
        y.narrow(1, 0, 2).add_(x.narrow(1, 0, 2) / t)
        return y

    x = torch.rand(2, 4)
    assert (evaluate(Buffered(add_to_a_strip, third), x).error > 1e-18).all()
    true_error(
        lambda v: np.concatenate([v[:2] + v[:2] / 3, v[2:]]), Buffered(add_to_a_strip, third), x
    )


@pytest.mark.parametrize("scale", [1e200, float("inf"), float("nan")])
def test_overflow_has_infinite_error(scale: float):
    module = Buffered(lambda x: F.relu(-(x * x)))
    assert evaluate(module, torch.full((2, 3), scale, dtype=torch.float64)).error.isinf().all()


UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "a tensor made inside": lambda x: x + torch.ones(3, dtype=torch.float64),
    "across the batch": lambda x: x.flatten(0),
    "a detour through numpy": lambda x: torch.from_numpy(x.numpy() / 3),
    "other precision": lambda x: x.float().double(),
    "an integer that float64 lacks": lambda x: x * (2**53 + 1),
    "branching on values": lambda x: x if x.sum() > 0 else -x,
    "branching on precision": lambda x: x if x.dtype == torch.float64 else -x,
    "an option without a rule": lambda x: torch.add(x, x, alpha=2),
    "in place": lambda x: F.relu(x, inplace=True),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_without_a_bound_is_refused(name: str):
    with pytest.raises(UnboundedOperation):
        evaluate(Buffered(UNKNOWN[name]), torch.ones(2, 3))


def test_a_constant_map_and_foreign_constants_are_refused():
    with pytest.raises(UnboundedOperation, match="does not depend"):
        evaluate(Buffered(lambda x, c: c + c, torch.ones(2, 3)), torch.ones(2, 3))
    foreign = torch.ones(3, dtype=torch.float64)
    with pytest.raises(UnboundedOperation, match="unknown origin"):
        evaluate(Buffered(lambda x: x * foreign), torch.ones(2, 3))


def test_published_networks_agree_with_their_float32_execution(data_folder):
    from dsnn.weights import load

    path = data_folder / "published" / "cifar10_switch_flexible_0.15.pt"
    net = load(path, arch="switch-flexible").net
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        executed = net(x)
    result = evaluate(net, x)
    assert (executed.double() - result.value).norm(dim=1).max() < 1e-5
    assert (result.error < 1e-6).all()
    assert (result.error > 0).all()
