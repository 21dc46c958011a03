"""Modules that few would write get verdicts, or one line that says what to do; never a traceback,
never an audit without end."""

import json

import pytest
import torch
from property_modules import Buffered
from torch import Tensor, nn

from dsnn.errors import UserError
from verification import audit
from verification.claims import NAMES

UNREADABLE = {
    "sparse": torch.eye(3).to_sparse(),
    "without values": torch.empty(3, 3, device="meta"),
    "one byte": torch.eye(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_weights_that_cannot_be_hashed_are_named(name: str):
    module = Buffered(lambda x, w: x @ w.to(x.dtype).T, UNREADABLE[name])
    with pytest.raises(UserError, match=r"c0 cannot be read .*: audit a dense copy"):
        audit(module, "lipschitz<=1", (3,))


class Noted(nn.ReLU):
    """With something in its state dict that is no tensor."""

    def get_extra_state(self) -> object:
        return {"note": 1}


def test_what_is_no_tensor_in_a_state_dict_is_no_weight():
    assert audit(Noted(), "lipschitz<=1", (3,)).verdicts[0].outcome == "proved"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_unknown():
    module = torch.jit.script(nn.Linear(3, 3))
    assert audit(module, "lipschitz<=1", (3,), budget=0.2).verdicts[0].outcome == "unknown"


@pytest.mark.parametrize("claim", ["lipschitz<=1", *sorted(set(NAMES) - {"symplectic"})])
def test_examples_may_be_single_numbers(claim: str):
    def triple(x: Tensor) -> Tensor:
        return 3 * x

    verdict = audit(Buffered(triple), claim, (), budget=0.2).verdicts[0]
    assert verdict.outcome != "proved" or claim in ("gradient-field", "equivariant:shift")


def test_one_number_is_not_shifted():
    row = Buffered(lambda x: torch.tanh(x[:, None])[:, 0])
    verdict = audit(row, "equivariant:shift", (), budget=0.2).verdicts[0]
    assert verdict.outcome == "unknown"
    assert "no dimension" in verdict.evidence["text"]


def test_what_many_lines_rest_on_is_told_once():
    """Each value is used by all that follow: there are 2^40 ways through these layers."""

    def connected(x: Tensor) -> Tensor:
        found = [x]
        for _ in range(40):
            found.append(torch.tanh(sum(found, torch.zeros(3))))
        return found[-1]

    verdict = audit(Buffered(connected), f"lipschitz<={2**40}", (3,), budget=0.2).verdicts[0]
    assert verdict.outcome == "proved"
    assert verdict.constant is not None
    assert len(list(verdict.constant.lines())) < 2000


def test_each_step_of_a_long_recurrence_rests_on_the_one_before():
    def leapfrog(x: Tensor) -> Tensor:
        y = torch.tanh(x)
        for _ in range(150):
            x, y = y, y + 0.001 * torch.tanh(x)
        return y

    verdict = audit(Buffered(leapfrog), "lipschitz<=1.2", (3,), budget=0.2).verdicts[0]
    assert verdict.outcome == "proved"
    json.dumps(verdict.evidence)


def test_a_step_of_a_size_beyond_the_largest_double():
    """x - 1e200 Aᵀtanh(1e200 Ax), A = 1e-200 I: the law is taken at h = 1e400."""

    def step(x: Tensor, a: Tensor) -> Tensor:
        return x - 1e200 * (torch.tanh(1e200 * (x @ a.T)) @ a)

    small = 1e-200 * torch.eye(3, dtype=torch.float64)
    verdict = audit(Buffered(step, small), "lipschitz<=1", (3,), budget=0.2).verdicts[0]
    assert verdict.outcome == "proved"


def test_a_number_that_is_too_long_to_be_written():
    """0.99^300 has a numerator of 4695 digits, and Python writes integers of 4300."""

    def decayed(x: Tensor) -> Tensor:
        for _ in range(300):
            x = 0.99 * x
        return x

    verdict = audit(Buffered(decayed), "lipschitz<=0.05", (3,), budget=0.2).verdicts[0]
    assert verdict.outcome == "proved"
    json.dumps(verdict.evidence)


@pytest.mark.parametrize("claim", ["norm-preserving", "mass-preserving", "orthogonal"])
def test_examples_without_channels_are_pooled(claim: str):
    """What comes after the pooling has no rule, so no graph of it was compared with the module."""
    net = nn.Sequential(nn.AdaptiveAvgPool1d(3), nn.Linear(3, 4), nn.GLU())
    assert audit(net, claim, (6,), budget=0.2).verdicts[0].outcome == "unknown"
