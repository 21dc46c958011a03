"""No proof is contradicted by a point: random compositions, all properties, both rigorous."""

import random

import pytest
import torch
from property_modules import (
    Function,
    dense,
    gradient,
    heun,
    relaxed,
    skew_field,
    split_step,
)
from torch import Tensor, nn

from verification.balls_graph import NotEnclosed
from verification.capture import capture
from verification.claims import NAMES, parse
from verification.judgement import Proof
from verification.properties import prove
from verification.properties_refute import MEASURES

PROPERTIES = [name for name in NAMES if name != "contractive"]


def _steps() -> list[nn.Module]:
    """Steps in R⁴ that keep something, and some that keep it almost or not at all."""
    a, b, c = dense(2, 3), dense(2, 3), dense(4, 16)
    mass = dense(4, 16)

    def skew_mass(x: Tensor, u: nn.Module) -> Tensor:
        m = torch.sigmoid(u(x)).reshape(-1, 4, 4)
        return x + 0.3 * (m - m.transpose(1, 2)).sum(-1)

    tilt = 1 + 10.0 ** -random.randint(3, 8)
    return [
        Function(
            lambda x, f, g: split_step(x, lambda p: gradient(p, f), lambda q: gradient(q, g)), a, b
        ),
        Function(
            lambda x, f, g: split_step(x, nn.Sequential(f, nn.Tanh()), lambda q: gradient(q, g)),
            nn.Linear(2, 2),
            b,
        ),
        Function(lambda x, f: relaxed(x, heun(x, lambda y: skew_field(y, f))), c),
        Function(lambda x, f: x + 0.1 * skew_field(x, f), c),
        Function(skew_mass, mass),
        Function(lambda x, f: x - 0.2 * gradient(x, f), dense(4, 5)),
        Function(lambda x: x.flip(-1)),
        Function(lambda x: torch.cat([x[:, 2:], -x[:, :2]], -1)),
        Function(lambda x: tilt * x),
        Function(lambda x: x.roll(1, -1)),
        Function(torch.sin),
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4, bias=False)),
        nn.LeakyReLU(0.9),
    ]


def _check(seed: int) -> int:
    """How many of the properties of one random composition were proved; each is attacked."""
    random.seed(seed)
    torch.manual_seed(seed)
    module = nn.Sequential(*random.sample(_steps(), random.randint(1, 3))).requires_grad_(False)
    if seed % 2:
        module = module.double()
    graph = capture(module, (4,))
    found = 0
    for name in PROPERTIES:
        proof = prove(parse(name), graph)
        if not isinstance(proof, Proof):
            continue
        found += 1
        for scale in (1e-3, 1.0, 30.0):
            try:
                point = MEASURES[name](graph, scale * torch.randn(4, dtype=torch.float64), -1)
            except NotEnclosed:
                continue
            assert point.lower <= proof.defect, (seed, name, proof)
    return found


@pytest.mark.parametrize("block", range(2))
def test_proofs_hold(block: int):
    assert sum(_check(4 * block + k) for k in range(4)) >= 3


@pytest.mark.slow
def test_many_proofs_hold():
    assert sum(_check(1000 + k) for k in range(300)) >= 300
