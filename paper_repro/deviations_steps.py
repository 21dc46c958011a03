"""Deviations in the learned steps: signs, clamps, slopes, and how they are drawn.

Numbers are those of the list in the notes on the paper, section 8.
"""

import copy
import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from sympy import Eq, Integer, Rational, solve

from dsnn.integrators import Alternation, FlexiblePair
from dsnn.models.cifar import SIDE, CifarNet
from dsnn.training.orthogonality import orthogonality_defect
from paper_repro.alternation import layers
from paper_repro.deviation import Deviation, Number
from paper_repro.material import Material, Network, lower_end, spectrum
from theory import theorems
from theory.compile import compiled
from theory.facts import h_1, h_2

_FLEXIBLE: Any = theorems()["T10-flexible-switching"].forms["paper"]
_flexible = compiled(_FLEXIBLE, "math")
_prescribed = compiled(theorems()["T9-switching"].forms["paper"], "math")


def _tag(network: Network) -> str:
    return network.model.margin.replace(".", "_")


def _pairs(net: CifarNet) -> list[list[FlexiblePair]]:
    return [[step for step in s.flow if isinstance(step, FlexiblePair)] for s in net.stages]


def _largest(network: Network, *, signed: bool) -> float:
    """The paper's bound of the largest flow [T10]: a signed step below 0 counts as non-expansive
    [T8], an executed one as an expansion by |u|."""

    def factor(pair: FlexiblePair) -> float:
        contractive, second = pair.u.tolist()
        return _flexible(h_1=contractive, h_2=max(second, 0.0) if signed else abs(second))

    return max(math.prod(map(factor, pairs)) for pairs in _pairs(network.net))


def _with_signs(net: CifarNet) -> CifarNet:
    """The same network executing u, its kernels still tied as published."""
    signed = copy.deepcopy(net)
    for pairs in _pairs(signed):
        for pair in pairs:
            pair.signed = True
            pair.expansive.operator = pair.contractive.operator
            pair.expansive.bias = pair.contractive.bias
    return signed


def signs(material: Material) -> Iterator[Number]:
    """1: what is lost with the sign of the second step."""
    for network in material.of("switch-flexible"):
        tag, margin, card = _tag(network), f"margin {network.model.margin}", network.loaded.card
        second = [pair.u.tolist()[1] for pairs in _pairs(network.net) for pair in pairs]
        negative = sum(u < 0 for u in second)
        what = f"{margin}: second steps learned as negative, of {len(second)}"
        yield Number(f"negative_{tag}", what, negative, "count")
        yield Number(f"worst_{tag}", f"{margin}: the most negative of them", min(second))
        for word, signed in (("learned", True), ("executed", False)):
            what = f"{margin}: T10's bound of the largest flow, kernels taken as orthogonal, steps"
            law = _largest(network, signed=signed)
            yield Number(f"law_{word}_{tag}", f"{what} as {word}", law, digits=6)
        audit = material.audit(network)
        stretch = max(lower_end(audit, f"stages.{k}.flow") for k in range(3))
        what = f"{margin}: largest factor by which a flow is shown to stretch a distance"
        yield Number(f"stretch_{tag}", what, stretch, "at least")
        for word, net in (("|u|", network.net), ("u", _with_signs(network.net))):
            right = material.correct(net, card.mean, card.std)
            what = f"{margin}: of {material.images} test images, classified rightly executing"
            name = "executed" if net is network.net else "signed"
            yield Number(f"right_{name}_{tag}", f"{what} {word}", right, "count")
    found = material.audit_of(
        "arch:switch-flexible?signed_steps=false", "stages.*.flow:lipschitz<=1"
    )
    yield Number(
        "architecture",
        "factor by which a flow stretches a distance in a network that the published construction "
        "admits, made here with a second step of -1.9",
        max(entry["bound"][0] or 0.0 for entry in found["claims"]),
        "at least",
    )


