"""Robust accuracy against perturbation size: published, measured on the published weights, on
retrained networks and, certified, on ours."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_repro import compared, models, published, style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.evaluated import NUMBERS, SOURCES, Evaluated, evaluated
from paper_repro.models import Source
from paper_repro.output import beside, write_csv, write_figure

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CERTIFIED = "certified accuracy"
"""The panel of it; its axis is logarithmic, the paper's networks having radii of 1e-3 and less."""
SMALLEST = 1e-4
"""The smallest radius shown."""
_APART = 0.009
"""Distance between the marks of AutoAttack, so that intervals do not hide each other."""
_HEADER = (
    *("source", "dataset", "margin", "regime", "network"),
    *("attack", "epsilon", "robust_accuracy", "images"),
)


def inputs_of(dataset: str, margins: Sequence[str]) -> tuple[str, ...]:
    """The networks whose evaluations a figure of `dataset` draws."""
    grid = [*models.published(), *models.retrained(dataset), *models.certified()]
    return tuple(
        model.id for model in grid if model.dataset == dataset and model.margin in (*margins, "")
    )


def by_source(found: Mapping[str, Evaluated], source: Source) -> list[Evaluated]:
    return [one for one in found.values() if one.model.source == source]


def sources(dataset: str, found: Mapping[str, Evaluated]) -> dict[Source, list[Evaluated]]:
    """The evaluations of each source that there can be: the authors published CIFAR-10 weights
    only, and so far no network is certified by construction for CIFAR-100."""
    known = list(Source) if dataset == "cifar10" else [Source.retrained]
    return {source: by_source(found, source) for source in known}


def heading(source: Source, shown: Sequence[Evaluated], dataset: str) -> str:
    """The name of a source and, after a comma, what sets its images apart from the published."""
    images = sorted({one.images for one in shown} - {published.IMAGES})
    others = sorted({one.dataset for one in shown} - {dataset})
    marks = " ".join([*(" and ".join(map(str, images)),) * bool(images), *others])
    return SOURCES[source] + (f", {marks} images" if marks else "")


def absent(known: Mapping[Source, Sequence[Evaluated]]) -> str:
    """What of the sources is not there, as the figure says it; empty where all is."""
    missing = [SOURCES[source] for source, shown in known.items() if not shown]
    return f"not run: {', '.join(missing)}" if missing else ""


