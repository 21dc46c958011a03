"""Verdicts of `dsnn audit`: each of the three, its evidence, and the JSON contract."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import REGIMES

from dsnn.data.statistics import TRAINING
from dsnn.integrators import FlexiblePair, Step
from dsnn.models import ARCHITECTURES, CifarNet, build
from dsnn.operators.bounds import SingularValues
from dsnn.weights import Card, load, save
from verification import witness
from verification.bound import Ledger, network_bound
from verification.capture import capture
from verification.norms import Operator, Spectra
from verification.parts import Live
from verification.pixel_input import PixelInput

MEAN, STD = TRAINING["cifar10"]
NARROW = (4, 5, 6)
IMAGE = (3, 32, 32)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a JSON file, witnesses are written to the current folder."""
    monkeypatch.chdir(tmp_path)


def stored(path: Path, net: CifarNet) -> Path:
    save(path, net, Card(net.arch, "cifar10", None, MEAN, STD, net.signed_steps))
    return path


def orthogonal_like(arch: str, *, signed: bool = True, seed: int = 0) -> CifarNet:
    """A narrow network whose kernels are near orthogonal but not only their centre tap."""
    torch.manual_seed(seed)
    net = build(arch, channels=NARROW, signed_steps=signed)
    for parameter in net.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return net


def test_proved(tmp_path: Path, dsnn):
    path = stored(tmp_path / "net.safetensors", build("non-expansive", channels=NARROW))
    out = tmp_path / "out.json"
    code, text, error = dsnn("audit", path, "--claim", "stages.*.flow:lipschitz<=1", "--json", out)
    assert (code, error) == (0, "")
    assert text.count("proved") == 3
    result = json.loads(out.read_text())
    assert [claim["module"] for claim in result["claims"]] == [f"stages.{k}.flow" for k in range(3)]
    for claim in result["claims"]:
        assert claim["verdict"] == "proved"
        assert claim["claim"] == "stages.*.flow:lipschitz<=1"
        assert 0 <= claim["bound"][0] <= claim["bound"][1] <= 1
        assert claim["arithmetic"] == "real"
        assert claim["evidence"]["laws"][1] == "T8-nonexpansive-euler"
    assert result["sha256"] == load(path).sha256
    assert list(tmp_path.glob("*witness*")) == []


def test_operators_are_listed_with_their_spectra(tmp_path: Path, dsnn):
    path = stored(tmp_path / "net.safetensors", orthogonal_like("switch-prescribed"))
    code, text, _ = dsnn("audit", path, "--claim", "head:lipschitz<=1e3", "--json", "-")
    result = json.loads(text)  # stdout carries nothing else
    assert code == 0
    assert len(result["operators"]) == 16
    for operator in result["operators"]:
        assert set(operator) == {"module", "kind", "norm", "smallest", "method"}
        for low, high in (operator["norm"], operator["smallest"]):
            assert 0 <= low <= high < math.inf
        assert operator["kind"] == ("linear" if operator["module"] == "head" else "conv2d")


def test_refuted_with_a_witness_that_replays(tmp_path: Path, dsnn):
    net = build("unconstrained", channels=NARROW)
    path = stored(tmp_path / "net.safetensors", net)
    out = tmp_path / "sub" / "out.json"
    arguments = ["--claim", "stages.1.flow.2:lipschitz<=1.2", "--claim", "contractive"]
    code, text, _ = dsnn("audit", path, *arguments, "--json", out)
    assert code == 1
    assert "REFUTED" in text
    claim = json.loads(out.read_text())["claims"][0]
    assert claim["verdict"] == "refuted"
    lower, upper = claim["bound"]
    assert 1.2 < lower <= upper
    found = witness.load(out.parent / claim["evidence"]["file"])
    module = load(path).net.get_submodule("stages.1.flow.2")
    graph = capture(module, tuple(found.x.shape))
    assert witness.replayed(module, graph, found.x, found.y) == lower == found.ratio
    assert witness.replay(module, found.x, found.y) > 1.2


