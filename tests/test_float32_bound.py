"""The a-priori bound on float32 execution: never below what torch does, and not blind."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import build as randomly
from random_modules import images, vectors
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from dsnn.errors import UserError
from verification import audit, balls_graph, float32
from verification.auditor import Audit
from verification.capture import Uncapturable, capture
from verification.claims import parse
from verification.float32 import RULES, Rounding, rounding
from verification.graph import Constant, Node
from verification.norms import Spectra
from verification.parts import Live
from verification.pixel_input import PixelInput
from verification.targets import Target

Shape = tuple[int, ...]


class Written(nn.Module):
    """A function as a module, with the weights of `parts`."""

    def __init__(self, function: Callable[[nn.ModuleList, Tensor], Tensor], *parts: nn.Module):
        super().__init__()
        self.parts, self.function = nn.ModuleList(parts), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.parts, x)


def bounded(module: nn.Module, shape: Shape, radius: float) -> Rounding:
    graphs = capture(module, shape, executed=True), capture(module, shape)
    return rounding(*graphs, Spectra(), radius)


def inputs(shape: Shape, radius: float, seed: int = 0) -> Tensor:
    """Float32 examples of norm at most `radius`, most of them nearly of that norm."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, *shape, generator=generator)
    x[:4] = x[:4] ** 5  # a few large entries
    x = x / x.flatten(1).norm(dim=1).reshape(-1, *[1] * len(shape)) * radius * (1 - 1e-5)
    x[-4:] *= torch.tensor([1e-3, 1e-20, 1e-38, 0.0]).reshape(-1, *[1] * len(shape))
    return x


def measured(module: nn.Module, shape: Shape, radius: float, seed: int = 0) -> float:
    """The largest lower bound on |f32(x) - f(x)|, the exact value enclosed by ball arithmetic."""
    x = inputs(shape, radius, seed)
    with torch.no_grad():
        computed = module.eval()(x).double()
    graph, worst = capture(module, shape), 0.0
    last = -1 if any(node.kind == "norm" for node in graph) else None  # no ball for a norm at 0
    for start, value in zip(x[:last], computed[:last], strict=True):
        exact = balls_graph.enclose(graph, start.double()).value
        off = ((value - exact.mid[0]).abs() - exact.rad[0]).clamp_min(0)
        worst = max(worst, float(off.norm()))
    return worst * (1 - 1e-12)


def gradient_step(parts: nn.ModuleList, x: Tensor) -> Tensor:
    weight = parts[0].weight
    assert isinstance(weight, Tensor)
    return x - 0.3 * F.linear(F.leaky_relu(parts[0](x), 0.3), weight.T)


MODULES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "linear": (lambda: nn.Linear(40, 30), (40,)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 6)),
    "circular": (lambda: nn.Conv1d(2, 3, 5, padding=4, padding_mode="circular"), (2, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 2, 3, stride=2), (4, 3, 3)),
    "scaled weight": (
        lambda: Written(lambda p, x: F.linear(x, p[0].weight * 0.3), nn.Linear(9, 9)),  # type: ignore[arg-type]
        (9,),
    ),
    "weight norm": (lambda: weight_norm(nn.Linear(9, 9)), (9,)),
    "batch norm": (lambda: statistics(nn.BatchNorm1d(7)), (7,)),
    "negative variance": (lambda: negative(nn.BatchNorm1d(1)), (1,)),
    "scale": (lambda: nn.PReLU(5, init=-0.3), (5, 4)),
    "average": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 6, 6)),
    "mean": (lambda: Written(lambda p, x: x.mean((1, 2))), (2, 6)),
    "softmax": (lambda: nn.Softmax(1), (7,)),
    "log_softmax": (lambda: nn.LogSoftmax(1), (7,)),
    "logsumexp": (lambda: Written(lambda p, x: x.logsumexp((1, 2))), (3, 4, 2)),
    "partial sums": (lambda: Written(lambda p, x: x.cumsum(1)), (30, 2)),
    "sorted": (lambda: Written(lambda p, x: p[0](p[0](x).sort(1)[0]), nn.Linear(8, 8)), (8,)),
    "length": (lambda: Written(lambda p, x: x.norm(dim=1, keepdim=True)), (9,)),
    "product": (lambda: Written(lambda p, x: p[0](x) * x, nn.Linear(6, 6)), (6,)),
    "sum": (lambda: Written(lambda p, x: x / 3 + 0.7 * x.roll(1, 1) - 0.1), (12,)),
    "step": (lambda: Written(gradient_step, nn.Linear(6, 9)), (6,)),
    "elementary": (lambda: nn.Sequential(nn.GELU(), nn.Mish(), nn.ELU(0.5), nn.Tanh()), (11,)),
    "sine": (lambda: Written(lambda p, x: x.sin() + (3 * x).cos()), (11,)),
}  # fmt: skip


