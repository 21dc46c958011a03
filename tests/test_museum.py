"""The museum: known wrong constants and wrong claims, each kept from coming back.

Exhibits that other files keep, or keep too, and the tests that do (the last test here finds them):

`Positive(u)`
    test_audit_command::test_absolute_steps_are_refuted_where_signed_ones_are_proved
    test_targets_architectures::test_the_museum_entry_needs_no_more_than_an_orthogonal_kernel
zero padding, penalty
    test_bounds_convolution::test_zero_padding_breaks_an_orthogonal_kernel
lifting scale
    test_witness_search::test_the_whole_network_expands_pixels
normalisation
    test_audit_command::test_pixel_claims_include_the_normalisation
other statistics
    test_data_images::test_statistics_by_protocol
    test_evaluate_command::test_protocols_differ_where_the_authors_did
spectral_norm
    test_audit_modules::test_what_torch_calls_spectral_norm_of_a_convolution_is_refuted
product over groups
    test_bounds_convolution::test_groups_take_the_maximum_not_the_product
torus of side n
    test_bounds_convolution::test_a_torus_of_the_image_side_is_too_small
D AᵀΣ
    test_property_gradient::test_refuted
explicit Euler, Λ(x)x
    test_property_norm::test_norm_is_refuted
tied law
    test_verify_suite::test_the_tied_law_fails_for_a_rounded_orthogonal_matrix
wide matrix
    test_bounds_convolution::test_a_wide_map_has_smallest_zero
ties
    test_radius_margin::test_wrong_class_tie_and_non_finite_logits_have_radius_zero
pooling
    test_lipschitz_graph::test_pooling_counts_overlaps
two-sided tolerance
    test_lipschitz_modules::test_a_rule_that_is_too_small_is_found
margin without sqrt 2
    test_radius_margin::test_a_radius_without_the_factor_sqrt2_would_be_wrong
weights_only
    test_weights_input::test_a_malicious_pickle_does_not_run
"""

import math
import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from property_modules import Function, dense, skew_field
from torch import Tensor, nn

from dsnn.data.vision import torchvision
from dsnn.models import build
from dsnn.operators.bounds import singular_values
from dsnn.training import orthogonality_defect
from verification import audit
from verification.verdicts import Verdict

HERE = Path(__file__).parent


def judged(module: nn.Module, claim: str, *shape: int) -> Verdict:
    return audit(module, claim, shape, budget=1.0).verdicts[0]


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


# Norms. ------------------------------------------------------------------------------------


def power_iteration(a: Tensor, steps: int) -> float:
    """|A v| after some steps of v <- AᵀA v from a random unit vector."""
    v = torch.randn(a.shape[1])
    for _ in range(steps):
        v = a.T @ (a @ v)
    return float((a @ v).norm() / v.norm())


def test_power_iteration_is_a_lower_bound():
    torch.manual_seed(0)
    a = torch.randn(32, 32)
    exact = float(torch.linalg.matrix_norm(a.double(), 2))
    assert power_iteration(a, 1) < 0.9 * exact
    assert power_iteration(a, 5) < 0.99 * exact
    assert singular_values(linear(a)).norm[1] >= exact * (1 - 1e-12)
    verdict = judged(linear(a / power_iteration(a, 5)), "lipschitz<=1", 32)
    assert verdict.outcome == "refuted"


def power_method(a: Tensor, steps: int = 50) -> float:
    """As in the paper's code: |Aᵀ A v| of a unit vector v, the square of the singular value."""
    v = torch.ones(a.shape[1]) / a.shape[1] ** 0.5
    for _ in range(steps):
        w = a.T @ (a @ v)
        v = w / w.norm()
    return float((a.T @ (a @ v)).norm())


def test_the_papers_power_method_returns_a_square():
    """Divided by it, norms below 1 grow: 0.5 becomes 2."""
    torch.manual_seed(0)
    a = 0.5 * torch.linalg.qr(torch.randn(6, 6)).Q
    assert power_method(a) == pytest.approx(0.25)
    low, high = singular_values(linear(a)).norm
    assert 0.49 < low <= high < 0.51
    assert judged(linear(a / power_method(a)), "lipschitz<=1", 6).lower > 1.99


