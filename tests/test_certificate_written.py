"""Certificates of audits: what the checker cannot read or derive is left out, and said."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dsnn.errors import UserError
from verification import certificate
from verification.auditor import Audit
from verification.checker import verdicts, work
from verification.checker.__main__ import run
from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import Root
from verification.claims import parse
from verification.parts import Live
from verification.targets import Target


class Buffered(nn.Module):
    def __init__(self, buffer: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.register_buffer("buffer", buffer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def audited(module: nn.Module, folder: Path, *claims: str) -> tuple[Path, list[str]]:
    """The certificate of an audit, and what it leaves out."""
    target = Target("t", Live(module.eval(), (3,)))
    audit = Audit(target, budget=2.0, folder=folder, stem="witness")
    report = audit.run([parse(text) for text in claims])
    path = folder / "written.json"
    return path, certificate.certify(path, audit, report)


@pytest.mark.parametrize(
    ("buffer", "left"),
    [
        (torch.full((3, 3), -math.inf).triu(1), 1), (torch.zeros(3, dtype=torch.complex64), 1),
        (torch.zeros(3, dtype=torch.uint16), 1), (torch.zeros((1,) * 9), 1),
        (torch.zeros(3, dtype=torch.bfloat16), 0), (torch.zeros(3, dtype=torch.bool), 0),
    ],
)  # fmt: skip
def test_states_that_the_checker_cannot_read_are_not_embedded(
    tmp_path: Path, buffer: torch.Tensor, left: int
) -> None:
    path, lines = audited(Buffered(buffer), tmp_path, "lipschitz<=3")
    assert (len(lines), run(str(path))) == (left, 0)
    assert all("'buffer'" in line for line in lines)


def test_bfloat16_weights_end_in_no_traceback(tmp_path: Path) -> None:
    path, _ = audited(nn.Linear(3, 3).bfloat16(), tmp_path, "lipschitz<=3")
    assert run(str(path)) in (0, 3)


@pytest.mark.parametrize(
    "error", [AttributeError, IndexError, MemoryError, TypeError, ValueError, Wrong]
)
def test_a_verdict_that_cannot_be_derived_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Root, "above", fail)
    path, lines = audited(nn.Linear(3, 3), tmp_path, "lipschitz<=3")
    monkeypatch.undo()
    assert len(lines) == 1
    assert run(str(path)) == 3


def test_a_verdict_that_takes_too_much_work_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LARGEST", 1e4)
    path, lines = audited(nn.Linear(3, 3), tmp_path, "lipschitz<=3")
    monkeypatch.undo()
    assert ["too much work" in line for line in lines] == [True]
    assert run(str(path)) == 3


@pytest.mark.parametrize("written", [" 3", "3 ", "3_0", "\t3", "３"])
def test_numbers_are_written_alike_for_audit_and_checker(written: str) -> None:
    with pytest.raises(UserError):
        parse(f"lipschitz<={written}")
    with pytest.raises(Unreadable):
        verdicts.parse_claim(f"lipschitz<={written}")


def test_what_leans_on_rounded_constants_is_not_said_to_hold_exactly(tmp_path: Path) -> None:
    """1 / sqrt(1 + 1e-17) is 1 in float64: the certificate said that the defect is 0."""
    path, lines = audited(nn.BatchNorm1d(3, eps=1e-17).double(), tmp_path, "orthogonal")
    assert ["rounded" in line for line in lines] == [True]
    assert run(str(path)) == 3
