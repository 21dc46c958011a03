"""After a projection the laws admit the network: checked with the laws, one-sided and exact."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from dsnn.data.statistics import SIDE
from dsnn.integrators import Alternation, Step
from dsnn.models import ARCHITECTURES, CifarNet, build
from dsnn.models.cifar import Stage
from dsnn.operators import Convolution
from dsnn.operators.bounds import singular_values
from dsnn.training import project
from dsnn.training.lift_norm import lift_norm_bound
from dsnn.training.projection import KEEP
from theory import Theorem, balls, theorems

CONSTRAINED = ("non-expansive", "switch-prescribed", "switch-flexible")
ORTHOGONAL = {"s_min": 1, "s_max": 1, "w_max": 1}


def disturbed(arch: str, seed: int, signed_steps: bool = True) -> CifarNet:
    """A narrow network far outside the admissible set."""
    net = build(arch, channels=(4, 6, 8), signed_steps=signed_steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return net


def constant(theorem: Theorem, **values: float) -> float:
    """An upper bound of the theorem's constant at these values, rounded up."""
    assert theorem.constant is not None
    return balls.upper(theorem.constant, values)


def steps(net: CifarNet) -> list[Step]:
    return [module for module in net.modules() if isinstance(module, Step)]


def times(net: CifarNet) -> list[list[float]]:
    return [step.u.tolist() for step in steps(net)]


def weights(net: CifarNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("seed", range(20))
def test_projected_non_expansive_steps_satisfy_t8(seed: int):
    net = disturbed("non-expansive", seed)
    project(net)
    law = theorems()["T8-nonexpansive-euler"]
    for (h,) in times(net):
        assert h >= 0
        assert constant(law, h=h, **ORTHOGONAL) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_projected_prescribed_pairs_satisfy_both_forms_of_t9(seed: int):
    net = disturbed("switch-prescribed", seed)
    project(net)
    law = theorems()["T9-switching"]
    for step, (h_e, h_c) in zip(steps(net), times(net), strict=True):
        values = {"h_1": h_c, "h_2": h_e, "a": 0.5, "S": 2, **ORTHOGONAL}
        assert h_e >= 0
        assert constant(law, **values) <= 1
        assert balls.upper(law.forms["paper"], values) <= 1
        assert isinstance(step, Alternation)
        assert 0 <= step.rescaling.item() <= 1


def test_every_float32_contractive_step_near_the_clamp_is_admissible():
    net = build("switch-prescribed", channels=(2, 2, 2))
    law = theorems()["T9-switching"].forms["paper"]
    draws = torch.linspace(0.29, 1.01, 6 * 60).tolist()
    for chunk in range(60):
        for step, h_c in zip(steps(net), draws[chunk::60], strict=True):
            step.u.data[1] = h_c
        project(net)
        for h_e, h_c in times(net):
            values = {"h_1": h_c, "h_2": h_e, "a": 0.5, "S": 2}
            assert balls.upper(law, values) <= 1
            assert balls.lower(law, values) >= 1 - 3e-6


@pytest.mark.parametrize("signed_steps", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_projected_flexible_pairs_satisfy_t10(seed: int, signed_steps: bool):
    net = disturbed("switch-flexible", seed, signed_steps)
    project(net)
    law = theorems()["T10-flexible-switching"]
    for h_1, h_2 in times(net):
        values = {"h_1": h_1, "h_2": h_2, "a": 0.5, **ORTHOGONAL}
        assert constant(law, **values) <= 1
        if h_2 >= 0:
            assert balls.upper(law.forms["paper"], values) <= 1


@pytest.mark.parametrize("arch", CONSTRAINED)
@pytest.mark.parametrize("seed", range(3))
def test_projected_lifts_and_head_have_norm_at_most_one(arch: str, seed: int):
    net = disturbed(arch, seed)
    project(net)
    for k, stage in enumerate(net.stages):
        assert isinstance(stage, Stage)
        bounds = singular_values(stage.lift.operator, (SIDE >> k, SIDE >> k))
        assert bounds.norm[1] <= 1
    squares = sum(Fraction(entry) ** 2 for entry in net.head.weight.flatten().tolist())
    assert squares <= 1
    assert squares >= Fraction(999_997, 1_000_000)


@pytest.mark.parametrize("signed_steps", [True, False])
@pytest.mark.parametrize("arch", CONSTRAINED)
def test_projecting_again_changes_nothing(arch: str, signed_steps: bool):
    net = disturbed(arch, 1, signed_steps)
    project(net)
    once = weights(net)
    project(net)
    for name, value in weights(net).items():
        assert torch.equal(value, once[name]), name


def test_an_admissible_network_is_left_as_it_is():
    net = build("switch-flexible", channels=(4, 6, 8))
    with torch.no_grad():
        net.head.weight.mul_(0.1)
        for stage in net.stages:
            assert isinstance(stage, Stage)
            stage.lift.operator.weight.mul_(0.5)
    before = weights(net)
    project(net)
    assert all(torch.equal(value, before[name]) for name, value in weights(net).items())


@pytest.mark.parametrize("arch", [a for a in ARCHITECTURES if a not in CONSTRAINED])
def test_the_baselines_are_not_constrained(arch: str):
    net = disturbed(arch, 0)
    before = weights(net)
    project(net)
    assert all(torch.equal(value, before[name]) for name, value in weights(net).items())


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(1, 3, 5), (3, 7, 8), (9, 4, 6)])
@pytest.mark.parametrize("circular", [False, True])
def test_lift_scaled_by_its_float32_bound_has_norm_at_most_one(
    inputs: int, outputs: int, side: int, circular: bool
):
    operator = Convolution(inputs, outputs, circular=circular)
    generator = torch.Generator().manual_seed(side)
    torch.nn.init.normal_(operator.weight, generator=generator)
    with torch.no_grad():
        bound = float(lift_norm_bound(operator, side))
        basis = torch.eye(inputs * side * side, dtype=torch.float64)
        columns = operator.double()(basis.reshape(-1, inputs, side, side)).flatten(1)
        norm = float(torch.linalg.matrix_norm(columns, 2))
    assert KEEP * norm <= bound
    assert bound <= (1.02 if circular else 1.15) * norm


def test_lift_bound_is_homogeneous():
    operator = Convolution(3, 5).double()
    torch.nn.init.normal_(operator.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bound = float(lift_norm_bound(operator, 7))
        operator.weight.mul_(1e-3)
        assert float(lift_norm_bound(operator, 7)) == pytest.approx(1e-3 * bound, rel=1e-12)
        operator.weight.zero_()
        assert float(lift_norm_bound(operator, 7)) <= 1e-30


@pytest.mark.parametrize(("stride", "groups"), [(2, 1), (1, 2)])
def test_lift_bound_refuses_what_it_does_not_cover(stride: int, groups: int):
    with pytest.raises(ValueError, match="stride=1 and groups=1"):
        lift_norm_bound(Convolution(4, 4, stride=stride, groups=groups), 8)