def circulant(kernel: Tensor, side: int, dilation: int) -> float:
    """The largest |symbol| of a 1-D kernel over the frequencies of a torus of that side."""
    angles = 2 * math.pi * torch.arange(side, dtype=torch.float64) / side
    places = dilation * torch.arange(len(kernel), dtype=torch.float64)
    return float((kernel * torch.exp(1j * angles[:, None] * places)).sum(1).abs().max())


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_torus_that_is_too_small_misses_the_norm(dilation: int):
    """Side n + k//2 is enough for dilation 1 only: here it sees 0 of a map of norm 1.5."""
    kernel = 1.5 * torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    layer = nn.Conv2d(1, 1, (1, 3), padding=(0, dilation), dilation=(1, dilation), bias=False)
    layer.weight = nn.Parameter(kernel.float().reshape(1, 1, 1, 3))
    executed = layer(torch.eye(3).reshape(3, 1, 1, 3)).detach().reshape(3, 3)
    exact = float(torch.linalg.matrix_norm(executed.double(), 2))
    assert (circulant(kernel, 3 + 1, dilation) < 1e-9) == (dilation == 2)
    assert circulant(kernel, 3 + 2 * dilation, dilation) >= exact
    verdict = judged(layer, "lipschitz<=1.49", 1, 1, 3)
    assert verdict.outcome == "refuted"
    assert verdict.upper >= exact


def test_a_shift_is_orthogonal_on_the_torus_and_not_with_zero_padding():
    """The penalty of the infinite grid is 0 for both."""
    circular = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=False)
    zeros = nn.Conv2d(2, 2, 3, padding=1, bias=False)
    for layer, outcome in ((circular, "proved"), (zeros, "refuted")):
        layer.weight = nn.Parameter(torch.zeros(2, 2, 3, 3))
        layer.weight.data[:, :, 1, 2] = torch.eye(2)
        assert not orthogonality_defect(layer.weight.detach()[None]).any()
        assert judged(layer, "orthogonal", 2, 5, 5).outcome == outcome


def test_the_lifting_counts():
    """Flows that do not expand, in a network that does."""
    torch.manual_seed(0)
    net = build("non-expansive", channels=(4, 4, 4)).eval()
    for stage in net.stages:
        for parameter in stage.flow.parameters():
            parameter.data.mul_(0.1)
        nn.init.dirac_(stage.lift.operator.weight).data.mul_(100.0)
    claims = ["stages.*.flow:lipschitz<=1", "stages.0.lift:lipschitz<=1"]
    verdicts = audit(net, claims, (3, 32, 32), budget=1.0).verdicts
    assert [v.outcome for v in verdicts] == ["proved"] * 3 + ["refuted"]
    assert verdicts[-1].lower > 50


# Steps. ------------------------------------------------------------------------------------


def test_a_wide_matrix_has_the_smallest_singular_value_zero():
    """x - h Aᵀσ(Ax) keeps the kernel of A: its constant is 1, and not that of the least number
    of a thin decomposition of A."""
    a = linear(torch.tensor([[1.0, 0.0]]))

    def step(x: Tensor, a: nn.Linear) -> Tensor:
        return x - F.linear(F.leaky_relu(a(x), 0.5), a.weight.T)

    assert torch.linalg.svdvals(a.weight.detach())[-1] == 1
    assert judged(Function(step, a), "lipschitz<=1", 2).outcome == "proved"
    assert judged(Function(step, a), "lipschitz<=0.75", 2).outcome == "refuted"
    assert judged(Function(step, a), "contractive", 2).outcome != "proved"


def test_a_wrong_gradient_and_a_wrong_rotation():
    torch.manual_seed(0)
    scale, n = torch.rand(4) + 0.5, 4
    wrong = Function(lambda x, a, d: F.linear(torch.tanh(a(x)), (d[:, None] * a.weight.T)),
                     dense(n, 7), scale)  # fmt: skip
    assert judged(wrong, "gradient-field", n).outcome == "refuted"
    euler = Function(lambda x, a: x + 0.2 * skew_field(x, a), dense(3, 9))
    assert judged(euler, "norm-preserving", 3).outcome == "refuted"