def statistics(layer: nn.BatchNorm1d) -> nn.Module:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    nn.init.uniform_(layer.running_mean, 1e3, 2e3)
    nn.init.uniform_(layer.running_var, 0.01, 2.0)
    return layer.eval()


def negative(layer: nn.BatchNorm1d) -> nn.Module:
    """A variance below 0, nearly -epsilon: float32 rounds much of their sum away."""
    assert layer.running_var is not None
    layer.running_var.fill_(-9.99e-6)
    return layer.eval()


@pytest.mark.parametrize("radius", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("name", MODULES)
def test_the_execution_stays_within_the_bound(name: str, radius: float):
    torch.manual_seed(1)
    make, shape = MODULES[name]
    module = make()
    found = bounded(module, shape, radius)
    assert measured(module, shape, radius) <= found.error < math.inf


@pytest.mark.parametrize("shapes", [vectors, images])
def test_so_it_does_for_random_modules(shapes: st.SearchStrategy):
    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(shapes, st.sampled_from([0.1, 1.0, 30.0]))
    def check(drawn: tuple, radius: float) -> None:
        shape, layers, seed = drawn
        module = randomly(shape, layers, seed)
        try:
            found = bounded(module, shape, radius)
        except Uncapturable:
            return
        if math.isfinite(found.error):
            assert measured(module, shape, radius, seed) <= found.error
        else:
            assert found.reason

    check()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("linear", "linear"), ("conv", "conv"), ("transposed", "adjoint"), ("sum", "combine"),
        ("batch norm", "scale"), ("elementary", "activation"), ("softmax", "softmax"),
        ("log_softmax", "log_softmax"), ("logsumexp", "logsumexp"), ("partial sums", "linear"),
        ("average", "window_sum"), ("length", "norm"), ("product", "product"),
    ],
)  # fmt: skip
def test_a_rule_that_forgets_its_rounding_is_caught(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(1)
    make, shape = MODULES[name]
    module, rules = make(), dict(RULES)

    def forgetful(forward: float32._Forward, node: Node, x: list[Rounding]) -> Rounding:
        exact = rules[node.kind](forward, node, [replace(before, error=0.0) for before in x])
        return replace(exact, error=0.0)

    for planted in {kind, "linear"} if kind == "product" else {kind}:
        monkeypatch.setitem(RULES, planted, forgetful)
    assert measured(module, shape, 1.0) > bounded(module, shape, 1.0).error


def test_errors_are_carried_through_what_follows(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(9, 9), Written(lambda p, x: 500.0 * x))
    linear = measured(module[0], (9,), 1.0)
    found = bounded(module, (9,), 1.0)
    assert found.error > 500 * linear
    monkeypatch.setattr(float32, "UNIT", 2.0**-34)
    assert measured(module, (9,), 1.0) > bounded(module, (9,), 1.0).error


class Summed(nn.Module):
    """A batch norm with the weight w + 1000 - 1000."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        nn.init.constant_(self.norm.weight, 0.30002)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.norm.weight + 1e3) - 1e3
        return F.batch_norm(x, self.norm.running_mean, self.norm.running_var, weight)


class Softsign(nn.Module):
    """x / (c + |x|), c = 3 (1 / 3 + 4000 - 4000)."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / ((self.one / 3 + 4e3 - 4e3) * 3 + x.abs())


def narrow() -> nn.Module:
    """A batch norm whose epsilon float32 holds with four digits."""
    layer = nn.BatchNorm1d(1, eps=14272.49 * 2.0**-149, affine=False)
    assert layer.running_var is not None
    layer.running_var.fill_(0.0)
    return layer.eval()


@pytest.mark.parametrize("make", [Summed, Softsign, narrow])
def test_numbers_that_rounding_has_changed_have_no_bound(make: Callable[[], nn.Module]):
    module = make()
    assert measured(module, (1,), 1.0) > 1e-5
    assert math.isinf(bounded(module, (1,), 1.0).error)


def test_what_sums_hide_is_counted_as_it_is_executed():
    """x + 1000 x - 1000 x is x in real arithmetic, and a combination of one term in the graph."""
    module = Written(lambda p, x: x + 1000 * x - 1000 * x)
    flat = capture(module, (8,))
    assert len(flat.nodes) == 2
    found, truth = bounded(module, (8,), 1.0), measured(module, (8,), 1.0)
    assert rounding(flat, flat, Spectra(), 1.0).error < truth <= found.error
    number = torch.tensor(1e3)
    lost = Written(lambda p, x: x * ((number + 0.3) - number))
    assert math.isinf(bounded(lost, (8,), 1.0).error)


def test_sums_of_a_circular_adjoint_are_as_long_as_its_turns(monkeypatch: pytest.MonkeyPatch):
    """Nine inputs of 64 channels and five taps onto five places: 576 products in each."""

    def folded(parts: nn.ModuleList, x: Tensor) -> Tensor:
        weight = parts[0].weight
        assert isinstance(weight, Tensor)
        y = F.conv_transpose1d(x, weight)
        return y[..., 4:9] + F.pad(y[..., :4], (1, 0)) + F.pad(y[..., 9:], (0, 1))

    module = Written(folded, nn.Conv1d(1, 64, 5))
    last = capture(module, (64, 9), executed=True).nodes[-1]
    assert last.attributes["circular"]
    assert last.attributes["extent"] == [5]
    counts, gamma = [0], float32._gamma
    monkeypatch.setattr(float32, "_gamma", lambda n: counts.append(n) or gamma(n))
    assert math.isfinite(bounded(module, (64, 9), 1.0).error)
    assert max(counts) >= 576


def test_a_nonexpansive_net_keeps_its_error_small():
    """By paths, each step would multiply it; by the theorem, it adds up."""
    torch.manual_seed(0)
    step = Written(gradient_step, nn.utils.parametrizations.orthogonal(nn.Linear(6, 6)))
    short, long = (bounded(nn.Sequential(*[step] * n), (6,), 1.0).error for n in (2, 20))
    assert long <= 14 * short


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        (nn.LayerNorm(5), (5,), "normalise"),
        (Written(lambda p, x: x / x.norm(dim=1, keepdim=True)), (5,), "quotient"),
        (Written(lambda p, x: x * 1e38 * 1e-38), (5,), "overflow"),
        (Written(lambda p, x: x.cumprod(1)), (5,), "cumprod"),
        (nn.Softplus(threshold=100), (5,), "overflows"),
    ],
)
def test_without_a_bound_there_is_a_reason(module: nn.Module, shape: Shape, reason: str):
    found = bounded(module, shape, 1.0)
    assert math.isinf(found.error)
    assert reason in found.reason


