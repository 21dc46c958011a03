"""Certified networks: proved 1-Lipschitz once finalised, with steps that really expand inside."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import verification
from dsnn import weights
from dsnn.errors import UserError
from dsnn.integrators import Euler
from dsnn.models import CERTIFIED, CertifiedNet, Sizes, build_certified
from dsnn.models.certified import Pair
from dsnn.training.certified import finalise
from dsnn.weights import Card
from verification import architectures, witness
from verification.bound import Ledger
from verification.claims import parse
from verification.constant import Constant
from verification.parts import Live
from verification.radius import certified_radii

IMAGE = (3, 32, 32)
SMALL = Sizes((12, 48), (1, 2))


def disturbed(arch: str, seed: int, sizes: Sizes = SMALL) -> CertifiedNet:
    """As training may leave it: every number moved, matrices a little off orthogonal ones."""
    torch.manual_seed(seed)
    net = build_certified(arch, sizes=sizes)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net


def lines(constant: Constant) -> list[Constant]:
    return [constant, *(line for part in constant.parts for line in lines(part))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("arch", CERTIFIED)
def test_a_finalised_network_is_proved_1_lipschitz_and_nothing_is_given_away(arch: str, seed: int):
    net = finalise(disturbed(arch, seed))
    ledger = Ledger(Live(net, IMAGE))
    assert ledger.constant("").upper <= 1
    assert 0.9999 < ledger.constant("body").upper <= 1
    laws = [line.law for line in lines(ledger.constant("body"))]
    single = sum(isinstance(step, Euler) for _, step, _ in net.steps())
    pairs = sum(isinstance(step, Pair) for _, step, _ in net.steps())
    assert laws.count("T8-nonexpansive-euler") == single == 3
    assert laws.count("T9-switching") == pairs == (3 if arch == "certified-switch" else 0)


@pytest.mark.parametrize("arch", CERTIFIED)
def test_before_it_is_finalised_nothing_is_proved(arch: str):
    """The plant: times as they were built, for kernels that are longer."""
    net = disturbed(arch, 0).eval()
    with torch.no_grad():
        for _, step, _ in net.steps():
            if isinstance(step, Euler):
                step.u.fill_(2.0)
    assert Ledger(Live(net, IMAGE)).constant("body").upper > 1.5


def test_the_switch_expands_by_a_witness_and_its_pairs_do_not():
    net = finalise(disturbed("certified-switch", 0))
    claims = [f"body.stages.0.flow.1{part}:lipschitz<=1" for part in ("", ".0", ".1")]
    claims.append("body.stages.0.flow.1.0:lipschitz<=1.3")
    report = verification.audit(net, claims, IMAGE)
    outcomes = [verdict.outcome for verdict in report.verdicts]
    assert outcomes == ["proved", "refuted", "proved", "proved"]
    assert report.verdicts[1].lower > 1.02
    (contraction,) = [
        line
        for line in lines(Ledger(Live(net, IMAGE)).constant("body.stages.0.flow.1"))
        if line.law == "T7-contractive-euler"
    ]
    assert 0.9999 < contraction.values["s_min"] <= contraction.values["s_max"] < 1.0001
    assert contraction.upper < 0.9049


@pytest.mark.parametrize("arch", CERTIFIED)
def test_pairs_of_inputs_never_move_apart(arch: str):
    """On the network in float64: replayed pairs, whose ratio is rigorous, and radii."""
    net = finalise(disturbed(arch, 5))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, *IMAGE, generator=generator)
    y = x + 0.01 * torch.randn(16, *IMAGE, generator=generator)
    ratios = [witness.replay(net.body, a, b) for a, b in zip(x, y, strict=True)]
    assert 0 < max(ratios) <= 1
    labels = net(x - 0.5).argmax(1)
    args = (net, x, labels, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    plain = certified_radii(*args, 1.0)
    by_rows = certified_radii(*args, 1.0, net.head.weight)
    assert (by_rows >= plain).all()
    assert by_rows.all()


@pytest.mark.parametrize("arch", CERTIFIED)
def test_weights_files_hold_the_network_whole(arch: str, tmp_path: Path):
    net = finalise(disturbed(arch, 1))
    card = Card(arch, "cifar10", None, (0.4914, 0.4822, 0.4465), (1.0, 1.0, 1.0))
    weights.save(tmp_path / "net.safetensors", net, card)
    loaded = weights.load(tmp_path / "net.safetensors", arch)
    assert loaded.card == card
    assert isinstance(loaded.net, CertifiedNet)
    x = torch.rand(2, *IMAGE)
    assert torch.equal(loaded.net(x), net(x))
    assert Ledger(Live(loaded.net, IMAGE)).constant("").upper <= 1


@pytest.mark.parametrize("arch", CERTIFIED)
def test_the_independent_checker_derives_the_verdicts(
    arch: str, tmp_path: Path, dsnn: Callable[..., tuple[int, str, str]]
):
    net = finalise(disturbed(arch, 2))
    card = Card(arch, "cifar10", None, (0.4914, 0.4822, 0.4465), (1.0, 1.0, 1.0))
    file, certificate = tmp_path / "net.safetensors", tmp_path / "certificate.json"
    weights.save(file, net, card)
    claims = ("--claim", "lipschitz[pixel]<=1", "--claim", "body:lipschitz<=1")
    code, _, _ = dsnn("audit", file, *claims, "--certificate", certificate)
    assert code == 0
    code, out, _ = dsnn("check", certificate, file)
    assert code == 0
    assert out.count("derived again") == 2


def test_weights_of_the_other_architecture_are_refused(tmp_path: Path):
    net = finalise(disturbed("certified-switch", 1))
    card = Card("certified-non-expansive", "cifar10", None, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    weights.save(tmp_path / "net.safetensors", net, card)
    with pytest.raises(UserError, match="not certified-non-expansive weights"):
        weights.load(tmp_path / "net.safetensors")
    weights.save(tmp_path / "none.safetensors", net.head, card)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="steps or the head are missing"):
        weights.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("arch", CERTIFIED)
def test_of_ours_none_executes_the_absolute_values_of_its_times(arch: str, tmp_path: Path):
    """A file that says so was read, reported so, and executed as it is."""
    net = finalise(disturbed(arch, 1))
    card = Card(arch, "cifar10", None, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), signed_steps=False)
    weights.save(tmp_path / "net.safetensors", net, card)
    with pytest.raises(UserError, match="signed_steps"):
        weights.load(tmp_path / "net.safetensors")


def test_plans_and_names_that_no_network_has():
    with pytest.raises(UserError, match="one of certified-non-expansive"):
        build_certified("certified")
    with pytest.raises(UserError, match="at least as many"):
        build_certified("certified-switch", sizes=Sizes((48, 96)))


@pytest.mark.parametrize("arch", CERTIFIED)
def test_the_architecture_is_proved_by_theorem_and_its_expansive_steps_are_refuted(arch: str):
    architecture = architectures.parse(arch)
    net = architecture.worst(1.0)
    assert Ledger(Live(net, IMAGE)).constant("").upper <= 1
    proved = architecture.theorem(parse("lipschitz<=1"), "")
    assert proved is not None
    assert proved[0] == 1.0
    step = "body.stages.0.flow.1"
    assert architecture.theorem(parse("**:lipschitz<=1"), step) is not None
    for part, claim in ((f"{step}.0", "**:lipschitz<=1"), ("", "contractive"), ("", "symplectic")):
        assert architecture.theorem(parse(claim), part) is None
    if arch == "certified-switch":
        bright = architectures.bright((48, 16, 16))
        expansive = net.get_submodule(f"{step}.0")
        with torch.no_grad():
            moved = (expansive(1.01 * bright) - expansive(bright)).flatten(1).norm(dim=1)
        assert float(moved.max() / (0.01 * bright[0]).norm()) > 1.1
    with pytest.raises(UserError, match="has no options"):
        architectures.parse(f"{arch}?channels=4,4,4")