def test_pixel_claims_include_the_normalisation(tmp_path: Path, dsnn):
    net = build("non-expansive", channels=NARROW)
    path = stored(tmp_path / "net.safetensors", net)
    bound = network_bound(net, STD)
    assert bound.lipschitz_pixel >= bound.lipschitz / min(STD)
    assert bound.lipschitz_pixel <= bound.lipschitz / min(STD) * (1 + 1e-12)
    limit = math.sqrt(bound.lipschitz * bound.lipschitz_pixel)
    claims = [f"lipschitz<={limit}", f"lipschitz[pixel]<={limit}"]
    code, text, _ = dsnn("audit", path, "--claim", claims[0], "--claim", claims[1], "--json", "-")
    verdicts = [claim["verdict"] for claim in json.loads(text)["claims"]]
    assert verdicts[0] == "proved"
    assert verdicts[1] != "proved"
    assert code in (1, 3)


def test_unknown_says_what_is_known(tmp_path: Path, dsnn):
    net = orthogonal_like("switch-flexible")
    path = stored(tmp_path / "net.safetensors", net)
    claims = [
        "--claim",
        "lipschitz<=1e-3",
        "--claim",
        "orthogonal",
        "--claim",
        "stages.0.flow:contractive",
    ]
    code, text, _ = dsnn("audit", path, *claims, "--json", "-", "--budget", "0")
    entries = json.loads(text)["claims"]
    assert entries[0]["verdict"] == "refuted"
    assert entries[1]["verdict"] == "unknown"
    assert entries[1]["bound"] == [0.0, None]
    assert entries[2]["verdict"] == "unknown"
    assert "--tight" in entries[2]["evidence"]["hint"]
    assert code == 1
    assert dsnn("audit", path, *claims[4:], "--budget", "0")[0] == 3


@pytest.mark.parametrize("option", [["--tight"], ["--budget", "600"]])
def test_tightening_proves_what_the_default_leaves_open(tmp_path: Path, dsnn, option: list[str]):
    net = orthogonal_like("switch-flexible")
    for stage in net.stages:
        for pair in stage.flow:
            assert isinstance(pair, FlexiblePair)
            pair.u.data = torch.tensor([1.0, 0.05])
    path = stored(tmp_path / "net.safetensors", net)
    arguments = ["audit", path, "--claim", "stages.*.flow:lipschitz<=1"]
    assert dsnn(*arguments, "--budget", "0")[0] == 3
    assert dsnn(*arguments, *option)[0] == 0


def test_absolute_steps_are_refuted_where_signed_ones_are_proved(tmp_path: Path, dsnn):
    """The museum's entry: abs() turns a step meant as -1.9 into an expansion of +1.9."""
    outcomes = {}
    for signed in (True, False):
        net = build("switch-flexible", channels=NARROW, signed_steps=signed)
        for stage in net.stages:
            for pair in stage.flow:
                assert isinstance(pair, FlexiblePair)
                pair.u.data = torch.tensor([0.11, -1.9])
        path = stored(tmp_path / f"{signed}.safetensors", net)
        out = tmp_path / f"{signed}.json"
        code, *_ = dsnn("audit", path, "--claim", "stages.1.flow:lipschitz<=1", "--json", out)
        outcomes[signed] = code, json.loads(out.read_text())["claims"][0]
    assert outcomes[True][0] == 0
    code, claim = outcomes[False]
    assert code == 1
    assert "|u| is executed: 1.9" in claim["evidence"]["text"]


def attack(arch: str, signed: bool, seed: int, names: Iterable[str]) -> None:
    """Random networks with random steps: the search tries to break the bounds of their parts."""
    net = orthogonal_like(arch, signed=signed, seed=seed)
    for module in net.modules():
        if isinstance(module, Step):
            module.u.data.uniform_(-1.5, 1.5)
    ledger = Ledger(Live(net, IMAGE))
    for name in names:
        shape = ledger.parts.shape(name)
        assert isinstance(shape, tuple), name
        pair = witness.search(ledger.parts.modules[name], shape, budget_seconds=0.2, seed=seed)
        assert pair is not None, name
        assert math.inf > ledger.constant(name).upper >= pair.ratio, name
    pair = witness.search(PixelInput(net, MEAN, STD), IMAGE, budget_seconds=0.2)
    assert pair is not None
    assert ledger.pixel(STD).upper >= pair.ratio


@pytest.mark.parametrize(
    ("arch", "signed"), [(arch, k % 2 == 0) for k, arch in enumerate(ARCHITECTURES)]
)
def test_no_upper_bound_is_below_a_witness(arch: str, signed: bool):
    attack(arch, signed, 0, ["", "stages.1.flow", "stages.0.flow.1"])


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_no_upper_bound_of_any_part_is_below_a_witness(arch: str, signed: bool):
    parts = ["lift", "flow", "flow.0", "flow.1", "pool"]
    for seed in range(1, 3):
        names = [f"stages.{k}.{part}" for k in range(3) for part in parts]
        attack(arch, signed, seed, ["", "head", *names])


