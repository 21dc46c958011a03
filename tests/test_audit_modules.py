"""Audits of other people's modules: the Python interface, what is refused, what is unknown."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm

from dsnn.errors import UserError
from dsnn.integrators import Step
from dsnn.models import build
from theory import theorems
from verification import assert_proved, audit, witness
from verification.auditor import Audit
from verification.bound import Ledger
from verification.claims import parse
from verification.constant import evaluate
from verification.parts import Live
from verification.pixel_input import PixelInput
from verification.searches import HOPELESS, SEARCH_SECONDS
from verification.targets import Target


class Encoder(nn.Module):
    """A gradient step, a pair sorted, and a head: 1-Lipschitz by construction."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 6 * 6, 3)
        nn.init.orthogonal_(self.head.weight, gain=0.99)
        nn.init.dirac_(self.inner.weight)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.inner(x))
        x = x - 1.5 * F.conv_transpose2d(z, self.inner.weight, padding=1)
        a, b = x.chunk(2, 1)
        return self.head(torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1).flatten(1))


def test_what_is_one_lipschitz_by_structure_is_proved():
    report = assert_proved(Encoder(), "lipschitz<=1", "head:contractive", input_shape=(4, 6, 6))
    assert "T8-nonexpansive-euler" in report.verdicts[0].evidence["laws"]
    assert report.exit_code == 0
    assert len(report.operators) == 2


def test_an_assertion_that_fails_carries_the_evidence():
    with pytest.raises(AssertionError, match=r"REFUTED .* two inputs at distance"):
        assert_proved(nn.Linear(3, 3).double(), "lipschitz<=1e-3", input_shape=(3,))
    with pytest.raises(AssertionError, match="no claims"):
        assert_proved(nn.ReLU(), input_shape=(3,))


def test_an_operator_without_a_rule_is_named():
    class Cumulative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.logcumsumexp(1) + x

    verdict = audit(Cumulative(), "lipschitz<=9", (4,)).verdicts[0]
    assert verdict.outcome == "unknown"
    assert verdict.upper == math.inf
    assert "logcumsumexp" in verdict.evidence["text"]


def test_a_module_that_mixes_its_batch_is_neither_proved_nor_refuted():
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x - x.flip(0)

    verdict = audit(Mixing(), "lipschitz<=1", (4,)).verdicts[0]
    assert verdict.outcome == "unknown"
    assert "batch" in verdict.evidence["text"]


def _normalised() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(4, 4))


def _trained() -> nn.Module:
    layer = nn.utils.spectral_norm(nn.Linear(4, 4))
    layer(torch.randn(2, 4))
    return layer


def _pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


@pytest.mark.parametrize("make", [_normalised, _trained, _pruned])
def test_weights_that_hooks_have_computed_with_gradients(make: Callable[[], nn.Module]):
    layer = make()
    assert not vars(layer)["weight"].is_leaf
    most, least = audit(layer, ["lipschitz<=9", "lipschitz<=1e-3"], (4,), budget=2.0).verdicts
    assert (most.outcome, least.outcome) == ("proved", "refuted")


class ByKeyword(nn.Sequential):
    """Calls its second part by keyword."""

    def forward(self, input: Tensor) -> Tensor:
        return self[1](input=self[0](input))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.Sequential, ByKeyword])
def test_a_part_is_refuted_however_it_is_reached(kind: type[nn.Sequential], dtype: torch.dtype):
    module = kind(nn.Linear(4, 4), nn.Linear(4, 4)).to(dtype)
    verdict = audit(module, "1:lipschitz<=1e-3", (4,), budget=2.0).verdicts[0]
    assert verdict.outcome == "refuted"


WRITING = {
    "to the input": lambda x: F.relu(x, inplace=True),
    "to what the derivative needs": lambda x: x.sigmoid().mul_(8),
}


@pytest.mark.parametrize("name", WRITING)
def test_what_writes_in_place_is_refuted(name: str):
    verdict = audit(Buffered(WRITING[name]), "lipschitz<=0.5", (4,), budget=2.0).verdicts[0]
    assert verdict.outcome == "refuted"


def test_equalities_are_judged_by_their_properties():
    verdicts = audit(nn.Sequential(nn.ReLU()), ["0:gradient-field", "orthogonal"], (4,)).verdicts
    assert [v.outcome for v in verdicts] == ["proved", "refuted"]


