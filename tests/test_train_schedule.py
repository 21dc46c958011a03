"""Schedules of the learning rate: those of torch, their corners, and impossible ones."""

from fractions import Fraction

import pytest
import torch

from dsnn.errors import UserError
from dsnn.training.schedule import Schedule, Steps, WarmupLinear


def test_steps_are_those_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.1)
    ours = Steps(Fraction(30, 100), 0.1)
    for epoch in range(100):
        for step in (0, 389):
            done = Fraction(epoch * 390 + step, 100 * 390)
            assert ours(done) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("warmup", [Fraction(0), Fraction(15, 100)])
def test_the_linear_schedule_meets_its_corners(warmup: Fraction):
    schedule: Schedule = WarmupLinear(warmup)
    assert schedule(warmup) == 1
    assert schedule(warmup + (1 - warmup) / 2) == 0.5
    assert schedule(Fraction(9999, 10000)) < 2e-4
    if warmup:
        assert schedule(warmup / 3) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Steps(Fraction(0), 0.1),
        lambda: Steps(Fraction(1), 0.0),
        lambda: WarmupLinear(Fraction(1)),
    ],
)
def test_impossible_schedules_are_refused(make: object):
    with pytest.raises(UserError):
        make()  # pyright: ignore[reportCallIssue]