def unused_kernels(material: Material) -> Iterator[Number]:
    """2: the kernels that the second steps own and never execute."""
    for network in material.of("switch-flexible"):
        tag, margin = _tag(network), f"margin {network.model.margin}"
        kernels = [
            (pair.expansive.operator.weight.detach(), SIDE >> k)
            for k, pairs in enumerate(_pairs(network.net))
            for pair in pairs
        ]
        largest = max(spectrum(kernel, side, 8).norm[1] for kernel, side in kernels)
        weights = sum(kernel.numel() for kernel, _ in kernels)
        flows = sum(kernel.numel() for k in range(3) for kernel in network.kernels(k))
        what = f"{margin}: share of the flows' kernel entries that no input ever meets"
        yield Number(f"share_{tag}", what, weights / flows)
        defects = [float(orthogonality_defect(kernel[None])) for kernel, _ in kernels]
        what = f"{margin}: largest penalty of those kernels"
        yield Number(f"penalty_{tag}", what, max(defects))
        yield Number(f"norm_{tag}", f"{margin}: largest norm of those kernels", largest, "at most")


def clamp(material: Material) -> Iterator[Number]:
    """3: the box of the flexible regime on CIFAR-100, and the one the weights were trained with."""
    edge, limit = Rational(19, 10), Rational(1, 20)
    law = _FLEXIBLE.subs({h_1: edge, h_2: limit})
    what = "T10's bound at the corner (1.9, 0.05), exactly"
    yield Number("corner", what, float(law), digits=7)
    admissible = max(solve(Eq(_FLEXIBLE.subs(h_2, limit), Integer(1)), h_1))
    what = "largest first step that T10 admits beside 0.05"
    yield Number("edge", what, float(admissible), digits=7)
    pairs = [
        pair.u.tolist()
        for network in material.of("switch-flexible")
        for pairs in _pairs(network.net)
        for pair in pairs
    ]
    second = [u for _, u in pairs]
    what = "largest second step in the published CIFAR-10 weights"
    yield Number("stored", what, max(second), digits=5)
    beside = compiled(theorems()["T10-flexible-switching"].forms["boundary"], "math")
    what = "largest second step that T10 admits beside 0.11"
    yield Number("allowed", what, beside(h_1=0.11), digits=5)
    laws = [_FLEXIBLE.subs({h_1: Rational(h), h_2: Rational(k)}) for h, k in pairs if k >= 0]
    what = "how far T10's bound is above 1 at the worst such pair as stored in float32, exactly"
    yield Number("excess", what, float(max(laws) - 1))


def slopes(material: Material) -> Iterator[Number]:
    """11: why the contractive steps of the switching networks need a slope above 0."""
    steps = [
        step.u.tolist()
        for network in material.of("switch-prescribed")
        for stage in network.net.stages
        for step in stage.flow
        if isinstance(step, Alternation)
    ]
    for name, slope in (("leaky", 0.5), ("relu", 0.0)):
        values = [_prescribed(h_1=h_c, h_2=h_e, a=slope, S=2) for h_e, h_c in steps]
        what = f"T9's bound at the published steps with slope {slope:g}, the largest"
        yield Number(name, what, max(values))


def collapsed(material: Material) -> Iterator[Number]:
    """12: how far the learned steps of the other regimes are from their clamps."""
    nets = material.of("non-expansive")
    times = [u for network in nets for s in network.net.stages for u in s.flow.signed_times()]
    yield Number("least", "smallest time in the non-expansive networks", min(times))
    zeros = sum(u == 0 for u in times)
    yield Number("zeros", f"their times that are exactly 0, of {len(times)}", zeros, "count")
    steps = [
        step
        for network in material.of("switch-prescribed")
        for stage in network.net.stages
        for step in stage.flow
        if isinstance(step, Alternation)
    ]
    away = max(abs(step.u.tolist()[1] - 0.3) for step in steps)
    yield Number("away", "prescribed switching: largest distance of a time from the clamp", away)
    scales = [step.rescaling.item() for step in steps]
    yield Number("scale_low", "prescribed switching: smallest learned rescaling", min(scales))
    yield Number("scale_high", "prescribed switching: largest learned rescaling", max(scales))


def _published_edges(times: list[list[float]]) -> list[float]:
    """The ends of all bars as the published notebook adds them up: the first stage's total is
    added to all later stages, and then the second's, which holds it already, to the third."""
    sums = [list(accumulate(stage)) for stage in times]
    for later in sums[1:]:
        later[:] = [t + sums[0][-1] for t in later]
    sums[2] = [t + sums[1][-1] for t in sums[2]]
    return [t for stage in sums for t in stage]