class Multiple(Step):
    """u x, or |u| x."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.times()


def test_a_step_of_another_part_does_not_explain_a_witness():
    """The names of both begin with a 1."""
    steps = [Multiple([2.0]) for _ in range(10)] + [Multiple([-1.9], signed=False)]
    claims = ["1:lipschitz<=1", "10:lipschitz<=1"]
    one, ten = audit(nn.Sequential(*steps), claims, (3,), budget=2.0).verdicts
    assert (one.outcome, ten.outcome) == ("refuted", "refuted")
    assert "|u|" not in one.evidence["text"]
    assert "|u| is executed: 1.9 in 10" in ten.evidence["text"]


def test_pixels_need_statistics():
    with pytest.raises(UserError, match="not known"):
        audit(nn.ReLU(), "lipschitz[pixel]<=1", (3, 4, 4))


def test_what_is_found_before_the_normalisation_refutes_a_claim_about_pixels(
    monkeypatch: pytest.MonkeyPatch,
):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    statistics = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.2))
    seconds: list[float] = []
    search = witness.search

    def counted(*args: Any, budget_seconds: float, **options: Any) -> witness.Witness | None:
        seconds.append(budget_seconds)
        return search(*args, budget_seconds=budget_seconds, **options)

    monkeypatch.setattr(witness, "search", counted)
    running = Audit(Target("net", Live(net, (3, 8, 8)), statistics))
    claims = ["lipschitz<=0.01", "lipschitz[pixel]<=0.01", "lipschitz[pixel]<=1e-3"]
    plain, pixel, _ = running.run([parse(text) for text in claims]).verdicts
    assert plain.outcome == pixel.outcome == "refuted"
    assert len(seconds) == 1
    assert pixel.pair is not None
    images = PixelInput(net, *statistics)
    assert witness.replay(images, pixel.pair.x, pixel.pair.y) >= pixel.lower > 0.01


class Product(nn.Module):
    """All pixels times a product of two numbers, for each of 27 outputs. Float32 rounds it down."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.full((27, 3), 1 + 2.0**-12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.factor * self.factor)


def test_pairs_of_pixels_are_replayed_on_the_weights_that_are_bounded():
    subject = Target("net", Live(Product(), (3, 1, 1)), ((0.0,) * 3, (1.0,) * 3))
    claims = ["lipschitz[pixel]<=9.0043947", "lipschitz[pixel]<=9.00439453125"]
    proved, at = Audit(subject, budget=0.5).run([parse(text) for text in claims]).verdicts
    assert proved.outcome == "proved"
    assert at.outcome != "refuted"
    assert at.lower <= at.upper


def test_a_search_that_can_hardly_refute_is_short(monkeypatch: pytest.MonkeyPatch):
    seconds: list[float] = []

    def counted(*args: Any, budget_seconds: float, **options: Any) -> None:
        seconds.append(budget_seconds)

    monkeypatch.setattr(witness, "search", counted)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    parts = Live(net.eval(), (3, 8, 8))
    bound = Ledger(parts)
    best, proved = bound.optimistic(""), bound.constant("").upper
    assert best * 1.0001 < proved
    for limit in (best * 0.9999, best * 1.0001):
        Audit(Target("net", parts), budget=1.0).run([parse(f"lipschitz<={limit}")])
    assert seconds == [SEARCH_SECONDS[0], HOPELESS]


def test_what_torch_calls_spectral_norm_of_a_convolution_is_refuted():
    """The museum's entry: the norm of the reshaped kernel is not that of the operator."""
    torch.manual_seed(1)
    layer = spectral_norm(nn.Conv2d(4, 4, 3, padding=1), n_power_iterations=30)
    verdict = audit(layer, "lipschitz<=1", (4, 8, 8)).verdicts[0]
    assert verdict.outcome == "refuted"
    assert verdict.lower > 1


def test_a_shrunk_witness_is_simpler_and_still_refutes():
    torch.manual_seed(0)
    layer = nn.Linear(16, 16, bias=False)
    layer.weight.data = torch.eye(16)
    layer.weight.data[0, 0] = 3
    x = torch.randn(16)
    y = x + torch.randn(16) * 0.01 + 0.3 * torch.eye(16)[0]
    pair = witness.Witness(x, y, witness.replay(layer, x, y))
    shrunk = witness.shrink(layer, pair, 2.0, budget_seconds=60)
    assert shrunk.ratio > 2
    assert int((shrunk.x != shrunk.y).sum()) == 1
    assert witness.replay(layer, shrunk.x, shrunk.y) == shrunk.ratio


def test_a_module_without_a_value_at_a_simpler_pair_is_refuted_by_the_one_found(
    monkeypatch: pytest.MonkeyPatch,
):
    def undefined(*_: Any, **__: Any) -> witness.Witness:
        raise RuntimeError("no value there")

    monkeypatch.setattr(witness, "shrink", undefined)
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = 3 * torch.eye(3)
    assert audit(layer, "lipschitz<=1", (3,), budget=0.5).verdicts[0].outcome == "refuted"


@pytest.mark.parametrize(
    ("arch", "law"),
    [("switch-prescribed", "T9-switching"), ("switch-flexible", "T10-flexible-switching")],
)
def test_rows_of_steps_have_the_constant_of_their_theorem(arch: str, law: str):
    torch.manual_seed(0)
    flow = build(arch, channels=(4, 5, 6)).stages[0].flow
    lines = [x for x in Ledger(Live(flow, (4, 32, 32))).constant("").lines() if x.law == law]
    assert len(lines) == 2
    for line in lines:
        exact = evaluate(theorems()[law].law, line.values)
        assert abs(line.upper - exact) <= 1e-12 * exact


def test_the_package_loads_nothing_heavy():
    code = "import sys, verification; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