class SdpLayer(nn.Module):
    """x - 2 Wᵀ T relu(Wx), T = 1 / sum_j |W Wᵀ|_ij q_j / (q_i + epsilon)."""

    def __init__(self, epsilon: float):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.epsilon = nn.Parameter(torch.randn(1, 4)), epsilon
        self.q = nn.Parameter(torch.full((1,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        gram = (self.weight @ self.weight.T).abs()
        t = 1 / (gram * self.q / (self.q[:, None] + self.epsilon)).sum(1)
        return x - 2 * F.linear(t * torch.relu(F.linear(x, self.weight)), self.weight.T)


def test_an_epsilon_inside_a_normalisation():
    verdict = judged(SdpLayer(1e-6), "lipschitz<=1", 4)
    assert verdict.outcome == "refuted"
    assert verdict.lower > 2.9
    assert judged(SdpLayer(0.0), "lipschitz<=1.00001", 4).outcome == "proved"


@pytest.mark.parametrize("terms", [3, 5, 7])
def test_a_truncated_exponential_is_no_isometry(terms: int):
    """SOC: of a skew matrix the partial sums of exp have norms above 1."""
    b = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    powers = [torch.linalg.matrix_power(b, k) / math.factorial(k) for k in range(terms + 1)]
    layer = linear(torch.stack(powers).sum(0))
    exact = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    verdict = judged(layer, "orthogonal", 2)
    assert abs(exact - 1) > 1e-6
    assert verdict.outcome == "refuted"
    if exact > 1:
        assert judged(layer, "lipschitz<=1", 2).outcome == "refuted"


# Pooling. ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "side", "counted_as"),
    [
        (nn.AvgPool2d(2, 1), 7, 0.5),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), 5, 1.0),
        (nn.AdaptiveAvgPool2d((10, 10)), 7, 1.0),
        (nn.MaxPool2d(3, 2), 7, 1.0),
        (nn.MaxPool2d(2, 1), 6, 1.0),
    ],
    ids=[
        "average, overlap",
        "average, border",
        "adaptive, larger",
        "max, overlap",
        "max, stride 1",
    ],
)
def test_an_input_that_is_used_twice_counts_twice(pool: nn.Module, side: int, counted_as: float):
    verdict = judged(pool, f"lipschitz<={counted_as}", 1, side, side)
    assert verdict.outcome == "refuted"
    assert counted_as * 1.01 < verdict.lower <= verdict.upper < 4


# Tests and files. --------------------------------------------------------------------------


def test_a_tolerance_on_both_sides_would_pass_what_is_wrong():
    """An upper bound too small by 1e-9 is equal within 1e-6, and below a witness."""
    verdict = judged(linear(torch.tensor([[0.0, 1.0], [1.0, 0.0]])), "lipschitz<=0.5", 2)
    planted = verdict.upper * (1 - 1e-9)
    assert planted == pytest.approx(1.0, rel=1e-6)
    assert planted < verdict.lower <= verdict.upper