def bars(material: Material) -> Iterator[Number]:
    """17: the bars of the published step plots against the steps."""
    for network in material.of("switch-flexible", "switch-prescribed", "non-expansive"):
        rows = layers(network.net)
        times = [[row.signed for row in rows if row.stage == stage] for stage in range(3)]
        drawn, true = _published_edges(times), [row.signed_span[1] for row in rows]
        tag = network.label.replace(" ", "_").replace(".", "_").replace("-", "_")
        what = f"{network.label}: length of layer 9's bar"
        yield Number(f"drawn_{tag}", f"{what} as the notebook draws it", drawn[8] - drawn[7])
        yield Number(f"true_{tag}", f"{what}, its learned step", true[8] - true[7])


DEVIATIONS = (
    Deviation(
        1,
        "Steps learned as negative are executed as positive",
        "Switch flexible/network.py:58,63,69; training.py:67",
        "The network executes |u|, while training clamps the second step of each pair to "
        "[-1.9, 0.05] and so lets it become negative.",
        "The box of T10 holds second steps of at most 0.05; a negative one is non-expansive by T8. "
        "Executed with the other sign it is an expansion by up to 1.9.",
        "At margin 0.15, {negative_0_15} second steps lost their sign, the largest {worst_0_15}. "
        "T10's bound of the largest flow rises from {law_learned_0_15} to {law_executed_0_15}, and "
        "two feature maps were found that a flow takes {stretch_0_15} times as far apart: it is "
        "not 1-Lipschitz. The weights were trained like this: with the sign restored they "
        "classify {right_signed_0_15} images rightly and not {right_executed_0_15}.",
        "measured",
        signs,
    ),
    Deviation(
        2,
        "The second step of each pair uses the kernel of the first",
        "Switch flexible/network.py:65,69; CIFAR100 training.py:63-64",
        "The expansive step executes the contractive kernel and bias; its own kernel is "
        "constructed and penalised, and never used.",
        "The two steps of T10 have kernels of their own. Tied ones satisfy the same bound.",
        "A share of {share_0_15} of the flows' kernel entries takes no part. Only the penalty "
        "reaches them: at margin 0.15 it is {penalty_0_15} at most, and the norms are "
        "{norm_0_15}.",
        "measured",
        unused_kernels,
    ),
    Deviation(
        3,
        "A clamp just outside the admissible set",
        "CIFAR100/Switch flexible/training.py:66",
        "On CIFAR-100 the first step may reach 1.9 beside a second step of 0.05; the weights "
        "published for CIFAR-10 hold second steps above the 0.05 of the published code.",
        "T10's bound must be at most 1 on the whole box.",
        "At the corner the bound is {corner}, where a first step of {edge} is the largest "
        "admissible. The largest second step stored is {stored}: the edge {allowed} of what T10 "
        "admits beside 0.11, where rounding to float32 puts the bound above 1 by {excess}, and not "
        "the 0.05 of the published code, which therefore is not what made the weights.",
        "constructed",
        clamp,
    ),
    Deviation(
        11,
        "Two activations, each where its theorem needs it",
        "Switch flexible/network.py; Switch prescribed/network.py; Contractive/network.py",
        "The switching networks use LeakyReLU with slope 1/2, the non-expansive one ReLU.",
        "T7 and T9 need slopes of at least a > 0; T8 holds for ReLU.",
        "Consistent: at the published steps T9's bound is {leaky} with slope 1/2, and would be "
        "{relu} with ReLU.",
        "measured",
        slopes,
    ),
    Deviation(
        12,
        "Learned steps that are not learned",
        "Contractive/network.py; Switch prescribed/network.py",
        "|u| is executed in the other two regimes as well, where u is clamped to be at least 0; "
        "prescribed switching multiplies its expansive step by a learned rescaling in [0, 1].",
        "Both are admissible: a smaller expansion only helps.",
        "Harmless. But the times of prescribed switching lie within {away} of their lower clamp, "
        "and {zeros} times of the non-expansive networks are 0: those layers do nothing.",
        "measured",
        collapsed,
    ),
    Deviation(
        17,
        "The published step plots count a stage twice",
        "plot_timesteps.ipynb",
        "The running sum adds the first stage's total to the second and third stage, and then the "
        "second stage's sum, which holds that total already, to the third.",
        "A bar is as long as its step, and starts where the one before it ends.",
        "Layer 9's bar begins where layer 8 ends and is too long: {drawn_switch_flexible_0_07} at "
        "margin 0.07, for a step of {true_switch_flexible_0_07}. All bars after it are shifted.",
        "measured",
        bars,
    ),
)
