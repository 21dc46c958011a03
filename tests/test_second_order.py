"""Radii from the gradient of a margin, against automatic differentiation and ascent."""

import copy
import math

import mpmath
import numpy as np
import pytest
import torch
from sympy import exp, lambdify, simplify

from dsnn.models import CertifiedNet, Sizes, build_certified
from dsnn.training.certified import finalise
from theory import curvature
from verification.radius import certified_radii, radii, separations
from verification.second_order import Margins, Smooth, smooth

ARCHS = ("certified-smooth", "certified-switch")
MEAN, UNIT = (0.5, 0.4, 0.3), (1.0, 1.0, 1.0)


def network(seed: int = 0, arch: str = "certified-smooth") -> CertifiedNet:
    """With random kernels, biases and head, and almost orthogonal matrices."""
    torch.manual_seed(seed)
    net = build_certified(arch, sizes=Sizes((12, 48), (2, 1)))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("operator.weight"):
                size = 0.2 if parameter.shape[2] == 1 else 1.0
                noise = torch.randn_like(parameter) / math.sqrt(parameter[0].numel())
                parameter.add_(size * noise)
            elif name.endswith("field.bias"):
                parameter.normal_(0, 0.1)
    return finalise(net)


def images(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear").float()


def labels_of(net: CertifiedNet, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(x - torch.tensor(MEAN)[:, None, None]).argmax(1)


def test_the_radius_uses_the_margin_up_and_less_of_it_remains_farther_out():
    assert simplify(curvature.least_margin.subs(curvature.r, curvature.radius)) == 0
    assert curvature.least_margin.diff(curvature.r).is_negative


def around(net: CertifiedNet, x: torch.Tensor, labels: torch.Tensor) -> list[Margins]:
    bounds = smooth(net)
    assert bounds is not None
    centred = x.double() - torch.tensor(MEAN, dtype=torch.float64)[:, None, None]
    return [bounds.around(*pair) for pair in zip(centred, labels.tolist(), strict=True)]


@pytest.mark.parametrize("z", [0.01, 0.7, 3.0, 9.0])
def test_a_softplus_gains_no_more_beyond_its_tangent_than_said_and_that_much_somewhere(z: float):
    assert (
        simplify(
            (curvature.nearby.subs(curvature.D, 2 * curvature.z) - curvature.anywhere).rewrite(exp)
        )
        == 0
    )
    beyond = lambdify([curvature.z, curvature.d], curvature.beyond, "mpmath")
    nearby = lambdify([curvature.z, curvature.D], curvature.nearby, "mpmath")
    anywhere = float(curvature.anywhere.subs(curvature.z, z))
    with mpmath.workdps(40):
        for limit in (0.1 * z, z, 1.9 * z, 2 * z, 5 * z, 40 * z):
            kappa = nearby(z, limit) if limit <= 2 * z else anywhere
            moves = [limit * k / 50 for k in range(-50, 51) if k]
            assert all(0 <= 2 * beyond(z, d) <= kappa * d**2 * (1 + 1e-12) for d in moves)
    assert 2 * float(beyond(z, -2 * z)) == pytest.approx(anywhere * (2 * z) ** 2)


@pytest.mark.parametrize("r", [0.02, 0.3, math.inf])
def test_the_executed_curvatures_are_those_of_the_law(r: float):
    """Not below it at any entry, and above it by roundings."""
    bounds = smooth(network(seed=4))
    assert bounds is not None
    step, (seen, *_) = bounds.steps[0], bounds._forward(images(1).double())
    nearby = lambdify([curvature.z, curvature.D], curvature.nearby, "mpmath")
    found, beta = step._kappa(seen, r)[0], step.sharpness
    reaches = (beta * r * step.rows.sqrt()).tolist()
    for channel in range(12):
        for k in range(0, 16, 5):
            z, D = beta * abs(float(seen.z[0, channel, k, k])), reaches[channel]
            with mpmath.workdps(40):
                near = 2 * z >= D
                law = nearby(z, D) if near else mpmath.tanh(z / 2) / (2 * z)
            assert beta * law <= float(found[channel, k, k]) <= beta * law * (1 + 1e-4) + 1e-6


def falls_of(
    net: CertifiedNet, x: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes and curvatures (B, 10), 0 for the image's own class."""
    found = torch.zeros(2, len(x), 10, dtype=torch.float64)
    for i, margins_of in enumerate(around(net, x, labels)):
        for j in range(10):
            if j != labels[i]:
                fall = margins_of.fall(j)
                found[0, i, j], found[1, i, j] = fall.slope, fall.curvature
    return found[0], found[1]


def margins(net: CertifiedNet, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    exact = copy.deepcopy(net).double()
    scores = exact(x - torch.tensor(MEAN, dtype=torch.float64)[:, None, None])
    return scores.gather(1, labels[:, None]) - scores


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("seed", range(3))
def test_the_slope_is_the_length_of_the_gradient(arch: str, seed: int):
    net, x = network(seed, arch), images(4).double()
    labels = torch.tensor([0, 3, 5, 9])
    slope, curvature = falls_of(net, x, labels)
    x.requires_grad_()
    for j in range(10):
        (gradient,) = torch.autograd.grad(margins(net, x, labels)[:, j].sum(), x)
        other, length = labels != j, gradient.flatten(1).norm(dim=1)
        assert torch.allclose(slope[other, j], length[other], rtol=1e-9)
        assert (slope[other, j] >= length[other]).all()
    assert (curvature[torch.arange(10) != labels[:, None]] > 0).all()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("r", [0.05, 0.5, 4.0])
def test_no_margin_falls_by_more_than_slope_and_curvature_allow(arch: str, seed: int, r: float):
    """Along the gradient, from it by ascent, and in random directions."""
    net, x = network(seed, arch), images(6, seed).double()
    labels = labels_of(net, x.float())
    slope, curvature = falls_of(net, x, labels)
    least = -slope * r - curvature * r**2 / 2
    at = margins(net, x, labels).detach()
    for j in range(10):
        move = torch.randn_like(x)
        for _ in range(12):
            y = (x + r * move / move.flatten(1).norm(dim=1)[:, None, None, None]).requires_grad_()
            now = margins(net, y, labels)[:, j]
            rest = labels != j
            assert ((now - at[:, j]) >= least[:, j])[rest].all()
            (move,) = torch.autograd.grad(-now.sum(), y)


def test_without_the_curvature_the_bound_would_be_wrong():
    net, x = network(seed=2), images(6).double()
    labels = labels_of(net, x.float())
    (slope, _), r = falls_of(net, x, labels), 4.0
    at, most = margins(net, x, labels).detach(), -math.inf
    for j in range(10):
        move = torch.randn_like(x)
        for _ in range(12):
            move = move / (move.flatten(1).norm(dim=1)[:, None, None, None] + 1e-30)
            y = (x + r * move).requires_grad_()
            now = margins(net, y, labels)[:, j]
            most = max(most, float((at[:, j] - now.detach() - r * slope[:, j]).max()))
            (move,) = torch.autograd.grad(-now.sum(), y)
    assert most > 1e-3


@pytest.mark.parametrize("arch", ARCHS)
def test_what_bends_is_at_least_the_norm_by_dense_matrices_and_tightened_comes_near(arch: str):
    net, x = network(5, arch), images(1)
    bounds, (margins_of,) = smooth(net), around(net, x, torch.tensor([3]))
    assert bounds is not None
    for step, bend in zip(bounds.steps, margins_of._bends(1, 0.3), strict=True):
        size = step.kernel.shape[1] * step.side**2
        units = torch.eye(size, dtype=torch.float64).view(size, -1, step.side, step.side)
        A = step.apply(units).flatten(1).T
        form = A.T @ (bend.weights.flatten()[:, None] * A)
        true = step.reach**2 * float(torch.linalg.eigvalsh(form)[-1])
        tightened = float(step.tightened(bend).most)
        assert true <= tightened <= float(bend.most)
        assert tightened < 1.8 * true, "or nothing is gained"


@pytest.mark.parametrize("seed", range(2))
def test_a_radius_is_at_least_the_constant_s_and_larger_somewhere(seed: int):
    net, x = network(seed=seed), images(24)
    labels = labels_of(net, x)
    arguments = (net, x, labels, MEAN, UNIT, 1.0, net.head.weight)
    found = radii(*arguments, smooth(net))
    assert np.array_equal(found.by_constant, certified_radii(*arguments))
    assert (found.largest >= found.by_constant).all()
    assert (found.largest > 1.05 * found.by_constant).any()
    assert not radii(net, x, (labels + 1) % 10, *arguments[3:], smooth(net)).largest.any()


AT = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("seed", range(3, 6))
def test_within_its_radius_no_image_changes_class(arch: str, seed: int):
    net, x = network(seed, arch), images(16)
    labels = labels_of(net, x)
    found = radii(net, x, labels, MEAN, UNIT, 1.0, net.head.weight, smooth(net), AT).largest
    limit = torch.from_numpy(found)[:, None, None, None]
    assert (limit > 0).all()
    for j in range(10):
        move = torch.randn_like(x.double())
        for _ in range(10):
            move = move / move.flatten(1).norm(dim=1)[:, None, None, None]
            y = (x + limit * move).requires_grad_()
            now = margins(net, y, labels)[:, j]
            assert (now[labels != j] > 0).all()
            (move,) = torch.autograd.grad(-now.sum(), y)


def test_more_work_gives_larger_radii_where_they_are_asked_for():
    net, x = network(seed=3), images(24)
    labels = labels_of(net, x)
    arguments = (net, x, labels, MEAN, UNIT, 1.0, net.head.weight, smooth(net))
    cheap, found = radii(*arguments).largest, radii(*arguments, AT).largest
    larger = found > cheap
    assert larger.any()
    assert np.array_equal(found[~larger], cheap[~larger])
    assert all(min(abs(r / at - 1) for at in AT) < 1e-9 for r in found[larger])


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("r", [0.1, 0.5, 2.0])
def test_what_is_lost_in_any_direction_is_no_more_than_said(arch: str, r: float):
    net, x = network(6, arch), images(3).double()
    labels = labels_of(net, x.float())
    found, at = around(net, x, labels), margins(net, x, labels).detach()
    for j in range(10):
        move, lost = torch.randn_like(x), torch.zeros(3, dtype=torch.float64)
        for _ in range(15):
            move = move / (move.flatten(1).norm(dim=1)[:, None, None, None] + 1e-30)
            y = (x + r * move).requires_grad_()
            now = margins(net, y, labels)[:, j]
            lost = torch.maximum(lost, (at[:, j] - now).detach())
            (move,) = torch.autograd.grad(-now.sum(), y)
        for i in (labels != j).nonzero()[:, 0].tolist():
            # A margin that was seen to be used up.
            assert not found[i].stays(float(lost[i]), j, r)


@pytest.mark.parametrize(
    ("arch", "time"),
    [(ARCHS[0], "flow.0.u"), (ARCHS[1], "flow.1.0.u"), (ARCHS[1], "flow.1.1.u")],
)
def test_only_networks_of_smooth_steps_and_pairs_that_do_not_expand_have_it(arch: str, time: str):
    plain = build_certified("certified-non-expansive", sizes=Sizes((12, 48), (1, 1)))
    assert smooth(finalise(plain)) is None
    assert smooth(torch.nn.Linear(2, 2)) is None
    net = network(arch=arch)
    assert isinstance(smooth(net), Smooth)
    parameter = net.get_parameter(f"body.stages.0.{time}")
    for factor in (1.01, -1.0):
        changed = copy.deepcopy(net)
        with torch.no_grad():
            changed.get_parameter(f"body.stages.0.{time}").copy_(factor * parameter)
        assert smooth(changed) is None


def test_what_a_step_misses_counts_as_often_as_its_state_moves():
    """The second step of a pair sees states that the first has moved apart."""
    bounds, x = Smooth(network(arch="certified-switch")), images(1).double()
    step, seen = bounds.steps[2], bounds._forward(x)[2]
    assert 1.05 < step.reach < 1.15
    g = torch.randn(1, *seen.z.shape[1:], dtype=torch.float64)
    missed = step.backward(g, seen)[1]
    single = copy.copy(step)
    single.reach = 1.0
    assert torch.allclose(missed, step.reach * single.backward(g, seen)[1], 1e-12, 0)


def test_slopes_are_at_most_what_the_constant_allows():
    net, x = network(seed=1), images(8)
    labels = labels_of(net, x)
    assert (falls_of(net, x, labels)[0] <= separations(net.head.weight)[labels] + 1e-9).all()


@pytest.mark.parametrize(("name", "value"), [("stride", 2), ("groups", 2), ("padding", 0)])
def test_only_the_convolutions_that_it_executes_are_taken(name: str, value: int):
    net = network()
    assert smooth(net) is not None
    setattr(net.get_submodule("body.stages.0.flow.0.field.operator"), name, value)
    assert smooth(net) is None
