"""An audit that was killed goes on from what it had finished, and from nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from verification import norms, properties, witness
from verification.auditor import Audit
from verification.claims import parse
from verification.norms import Spectra
from verification.parts import Live
from verification.store import Store
from verification.targets import Target
from verification.verdicts import Report


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *given, **named):
        self.calls += 1
        return self.function(*given, **named)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counted]:
    """How often spectra were computed and witnesses searched and replayed."""
    found = {}
    for module, name in ((norms, "of_matrix"), (witness, "search"), (witness, "replay")):
        found[name] = Counted(getattr(module, name))
        monkeypatch.setattr(module, name, found[name])
    return found


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def audited(store: Store, *claims: str, seed: int = 0, **options) -> Report:
    target = Target("net", Live(net(seed), (4,)))
    return Audit(target, store=store, **options).run([parse(claim) for claim in claims])


def test_what_was_finished_is_not_done_again(tmp_path: Path, counted: dict[str, Counted]):
    claims = ("lipschitz<=0.01", "lipschitz<=100", "0:lipschitz<=0.01")
    first = audited(Store(tmp_path), *claims)
    assert (counted["of_matrix"].calls, counted["search"].calls) == (2, 2)
    replays = counted["replay"].calls
    again = audited(Store(tmp_path), *claims)
    assert (counted["of_matrix"].calls, counted["search"].calls) == (2, 2)
    assert counted["replay"].calls > replays  # a stored witness is no evidence until it is
    for one, two in zip(first.verdicts, again.verdicts, strict=True):
        assert (one.outcome, one.upper) == (two.outcome, two.upper)
        assert two.outcome == ("proved" if "100" in two.claim else "refuted")


def test_other_weights_are_other_results(tmp_path: Path, counted: dict[str, Counted]):
    audited(Store(tmp_path), "lipschitz<=0.01")
    audited(Store(tmp_path), "lipschitz<=0.01", seed=1)
    assert (counted["of_matrix"].calls, counted["search"].calls) == (4, 2)


def test_other_claims_and_options_are_other_results(tmp_path: Path, counted: dict[str, Counted]):
    audited(Store(tmp_path), "lipschitz<=0.01")
    audited(Store(tmp_path), "lipschitz<=0.02")
    assert counted["search"].calls == 2
    audited(Store(tmp_path), "lipschitz<=0.02", budget=1.0)
    assert counted["search"].calls == 3
    assert counted["of_matrix"].calls == 2
    audited(Store(tmp_path), "lipschitz<=0.02", tight=True)
    assert counted["of_matrix"].calls == 4


def test_a_forged_witness_refutes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted error: a store that hands over a pair which proves nothing."""
    audited(Store(tmp_path), "lipschitz<=0.01")
    honest = Store.get

    def forged(self: Store, key: str):
        entry = honest(self, key)
        if entry is None or "x" not in entry.tensors:
            return entry
        return replace(entry, tensors={"x": torch.ones(4), "y": torch.ones(4)})

    monkeypatch.setattr(Store, "get", forged)
    (verdict,) = audited(Store(tmp_path), "lipschitz<=0.01").verdicts
    assert verdict.outcome == "unknown"


def test_a_stored_proof_of_an_equality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rotation = nn.Linear(2, 2, bias=False)
    rotation.weight.data = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])

    def verdict(claim: str) -> str:
        audit = Audit(Target("rotation", Live(rotation, (2,))), store=Store(tmp_path))
        return audit.run([parse(claim)]).verdicts[0].outcome

    assert verdict("orthogonal") == "proved"
    judge = Counted(properties.judge)
    monkeypatch.setattr(properties, "judge", judge)
    assert (verdict("orthogonal"), judge.calls) == ("proved", 0)
    assert (verdict("gradient-field"), judge.calls) == ("refuted", 1)
    rotation.weight.data[0, 0] = 0.5
    assert (verdict("orthogonal"), judge.calls) == ("refuted", 2)


def test_killed_and_run_again(tmp_path: Path):
    """kill -9 in the middle: the second run reads what the first had finished, and says what an
    audit without interruption says."""
    (tmp_path / "slow.py").write_text(
        "import sys, time\n"
        "from verification import norms\n"
        "honest, calls = norms.of_matrix, []\n"
        "def of_matrix(weight):\n"
        "    if len(calls) >= int(sys.argv[1]): time.sleep(600)\n"
        "    calls.append(weight)\n"
        "    return honest(weight)\n"
        "norms.of_matrix = of_matrix\n"
        "import torch\n"
        "from torch import nn\n"
        "from dsnn.files import write_json\n"
        "from verification.auditor import Audit\n"
        "from verification.claims import parse\n"
        "from verification.parts import Live\n"
        "from verification.store import Store\n"
        "from verification.targets import Target\n"
        "torch.manual_seed(0)\n"
        "net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))\n"
        "audit = Audit(Target('net', Live(net, (3,))), store=Store())\n"
        "report = audit.run([parse(f'{k}:lipschitz<=9') for k in range(4)])\n"
        "write_json('out.json', {'calls': len(calls), **report.as_json()})\n"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def start(allowed: int) -> subprocess.Popen:
        command = [sys.executable, "slow.py", str(allowed)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment)

    first, store = start(2), tmp_path / "cache" / "dsnn" / "audit"
    deadline = time.monotonic() + 120
    while len(list(store.glob("[!.]*"))) < 2:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.json").exists()
    assert start(4).wait(120) == 0
    resumed = json.loads((tmp_path / "out.json").read_text())
    assert resumed["calls"] == 2
    torch.manual_seed(0)
    whole = Target("net", Live(nn.Sequential(*(nn.Linear(3, 3) for _ in range(4))), (3,)))
    fresh = Audit(whole).run([parse(f"{k}:lipschitz<=9") for k in range(4)]).as_json()
    assert [c["bound"] for c in fresh["claims"]] == [c["bound"] for c in resumed["claims"]]


def test_spectra_are_shared_between_parts_and_runs(tmp_path: Path, counted: dict[str, Counted]):
    weight = norms.Operator(torch.eye(3) * 2, norms.Fraction(1))
    for _ in range(2):
        assert Spectra(store=Store(tmp_path)).of(weight).norm[1] >= 2
    assert counted["of_matrix"].calls == 1
    assert Spectra().of(weight) == Spectra(store=Store(tmp_path)).of(weight)
    assert counted["of_matrix"].calls == 2
