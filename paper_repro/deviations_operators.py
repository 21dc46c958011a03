"""Deviations in the linear maps: orthogonality, padding, scales, norms and their estimates."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dsnn.integrators import Alternation, FlexiblePair
from dsnn.models.cifar import SIDE
from dsnn.operators import symbol
from dsnn.operators.bounds import of_convolution, of_matrix
from dsnn.operators.geometry import Geometry
from dsnn.training.orthogonality import orthogonality_defect
from paper_repro.deviation import Deviation, Number
from paper_repro.material import (
    Material,
    Network,
    lower_end,
    spectrum,
    upper_end,
    zero_padded,
)
from theory import theorems
from theory.compile import compiled

_switching = compiled(theorems()["T9-switching"].law, "math")
_flexible = compiled(theorems()["T10-flexible-switching"].law, "math")
_ROUNDING = 1 - 1e-12
"""Covers the float64 evaluation of a law that is shown rounded down to four digits."""
_KERNEL_NAMES = {
    "switch-prescribed": ("expansive", "contractive"),
    "switch-flexible": ("contractive", "unused"),
}


def _tag(network: Network) -> str:
    return network.label.replace(" ", "_").replace(".", "_").replace("-", "_")


def _executed(network: Network) -> list[list[int]]:
    """By stage, which kernels of the flow are executed."""
    tied = network.model.regime == "switch-flexible"
    return [list(range(0, 4, 2 if tied else 1)) for _ in network.net.stages]


def _contractive(network: Network) -> list[tuple[int, int]]:
    """Stage and number of every kernel of a contractive step."""
    names = _KERNEL_NAMES.get(network.model.regime, ("contractive",))
    wanted = [i for i in range(4) if names[i % len(names)] == "contractive"]
    return [(k, i) for k in range(len(network.net.stages)) for i in wanted]


def soft_orthogonality(material: Material) -> Iterator[Number]:
    """4: norms of the kernels that nothing projects, at the extent they are executed at."""
    for network in material.networks:
        tag, kept = _tag(network), _executed(network)
        found = [network.spectra[k][i] for k, stage in enumerate(kept) for i in stage]
        what = f"{network.label}: largest norm of a kernel of its flows"
        yield Number(f"low_{tag}", f"{what}, from below", max(s.norm[0] for s in found), "at least")
        yield Number(f"high_{tag}", f"{what}, from above", max(s.norm[1] for s in found), "at most")
    for network in material.of("non-expansive"):
        products = [
            u * spectrum.norm[1] ** 2
            for stage, spectra in zip(network.net.stages, network.spectra, strict=True)
            for u, spectrum in zip(stage.flow.signed_times(), spectra, strict=True)
        ]
        what = f"{network.label}: largest h |A|², which T8 wants to be at most 2"
        yield Number(f"step_{_tag(network)}", what, max(products), "at most")


def _law(network: Network, k: int) -> float:
    """What the sharp law of the regime gives for flow k, from below, as no contraction can be
    better than at the measured upper ends of the smallest singular values."""
    spectra, factor = network.spectra[k], 1.0
    for pair, step in enumerate(network.net.stages[k].flow):
        if isinstance(step, Alternation):
            expansive, contractive = spectra[2 * pair], spectra[2 * pair + 1]
            h_e, h_c = step.u.tolist()
            factor *= _switching(
                h_1=h_c, h_2=h_e * step.rescaling.item(), a=0.5, S=step.substeps,
                s_min=contractive.smallest, s_max=contractive.norm[0], w_max=expansive.norm[0],
            )  # fmt: skip
        elif isinstance(step, FlexiblePair):
            tied, (h_1, h_2) = spectra[2 * pair], step.u.abs().tolist()
            factor *= _flexible(
                h_1=h_1, h_2=h_2, a=0.5,
                s_min=tied.smallest, s_max=tied.norm[0], w_max=tied.norm[0],
            )  # fmt: skip
    return factor * _ROUNDING


def zero_padding(material: Material) -> Iterator[Number]:
    """5: a penalty on the infinite grid, and the operator that zero padding makes of it."""
    shift = torch.zeros(1, 1, 3, 3)
    shift[0, 0, 0, 1] = 1.0
    penalty = float(orthogonality_defect(shift[None]))
    yield Number("shift_penalty", "one-channel shift by a pixel: the penalty", penalty)
    smallest = of_convolution(shift, zero_padded(SIDE)).smallest[1]
    lost = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    lost[..., -1, :] = 1.0
    image = float(zero_padded(SIDE).apply(shift.double(), lost).norm() / lost.norm())
    what = "the same shift with zero padding: |Ax| / |x| at the row that is shifted out"
    yield Number("shift_smallest", what, min(image, smallest) if smallest > 0 else image)
    for network in material.of("switch-prescribed", "switch-flexible"):
        tag, places = _tag(network), _contractive(network)
        worst = min(network.spectra[k][i].smallest for k, i in places)
        what = f"{network.label}: smallest inf |Ax| / |x| of a contractive kernel"
        yield Number(f"padded_{tag}", f"{what}, zero padding as executed", worst, "at most")
        circular = min(
            symbol.smallest_lower(network.kernels(k)[i], _circular(SIDE >> k)) for k, i in places
        )
        yield Number(f"circular_{tag}", f"{what}, were the padding circular", circular, "at least")
        values = [_law(network, k) for k in range(len(network.net.stages))]
        theorem = "T9" if network.model.regime == "switch-prescribed" else "T10"
        what = f"{network.label}: least that {theorem} can give for its largest flow"
        yield Number(f"law_{tag}", what, max(values), "at least")


def _circular(side: int) -> Geometry:
    return Geometry((side, side), padding=(1, 1, 1, 1), circular=True)


def lifting_scales(material: Material) -> Iterator[Number]:
    """6: the scales of the lifts, and the constants of the whole networks."""
    products: list[float] = []
    for network in material.networks:
        tag, audit = _tag(network), material.audit(network)
        scales = [abs(s.lift.scale.item()) for s in network.net.stages if s.lift.scale is not None]
        what = f"{network.label}: product of the three lifting scales"
        products.append(math.prod(scales))
        yield Number(f"scales_{tag}", what, products[-1])
        what = f"{network.label}: Lipschitz constant of the network"
        yield Number(f"upper_{tag}", what, upper_end(audit, ""), "at most")
        pixels = lower_end(audit, "", "lipschitz[pixel]<=1")
        what = f"{network.label}: the same for pixels, shown by two images"
        yield Number(f"pixels_{tag}", what, pixels, "at least")
    yield Number("scales_low", "the smallest product of scales", min(products))
    yield Number("scales_high", "the largest product of scales", max(products))


def normalisation(material: Material) -> Iterator[Number]:
    """7: the factor between pixels and normalised inputs."""
    std = material.networks[0].loaded.card.std
    yield Number("factor", "1 / the smallest standard deviation of the normalisation", 1 / min(std))
    for network in material.networks:
        audit = material.audit(network)
        for word, claim in (("normalised", "lipschitz<=1"), ("pixels", "lipschitz[pixel]<=1")):
            what = f"{network.label}: Lipschitz constant of the network, input: {word}"
            upper = upper_end(audit, "", claim)
            yield Number(f"{word}_{_tag(network)}", what, upper, "at most")


def heads(material: Material) -> Iterator[Number]:
    """8: Frobenius and spectral norms of the heads."""
    frobenius: list[float] = []
    for network in material.networks:
        tag, weight = _tag(network), network.net.head.weight.detach()
        frobenius.append(float(weight.double().norm()))
        what = f"{network.label}: Frobenius norm of the head"
        yield Number(f"frobenius_{tag}", what, frobenius[-1])
        what = f"{network.label}: spectral norm of the head"
        yield Number(f"spectral_{tag}", what, of_matrix(weight).norm[1], "at most")
    yield Number("frobenius", "the largest Frobenius norm", max(frobenius))


def _published_power_method(kernel: Tensor, side: int, steps: int) -> float:
    """What the published `power_method` returns: |Aᵀv|² for a unit vector v in the outputs after
    `steps` power iterations from a random start."""
    generator = torch.Generator().manual_seed(0)
    kernel = kernel.double()
    u = torch.randn(1, kernel.shape[1], side, side, generator=generator, dtype=torch.float64)
    adjoint = u
    for _ in range(steps):
        v = torch.nn.functional.conv2d(u, kernel, padding=1)
        adjoint = torch.nn.functional.conv_transpose2d(v / v.norm(), kernel, padding=1)
        u = adjoint / adjoint.norm()
    return float(adjoint.norm() ** 2)


def power_method(material: Material) -> Iterator[Number]:
    """9: a square that is taken for the norm, and an estimate that is taken for a bound."""
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[range(4), range(4), 1, 1] = 1.5
    returned = _published_power_method(kernel, SIDE >> 2, 1)
    yield Number("returned", "what it returns for 1.5 times the identity", returned)
    norm = of_convolution(kernel / max(1.0, returned), zero_padded(SIDE >> 2)).norm
    yield Number("after", "norm of that kernel after dividing by what was returned", norm[1])
    lifts = [
        (stage.lift.operator.weight.detach(), SIDE >> k)
        for network in material.networks
        for k, stage in enumerate(network.net.stages)
    ]
    shares = [
        math.sqrt(_published_power_method(kernel, side, 1)) / spectrum(kernel, side).norm[0]
        for kernel, side in lifts
    ]
    what = "root of what one iteration returns over the norm, published lifts"
    yield Number("share_low", f"{what}: the lowest", min(shares))
    yield Number("share_high", f"{what}: the highest", max(shares))


def lift_extent(material: Material) -> Iterator[Number]:
    """10: norms of the lifts at the extent they are executed at, and at the one estimated at."""
    for network in material.networks:
        for k, stage in enumerate(network.net.stages):
            if k == 0:
                continue
            kernel, side = stage.lift.operator.weight.detach(), SIDE >> k
            what = f"{network.label}: norm of lift {k} where it is"
            high = of_convolution(kernel, zero_padded(side), tight=True).norm[1]
            text = f"{what} executed, {side} x {side}"
            yield Number(f"executed_{k}_{_tag(network)}", text, high, "at most")
            low = spectrum(kernel, 2 * side).norm[0]
            text = f"{what} estimated, {2 * side} x {2 * side}"
            yield Number(f"estimated_{k}_{_tag(network)}", text, low, "at least")


DEVIATIONS = (
    Deviation(
        4,
        "Orthogonality is asked for by a penalty and enforced by nothing",
        "utils.py:37-43; training.py",
        "The kernels of the flows are pushed towards orthogonality by a penalty on Frobenius norms "
        "and never projected.",
        "T7, T9 and T10 take AᵀA = I; T8 only needs h |A|² ≤ 2.",
        "Norms exceed 1 slightly, by most in the non-expansive network of margin 0.07: between "
        "{low_non_expansive_0_07} and {high_non_expansive_0_07}. There T8 has room: its largest "
        "h |A|² is {step_non_expansive_0_07}, so the flows stay non-expansive.",
        "measured",
        soft_orthogonality,
    ),
    Deviation(
        5,
        "Zero padding undoes the orthogonality that the penalty measures",
        "utils.py:37-43 deconv_orth_dist",
        "The penalty is the orthogonality of the convolution on an infinite grid; the networks pad "
        "their images with zeros.",
        "The contraction of T7 rests on the smallest |Ax| / |x| over the executed inputs, which "
        "enters squared; the penalty says nothing about it.",
        "A shift by one pixel has penalty {shift_penalty} and loses a row altogether. In the "
        "published networks the smallest |Ax| / |x| is {padded_switch_prescribed_0_15} "
        "(prescribed) and {padded_switch_flexible_0_15} (flexible, margin 0.15), where circular "
        "padding of the same kernels would have {circular_switch_prescribed_0_15} and "
        "{circular_switch_flexible_0_15}. At these singular values the bound of T9 is "
        "{law_switch_prescribed_0_15} for the largest flow of prescribed switching at margin 0.15, "
        "however closely they are measured: the theorem does not show it to be non-expansive.",
        "measured",
        zero_padding,
    ),
    Deviation(
        6,
        "Lifting layers multiply by a free number",
        "network.py:56-57",
        "Each stage starts with ReLU(r K x), |K| held to 1 and the learned scale r to nothing.",
        "A network is 1-Lipschitz only if every factor is accounted for [T11].",
        "The scales multiply to between {scales_low} and {scales_high}. What can be proved of "
        "whole networks is accordingly weak ({upper_non_expansive_0_15} for non-expansive 0.15), "
        "and in pixels two images show that the constant is {pixels_switch_flexible_0_15} for "
        "flexible switching at margin 0.15: nothing in the construction makes such a network "
        "1-Lipschitz, at best its flows are.",
        "measured",
        lifting_scales,
    ),
    Deviation(
        7,
        "The input normalisation is left out of the constant",
        "main.ipynb Normalisation",
        "Attacks and radii are in pixels, the constants in normalised inputs.",
        "A constant per pixel is larger by 1 / min(std) at most, and a radius smaller by as much.",
        "The factor is {factor}: a radius computed without it is too large by up to that much.",
        "measured",
        normalisation,
    ),
    Deviation(
        8,
        "The head is divided by its Frobenius norm",
        "training.py:48,49,52",
        "torch.norm(W, 2) of a matrix is the Frobenius norm; on CIFAR-100 the head is not "
        "projected at all.",
        "The spectral norm is what enters the constant [T11].",
        "Conservative on CIFAR-10: with Frobenius norms up to {frobenius} the "
        "spectral norms are {spectral_non_expansive_0_15} for non-expansive and "
        "{spectral_switch_flexible_0_15} for flexible switching, at margin 0.15.",
        "measured",
        heads,
    ),
    Deviation(
        9,
        "The power method returns the square of the norm",
        "utils.py:64-72 power_method; training.py:57-60",
        "It returns |Aᵀv|² after one iteration, and kernels are divided by it where it exceeds 1.",
        "Dividing by the norm leaves a norm of 1; an iteration from a random start is a lower "
        "bound and certifies nothing.",
        "1.5 times the identity comes back as {returned}, and the kernel is shrunk to a norm of "
        "{after}: safe, but not what is meant. After one iteration the root of the result is "
        "between {share_low} and {share_high} of the norm of the published lifts, so a norm can "
        "also stay above 1 unseen.",
        "constructed",
        power_method,
    ),
    Deviation(
        10,
        "Norms of two lifts are estimated on images of twice their size",
        "network.py:33 kkL",
        "The lifts of the second and third stage are normalised as if their images were not pooled "
        "before.",
        "Norms grow with the image, so the estimate is conservative.",
        "Harmless: the second lift of non-expansive 0.15 has norm {executed_1_non_expansive_0_15} "
        "where it runs and {estimated_1_non_expansive_0_15} where it is estimated.",
        "measured",
        lift_extent,
    ),
)