def test_a_law_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch):
    """The planted error: norms halved, so that the bound of a linear map falls below a witness."""
    net = build("unconstrained", channels=NARROW)
    ledger = Ledger(Live(net, IMAGE))
    honest = Spectra.of

    def halved(self: Spectra, operator: Operator) -> SingularValues:
        found = honest(self, operator)
        return replace(found, norm=(found.norm[0], found.norm[1] / 2))

    monkeypatch.setattr(Spectra, "of", halved)
    pair = witness.search(ledger.parts.modules["stages.0.flow"], (4, 32, 32))
    assert pair is not None
    assert ledger.constant("stages.0.flow").upper < pair.ratio


def test_optimistic_constants_never_reach_a_verdict():
    ledger = Ledger(Live(orthogonal_like("switch-flexible"), IMAGE))
    before = ledger.constant("stages.0.flow").upper
    assert ledger.optimistic("stages.0.flow") < before
    assert ledger.constant("stages.0.flow").upper == before


def test_claims_that_cannot_be_audited(tmp_path: Path, refused):
    path = stored(tmp_path / "net.safetensors", build("naive", channels=NARROW))
    assert "no module matches" in refused("audit", path, "--claim", "stages.7.flow:lipschitz<=1")
    assert "no module matches" in refused("audit", path, "--claim", "stages:contractive")
    assert "known property" in refused("audit", path, "--claim", "robust")
    assert "positive finite" in refused("audit", path, "--claim", "lipschitz<=nan")
    assert "3,32,32" in refused("audit", path, "--claim", "contractive", "--input-shape", "1,28,28")
    assert "at least 0" in refused("audit", path, "--claim", "contractive", "--budget", "-1")
    assert "claim" in refused("audit", path)


@pytest.mark.parametrize("regime", REGIMES)
def test_published_networks(data_folder: Path, tmp_path: Path, dsnn, regime: str):
    """The flows of the non-expansive network are proved; |u| is refuted in the flexible one."""
    path = data_folder / "published" / f"cifar10_{regime}_0.15.pt"
    out = tmp_path / "out.json"
    claims = ["--claim", "stages.*.flow:lipschitz<=1", "--claim", "lipschitz<=1"]
    code, *_ = dsnn("audit", path, "--arch", REGIMES[regime], *claims, "--json", out)
    verdicts = [claim["verdict"] for claim in json.loads(out.read_text())["claims"]]
    if regime == "non_expansive":
        assert verdicts == ["proved"] * 3 + ["unknown"]
        assert code == 3
    elif regime == "switch_flexible":
        assert verdicts[2] == "refuted"
        assert code == 1
    else:
        assert verdicts == ["unknown"] * 4
        assert code == 3


def test_a_certificate_writes_over_no_weights(tmp_path: Path, refused):
    """Its tensors stand beside it, under its own name."""
    path = stored(tmp_path / "net.safetensors", build("non-expansive", channels=NARROW))
    other = tmp_path / "other.safetensors"
    other.write_bytes(path.read_bytes())
    before = path.read_bytes()
    for mine in (tmp_path / "net.json", tmp_path / "other.json"):
        line = refused("audit", path, "--claim", "lipschitz<=1", "--certificate", mine)
        assert "write over" in line
    (tmp_path / "net.json").write_text("{}")
    assert "write over" in refused(
        "audit", path, "--claim", "lipschitz<=1", "--certificate", tmp_path / "net.json"
    )
    assert path.read_bytes() == other.read_bytes() == before


def test_a_witness_writes_over_no_weights_and_no_certificate(tmp_path: Path, refused):
    path = stored(tmp_path / "witness-1.safetensors", build("naive", channels=NARROW))
    before = path.read_bytes()
    claim = ("--claim", "lipschitz<=1e-3")
    assert "write over" in refused("audit", path.name, *claim)
    assert path.read_bytes() == before
    link = tmp_path / "link.safetensors"
    link.symlink_to(path.rename(tmp_path / "out-witness-1.safetensors"))
    assert "write over" in refused("audit", link, *claim, "--json", tmp_path / "out.json")
    assert link.read_bytes() == before
    other = link.resolve().rename(tmp_path / "net.safetensors")
    assert "write over" in refused("audit", other, *claim, "--certificate", "witness-2.json")
