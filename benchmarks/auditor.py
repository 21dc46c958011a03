"""The auditor on whole networks, and beside the estimates of deel-torchlip on small ones.

Whole networks are audited by `dsnn audit` in a process of its own, as a user runs it. On the small
ones the truth is the exact constant, where it is known, or the best ratio that a witness shows:
what is said to be the constant and lies below that is wrong. auto_LiRPA, which bounds local
Jacobians, needs an older torch than this project and is not here.
"""

import itertools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.audits import measured
from benchmarks.norms import published_files
from dsnn.data.vision import torchvision
from verification import witness
from verification.capture import capture
from verification.claims import limit
from verification.lipschitz import derive
from verification.wording import above, at_least, at_most

CLAIM = "lipschitz<=1"
SEARCH = 5.0
"""Seconds for a witness on a small network."""
POINTS = 64
"""Inputs from a normal distribution at which deel-torchlip estimates."""


def resnet18() -> nn.Module:
    """torchvision's, with random weights of seed 0."""
    torch.manual_seed(0)
    return torchvision.models.resnet18()


def run() -> list[dict[str, object]]:
    """A row per whole network, and per small network and method."""
    weights, arch = published_files()[0]
    rows = [
        _audited(
            "resnet18, 3x224x224", "benchmarks.auditor:resnet18", "--input-shape", "3,224,224"
        ),
        _audited(weights.stem, str(weights), "--arch", arch),
    ]
    for name, (module, shape, exact) in networks().items():
        rows += _side_by_side(name, module.eval().requires_grad_(False), shape, exact)
    return rows


def _audited(name: str, *arguments: str) -> dict[str, object]:
    (claim,), seconds, memory = measured(arguments, [CLAIM])
    low, high = claim["bound"]
    high = math.inf if high is None else high
    says = f"{CLAIM} {claim['verdict']}, in [{above(low, limit(CLAIM))}, {at_most(high)}]"
    sound = "yes" if low <= high else "NO"
    return _row(
        name, "dsnn audit", says, f"witness {above(low, limit(CLAIM))}", sound, seconds, memory
    )


def _row(
    network: str, by: str, says: str, truth: str, sound: str, seconds: float, memory: object = "-"
) -> dict[str, object]:
    return {
        "network": network,
        "by": by,
        "says": says,
        "truth": truth,
        "sound": sound,
        "seconds": round(seconds, 2),
        "peak memory [MB]": memory,
    }


# Small networks. ---------------------------------------------------------------------------

Network = tuple[nn.Module, tuple[int, ...], float | None]


def networks() -> dict[str, Network]:
    """Name -> module, shape of one input, and the exact constant where it is known."""
    from deel import torchlip

    torch.manual_seed(0)
    dense, exact = _dense(0.0)
    far, _ = _dense(8.0)
    convolutions = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip
    constrained = torchlip.Sequential(
        torchlip.SpectralConv2d(1, 4, 3, padding=1, padding_mode="zeros"), torchlip.GroupSort2(),
        torchlip.ScaledAvgPool2d(2), nn.Flatten(), torchlip.SpectralLinear(64, 5),
    )  # fmt: skip
    return {
        "dense 8-6-5, ReLU": (dense, (8,), exact),
        "the same, active far away": (far, (8,), exact),
        "two convolutions, max pooling": (convolutions, (1, 8, 8), None),
        "deel-torchlip, 1-Lipschitz": (constrained, (1, 8, 8), None),
    }


def _dense(threshold: float) -> tuple[nn.Module, float]:
    """A network whose units are active beyond a threshold, and its exact constant: the largest
    norm of a Jacobian over all patterns of active units, each of which occurs somewhere, as the
    rows of the first matrix are independent."""
    torch.manual_seed(0)
    first, last = nn.Linear(8, 6), nn.Linear(6, 5)
    first.bias.data.sub_(threshold)
    patterns = itertools.product((0.0, 1.0), repeat=6)
    masks = torch.tensor(list(patterns), dtype=torch.float64)[:, :, None]
    a, b = first.weight.detach().double(), last.weight.detach().double()
    exact = float(torch.linalg.matrix_norm(b @ (masks * a), 2).max())
    return nn.Sequential(first, nn.ReLU(), last), exact


def _side_by_side(
    name: str, module: nn.Module, shape: tuple[int, ...], exact: float | None
) -> list[dict[str, object]]:
    start = time.perf_counter()
    graph = capture(module, shape)
    upper = derive(graph).upper
    pair = witness.search(module, shape, graph=graph, budget_seconds=SEARCH)
    seconds = time.perf_counter() - start
    lower = 0.0 if pair is None else pair.ratio
    truth = lower if exact is None else exact
    shown = f"witness {at_least(truth, 5)}" if exact is None else f"exact {truth:.5g}"
    sound = "yes" if lower <= truth * (1 + 1e-12) and truth <= upper else "NO"
    rows = [
        _row(name, "dsnn", f"in [{at_least(lower, 5)}, {at_most(upper, 5)}]", shown, sound, seconds)
    ]
    points = torch.randn((POINTS, *shape), generator=torch.Generator().manual_seed(1))
    for method, estimate in _estimates().items():
        torch.manual_seed(1)
        start = time.perf_counter()
        value = estimate(module, points)
        seconds = time.perf_counter() - start
        wrong = value < truth * (1 - 1e-6)
        sound = f"no: {100 * (1 - value / truth):.1f} % below" if wrong else "not contradicted"
        rows.append(_row(name, f"deel-torchlip, {method}", f"{value:.5g}", shown, sound, seconds))
    return rows


def _estimates() -> dict[str, Callable[[nn.Module, Tensor], float]]:
    from deel.torchlip.utils import evaluate_lip_const

    return {
        "Jacobians at points": lambda net, x: evaluate_lip_const(net, x, "jacobian_norm"),
        "attack": lambda net, x: evaluate_lip_const(net, x, "attack"),
    }