def test_the_audit_says_what_is_executed():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    (verdict,) = audit(net, "lipschitz<=5", (6,), arithmetic="float32", radius=2.0).verdicts
    assert (verdict.outcome, verdict.arithmetic) == ("proved", "float32-execution")
    delta = verdict.evidence["delta"]
    assert verdict.evidence["radius"] == 2.0
    assert 0 < delta < 1e-4
    assert "delta" in str(verdict)
    assert delta >= 2 * measured(net, (6,), 2.0)
    x = inputs((6,), 2.0)
    with torch.no_grad():
        moved = (net(x) - net(x.flip(0))).double().norm(dim=1)
    assert bool((moved <= verdict.upper * (x - x.flip(0)).double().norm(dim=1) + delta).all())


class Short(nn.Module):
    """A matrix of another precision, which its state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.eye(6, dtype=torch.bfloat16), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.get_buffer("matrix"))


@pytest.mark.parametrize(
    ("module", "claim", "reason"),
    [
        (nn.LayerNorm(6, eps=1.0), "lipschitz<=5", "normalise"),
        (nn.Linear(6, 6).double(), "lipschitz<=5", "float64"),
        (Short(), "lipschitz<=5", "bfloat16"),
        (nn.Hardtanh(), "gradient-field", "defect"),
    ],
)
def test_what_is_proved_of_real_numbers_alone_is_unknown(
    module: nn.Module, claim: str, reason: str
):
    (real,) = audit(module, claim, (6,)).verdicts
    (verdict,) = audit(module, claim, (6,), arithmetic="float32").verdicts
    assert real.outcome == "proved"
    assert (verdict.outcome, verdict.upper) == ("unknown", math.inf)
    assert reason in verdict.evidence["text"]


def test_a_refutation_stays_one_of_real_numbers():
    report = audit(nn.Linear(6, 6), "lipschitz<=1e-3", (6,), arithmetic="float32")
    assert (report.verdicts[0].outcome, report.verdicts[0].arithmetic) == ("refuted", "real")


def test_no_larger_radius_is_said_than_was_proved():
    (verdict,) = audit(
        nn.ReLU(), "lipschitz<=1", (3,), arithmetic="float32", radius=1.23456789
    ).verdicts
    assert verdict.evidence["text"].endswith("of norm <= 1.23456")


def test_a_radius_is_a_positive_number():
    with pytest.raises(UserError, match="radius"):
        audit(nn.ReLU(), "lipschitz<=1", (3,), arithmetic="float32", radius=-1.0)


def test_without_a_radius_pixels_are_all_of_that_norm():
    """-4 in one pixel is as long as 16 white ones, and 3 times as long when normalised: there
    hardswish, which multiplies by 6 before it divides by 6, overflows."""
    statistics = ((0.5,), (0.5,))
    net = Written(lambda p, x: F.hardswish(-1.375e37 * x))
    subject, claim = Target("net", Live(net, (1, 4, 4)), statistics), "lipschitz[pixel]<=1e38"
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = -4.0
    assert not bool(PixelInput(net, *statistics).float()(x).isfinite().all())
    (verdict,) = Audit(subject, arithmetic="float32").run([parse(claim)]).verdicts
    assert verdict.outcome == "unknown"
    assert "overflow" in verdict.evidence["text"]

    linear = Target("net", Live(nn.Conv2d(1, 1, 1), (1, 4, 4)), statistics)
    found = [
        Audit(linear, arithmetic="float32", radius=radius).run([parse(claim)]).verdicts[0].evidence
        for radius in (None, 4.0)
    ]
    assert found[0]["radius"] >= found[1]["radius"] == 4.0
    assert found[0]["delta"] >= found[1]["delta"]


def test_the_size_of_a_rounded_constant_is_that_of_the_exact_one():
    """The stored shift of a batch normalisation may be 0 where its exact terms leave something."""
    size, _ = float32._length(Constant(torch.zeros(4), rounded=0.5), 4)
    assert size >= 1