def test_the_torch_that_reads_pickles_is_new_enough():
    """weights_only was no boundary before 2.6 and before 2.10."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    (torch_,) = [x for x in project["dependencies"] if re.match(r"torch\b", x)]
    least = re.fullmatch(r"torch>=(\d+)\.(\d+)", torch_)
    assert least is not None
    assert (int(least[1]), int(least[2])) >= (2, 10)


# Peers. ------------------------------------------------------------------------------------


def test_layers_of_deel_torchlip():
    """Sound up to their float32 rounding: 1 + 1e-5 is proved, and 1 nowhere that it is false."""
    from deel import torchlip

    torch.manual_seed(0)
    for layer in (torchlip.SpectralLinear(8, 6), torchlip.FrobeniusLinear(8, 6)):
        exact = float(torch.linalg.matrix_norm(layer.eval().weight.detach().double(), 2))
        verdict = judged(layer, "lipschitz<=1", 8)
        assert verdict.outcome != "proved" or exact <= 1
        assert verdict.upper >= exact > 0.99
        assert judged(layer, "lipschitz<=1.00001", 8).outcome == "proved"
    convolution = torchlip.SpectralConv2d(3, 4, 3, padding=1).eval()
    assert judged(convolution, "lipschitz<=1", 3, 6, 6).outcome == "proved"
    net = torchlip.Sequential(
        torchlip.SpectralConv2d(3, 4, 3, padding=1, padding_mode="zeros"),
        torchlip.GroupSort2(),
        torchlip.ScaledAvgPool2d(2),
        nn.Flatten(),
        torchlip.SpectralLinear(36, 5),
    )
    assert judged(net.eval(), "lipschitz<=1.00001", 3, 6, 6).outcome == "proved"
    pooled = nn.Sequential(torchlip.ScaledL2NormPool2d(2))  # the root of a sum of squares
    assert judged(pooled, "lipschitz<=1", 3, 6, 6).outcome == "unknown"


def plain(layer: nn.Module) -> nn.Module:
    """The layer with its weights as they are executed, and not computed in each call."""
    for name in list(cast(nn.ModuleDict, layer.parametrizations)):
        nn.utils.parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    return layer.eval()


def test_orthogonal_convolutions_of_orthogonium():
    from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d

    torch.manual_seed(0)
    shape = (4, 6, 6)
    whole = AdaptiveOrthoConv2d(4, 4, 3, padding=1, padding_mode="circular")
    parametrised = judged(whole.eval(), "orthogonal", *shape)
    verdict = judged(plain(whole), "orthogonal", *shape)
    assert verdict.outcome == "proved"
    assert parametrised.outcome in ("proved", "unknown")  # unknown: its weights are not captured
    assert judged(whole, "lipschitz<=1.00001", *shape).outcome == "proved"
    grouped = AdaptiveOrthoConv2d(4, 4, 3, padding=1, padding_mode="zeros", groups=2).eval()
    assert judged(grouped, "lipschitz<=1.00001", *shape).outcome == "proved"
    assert judged(grouped, "orthogonal", *shape).outcome == "refuted"  # at the border


def test_residual_and_exponential_layers_of_orthogonium():
    from orthogonium.layers.conv.adaptiveSOC.fast_skew_ortho_conv import ExpParams, FastSOC
    from orthogonium.layers.conv.SLL import SDPBasedLipschitzResBlock

    torch.manual_seed(0)
    block = SDPBasedLipschitzResBlock(4, 1).eval()
    verdict = judged(block, "lipschitz<=1", 4, 6, 6)
    assert (verdict.outcome, verdict.upper) == ("proved", 1.0)
    assert "T8-nonexpansive-euler" in verdict.evidence["laws"]
    series: Any = ExpParams(3)
    layer = FastSOC(4, 4, 3, padding=1, padding_mode="circular", exp_params=series)
    verdict = judged(plain(layer), "lipschitz<=1", 4, 7, 7)
    assert verdict.outcome == "refuted"
    assert 1 < verdict.lower < 1.05


def test_orthogonium_multiplies_the_norms_of_groups():
    from orthogonium.layers.conv.singular_values import get_conv_sv

    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    layer.weight.data.mul_(0.5)
    product = float(get_conv_sv(layer, 6)[0])
    verdict = judged(layer, f"lipschitz<={product}", 4, 8, 8)
    assert verdict.outcome == "refuted"
    assert verdict.lower > 1.2 * product


def resnet18() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def test_resnet18_of_torchvision_has_a_finite_bound_and_expands():
    verdict = judged(resnet18(), "lipschitz<=1", 3, 32, 32)
    assert verdict.outcome == "refuted"
    assert 1 < verdict.lower < verdict.upper < math.inf


@pytest.mark.slow
def test_resnet18_at_its_own_size_has_a_finite_bound():
    """The bound is 1e8: the claim is not proved, and the search refutes it where time allows."""
    verdict = judged(resnet18(), "lipschitz<=1", 3, 224, 224)
    assert verdict.outcome != "proved"
    assert 0.5 < verdict.lower < verdict.upper < math.inf


def test_what_the_table_names_exists():
    named = re.findall(r"(test_\w+)::(test_\w+)", __doc__ or "")
    assert len(named) >= 18
    for file, test in named:
        text = (HERE / f"{file}.py").read_text()
        assert re.search(rf"^def {test}\(", text, re.MULTILINE), f"{file}::{test}"