def grid(panels: int, ylabel: str) -> tuple[Figure, list[Axes]]:
    """A figure of up to four panels that share the vertical axis."""
    columns = panels if panels < 4 else 2
    rows = -(-panels // columns)
    width = style.COLUMN if panels == 1 else style.PAGE
    figure = Figure(figsize=(width, 0.75 + 2.3 * rows))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for first in axes[:, 0]:
        first.set(ylabel=ylabel)
    return figure, list(axes.flat)[:panels]


def line(axes: Axes, curve: published.Curve) -> None:
    """A curve of the paper's attack in the look of its regime."""
    look = style.NETWORKS[curve.regime]
    axes.plot(curve.epsilons, curve.accuracies, **look.line(clip_on=False, zorder=3))


def _stars(axes: Axes, shown: Sequence[Evaluated]) -> None:
    """AutoAttack with its 95 % intervals."""
    for number, one in enumerate(shown):
        look = style.NETWORKS[one.model.regime]
        for point in one.autoattack:
            low, high = point.interval
            shift = 0.0 if axes.get_xscale() == "log" else _APART * (number - len(shown) // 2)
            axes.errorbar(
                point.epsilon + shift,
                point.accuracy,
                [[point.accuracy - low], [high - point.accuracy]],
                color=look.color,
                marker="*",
                markersize=6.5,
                markeredgecolor=style.INK,
                markeredgewidth=0.4,
                elinewidth=0.8,
                zorder=4,
            )


def _certified(axes: Axes, found: Mapping[str, Evaluated]) -> None:
    """The certified curves: of ours, and of the paper's networks by the weights at hand. For ours
    the attacked accuracies too, which are above."""
    ours = by_source(found, Source.certified)
    theirs = {one.model.regime: one for one in by_source(found, Source.retrained)}
    theirs |= {one.model.regime: one for one in by_source(found, Source.published)}
    axes.set_xscale("log")
    for one in [*theirs.values(), *ours]:
        look = style.NETWORKS[one.model.regime]
        axes.plot(
            one.certified.epsilon,
            one.certified.accuracy,
            color=look.color,
            linestyle=look.dashes,
            drawstyle="steps-pre",
            zorder=3,
        )
    for one in ours:
        look = style.NETWORKS[one.model.regime]
        points = [point for point in one.paper if point.epsilon > 0]  # 0 is nowhere on the axis
        axes.plot(
            [point.epsilon for point in points],
            [point.accuracy for point in points],
            **look.line(linestyle="none", markerfacecolor="white", markeredgecolor=look.color,
                        markeredgewidth=0.8),
        )  # fmt: skip
    _stars(axes, ours)
    axes.set_xlim(SMALLEST, 1.2)
    axes.set_xticks([1e-3, 1e-2, 1e-1, 1.0])


def _legend(figure: Figure, found: Mapping[str, Evaluated], note: str) -> None:
    regimes = [one.model.regime for one in by_source(found, Source.certified)]
    looks = [*style.REGIMES.values(), *(style.CERTIFIED[name] for name in dict.fromkeys(regimes))]
    handles = [Line2D([], [], **look.line()) for look in looks]
    if any(one.autoattack for one in found.values()):
        handles.append(
            Line2D([], [], color="white", marker="*", markeredgecolor=style.INK, markersize=6.5,
                   linestyle="none", label="AutoAttack")
        )  # fmt: skip
    columns = 2 if figure.get_figwidth() < style.PAGE else 4
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, title=note, title_fontsize=7.5
    )


def _figure(dataset: str, margin: str, numbers: list[published.Curve],
            found: Mapping[str, Evaluated], stem: Path) -> None:  # fmt: skip
    known = sources(dataset, found)
    attacked = {source: shown for source, shown in known.items()
                if shown and source != Source.certified}  # fmt: skip
    with style.house():
        figure, panels = grid(1 + len(attacked) + bool(found), "robust accuracy (%)")
        for curve in numbers:
            line(panels[0], curve)
        panels[0].set(title=NUMBERS)
        for axes, (source, shown) in zip(panels[1:], attacked.items(), strict=False):
            for one in shown:
                line(axes, one.curve)
            _stars(axes, shown)
            axes.set(title=heading(source, shown, dataset).replace(", ", "\n"))
        for axes in panels:
            axes.set(xlim=(0, 1), xlabel=r"perturbation size $\varepsilon$ ($\ell_2$)")
        if found:
            _certified(panels[-1], found)
            panels[-1].set(title=CERTIFIED)
        panels[0].set(ylim=(0, 1 if dataset == "cifar10" else 0.7))
        panels[0].yaxis.set_major_formatter(style.percent())
        figure.suptitle(f"{TITLES[dataset]}, margin $m = {margin}$", fontsize=9.5)
        _legend(figure, found, absent(known))
        write_figure(figure, stem)


def _rows(dataset: str, margin: str, numbers: list[published.Curve],
          found: Mapping[str, Evaluated]) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    for curve in numbers:
        for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True):
            name = "pgd-paper" if epsilon > 0 else "clean"
            row = NUMBERS, dataset, margin, curve.regime, ""
            yield *row, name, epsilon, accuracy, published.IMAGES
    for one in found.values():
        model = one.model
        row = SOURCES[model.source], one.dataset, model.margin, model.regime, model.id
        for point in one.paper:
            name = "pgd-paper" if point.epsilon > 0 else "clean"
            yield *row, name, point.epsilon, point.accuracy, point.images
        for point in one.autoattack:
            yield *row, "autoattack", point.epsilon, point.accuracy, point.images
        for epsilon, accuracy in zip(one.certified.epsilon, one.certified.accuracy, strict=True):
            yield *row, "certified", epsilon, accuracy, one.images


def _curves(dataset: str, margin: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    found = evaluated(inputs)
    curves = published.curves(dataset, inputs["robustness"]).values()
    numbers = [curve for curve in curves if curve.margin == margin]
    _figure(dataset, margin, numbers, found, stem)
    write_csv(beside(stem, "csv"), _HEADER, _rows(dataset, margin, numbers, found))
    at = dataset, margin, inputs, found
    return [*compared.accuracies(*at), *compared.picture(*at)]


def artefacts() -> Iterator[Artefact]:
    """The six robustness figures."""
    for dataset, title in TITLES.items():
        weights = (
            "the authors' weights of three regimes, networks of ours, and certified ones"
            if dataset == "cifar10"
            else "networks of ours (the authors published no weights)"
        )
        for margin in published.MARGINS:
            yield Artefact(
                f"robustness-{dataset}-{margin}",
                "figure",
                f"Robust accuracy on {title} at margin {margin} under the paper's ten-step L2 "
                f"attack, first 1024 test images: as published, and measured on {weights}. Stars: "
                "AutoAttack with 95 % intervals, set apart sideways, of the first images alone "
                "where it saw fewer (the table has their number). Certified accuracy (sizes "
                "in log scale) is a lower bound of what any attack leaves; it is that of the "
                "published weights where they are evaluated, else of ours; hollow marks are the "
                "attack on the certified networks. What was not run is left out and named.",
                partial(_curves, dataset, margin),
                packaged={"robustness": published.ROBUSTNESS},
                evaluations=inputs_of(dataset, [margin]),
            )
