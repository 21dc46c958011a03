"""Training step, batch 128, CPU: ours against a literal fp32 loop over the published formulae."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.literal_step import Block, LiteralStep
from dsnn.fields import GradientField, ResidualField
from dsnn.fields.residual import TwoLayerField
from dsnn.integrators import Alternation, Step
from dsnn.models import ARCHITECTURES, CifarNet, build
from dsnn.models.cifar import Stage
from dsnn.operators import Convolution
from dsnn.training import TrainingStep
from dsnn.training.precision import bf16_is_faster
from experiments.protocol import configuration

BATCH = 128
MARGIN, RATE = 0.15, 1e-2
BAR = {True: 2.0, False: 1.3}
"""Smallest ratio asked for, on a processor that gains from bfloat16 and on one that does not."""
FIELDS = (GradientField, ResidualField, TwoLayerField)
REPEATS = 9
WARMUP = 2
TOLERANCE = 1e-4
"""Relative difference allowed between the two losses in float32."""


def literal_copy(net: CifarNet, *, margin: float, gamma: float, rate: float) -> LiteralStep:
    """The literal step on a copy of the parameters of `net`, which must run signed times."""
    blocks = []
    for stage in net.stages:
        assert isinstance(stage, Stage)
        scale, bias = stage.lift.scale, stage.lift.bias
        modules = list(stage.flow.modules())
        steps = [m for m in stage.flow if isinstance(m, Step)]
        blocks.append(
            Block(
                lift=_copy(stage.lift.operator.weight),
                scale=None if scale is None else _copy(scale),
                lift_bias=None if bias is None else _copy(bias),
                kernels=[_copy(m.weight) for m in modules if isinstance(m, Convolution)],
                biases=[_copy(m.bias) for m in modules if isinstance(m, FIELDS)],
                u=[_copy(time) for step in steps for time in step.u],
                r=[_copy(step.rescaling) for step in steps if isinstance(step, Alternation)],
            )
        )
    head = _copy(net.head.weight), _copy(net.head.bias)
    return LiteralStep(net.arch, blocks, head, margin=margin, gamma=gamma, rate=rate)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def run() -> list[dict[str, object]]:
    """A row per regime. The three steps alternate on the same batch, so that a change of the
    machine's load meets all of them; the ratio is the median of the rounds' ratios."""
    units = bf16_is_faster(torch.device("cpu"))
    return [_compare(regime, units) for regime in ARCHITECTURES]


def _compare(regime: str, units: bool) -> dict[str, object]:
    torch.manual_seed(0)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    net, gamma = build(regime), configuration(regime, "cifar10", MARGIN, "paper").gamma
    steps = {
        name: TrainingStep(_twin(net), margin=MARGIN, gamma=gamma, rate=RATE, dtype=dtype)
        for name, dtype in dtypes.items()
    }
    literal = literal_copy(steps["fp32"].net, margin=MARGIN, gamma=gamma, rate=RATE)
    difference = _loss_difference(literal, steps["fp32"], images, labels)
    runs: dict[str, Callable[[Tensor, Tensor], object]] = {"literal": literal, **steps}
    milliseconds = {name: [] for name in runs}
    for repeat in range(WARMUP + REPEATS):
        for name, step in runs.items():
            start = time.perf_counter()
            step(images, labels)
            if repeat >= WARMUP:
                milliseconds[name].append(1e3 * (time.perf_counter() - start))
    ratios = {
        name: [a / b for a, b in zip(milliseconds["literal"], milliseconds[name], strict=True)]
        for name in dtypes
    }
    used = "bf16" if units else "fp32"
    met = statistics.median(ratios[used]) >= BAR[units] and difference <= TOLERANCE
    return {
        "regime": regime,
        "n": REPEATS,
        **{f"{name} [ms]": _spread(values, 1) for name, values in milliseconds.items()},
        **{f"ratio {name}": _spread(values, 3) for name, values in ratios.items()},
        "loss difference": float(f"{difference:.1e}"),
        "bar": f"{BAR[units]} ({used})",
        "met": met,
    }


def _twin(net: CifarNet) -> CifarNet:
    twin = build(net.arch)
    twin.load_state_dict(net.state_dict())
    return twin


def _loss_difference(
    literal: LiteralStep, step: TrainingStep, images: Tensor, labels: Tensor
) -> float:
    """Relative difference of hinge loss plus weighted penalty on one batch, before any update."""
    hinge, penalty = literal.accumulate(images, labels)
    ours = step.accumulate(images, labels)
    literal.optimizer.zero_grad()
    step.optimizer.zero_grad()
    expected = hinge + step.gamma * penalty
    return abs(float(ours.hinge) + step.gamma * float(ours.penalty) - expected) / expected


def _spread(values: list[float], digits: int) -> dict[str, float]:
    found = {
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "low": min(values),
        "high": max(values),
    }
    return {name: round(value, digits) for name, value in found.items()}
