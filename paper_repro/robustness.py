"""Robust accuracy against perturbation size, and the area under it against the margin."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from paper_repro import published, style
from paper_repro.artefact import Artefact, Comparison, compare
from paper_repro.output import beside, write_csv, write_figure

_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def _curves_figure(dataset: str, margin: str, source: Path, stem: Path) -> None:
    shown = [c for c in published.curves(dataset, source).values() if c.margin == margin]
    with style.house():
        figure = Figure(figsize=(style.COLUMN, 3.0))
        axes = figure.subplots()
        for curve in shown:
            look = style.REGIMES[curve.regime]
            axes.plot(
                curve.epsilons,
                curve.accuracies,
                color=look.color,
                marker=look.marker,
                linestyle=look.dashes,
                label=look.label,
                markeredgecolor="white",
                markeredgewidth=0.4,
                clip_on=False,
                zorder=3,
            )
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1 if dataset == "cifar10" else 0.7),
            xlabel=r"perturbation size $\varepsilon$ ($\ell_2$, pixels in $[0, 1]$)",
            ylabel="robust accuracy (%)",
            title=f"{_TITLES[dataset]}, margin $m = {margin}$",
        )
        axes.yaxis.set_major_formatter(style.percent())
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        write_figure(figure, stem)
    write_csv(
        beside(stem, "csv"),
        ("dataset", "margin", "regime", "epsilon", "robust_accuracy"),
        (
            (dataset, margin, curve.regime, epsilon, accuracy)
            for curve in shown
            for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True)
        ),
    )


def _auc_figure(dataset: str, source: Path, stem: Path) -> None:
    areas = {key: curve.auc for key, curve in published.curves(dataset, source).items()}
    margins = [float(margin) for margin in published.MARGINS]
    with style.house():
        figure = Figure(figsize=(style.COLUMN, 3.0))
        axes = figure.subplots()
        for regime, look in style.REGIMES.items():
            axes.plot(
                margins,
                [areas[regime, margin] for margin in published.MARGINS],
                color=look.color,
                marker=look.marker,
                linestyle=look.dashes,
                label=look.label,
                markersize=4.5,
                markeredgecolor="white",
                markeredgewidth=0.4,
            )
        axes.set(
            xlim=(0.04, 0.33),
            ylim=(0.35, 0.75) if dataset == "cifar10" else (0.15, 0.45),
            xticks=margins,
            xticklabels=published.MARGINS,
            xlabel="margin $m$ of the hinge loss",
            ylabel=r"area $\int_0^1 \mathrm{acc}(\varepsilon)\,\mathrm{d}\varepsilon$",
            title=_TITLES[dataset],
        )
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        write_figure(figure, stem)
    write_csv(
        beside(stem, "csv"),
        ("dataset", "regime", "margin", "auc"),
        ((dataset, regime, margin, auc) for (regime, margin), auc in areas.items()),
    )


def _curves(dataset: str, margin: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    _curves_figure(dataset, margin, inputs["robustness"], stem)
    return []


def _areas(dataset: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    _auc_figure(dataset, inputs["robustness"], stem)
    ours = published.curves(dataset, inputs["robustness"])
    return [
        compare(
            f"AUC of {regime} on {dataset} at margin {margin}",
            area,
            ours[regime, margin].auc,
            published.AUC_TOLERANCE,
            "the trapezoid over the nine published accuracies gives another area",
        )
        for (regime, margin), area in published.printed_auc(dataset, inputs["auc"]).items()
    ]


def artefacts() -> Iterator[Artefact]:
    """The six robustness figures and the two of the area under the curves."""
    for dataset, title in _TITLES.items():
        for margin in published.MARGINS:
            yield Artefact(
                f"robustness-{dataset}-{margin}",
                "figure",
                f"Published robust accuracy on {title} at margin {margin} under the paper's "
                "ten-step L2 attack, first 1024 test images.",
                partial(_curves, dataset, margin),
                packaged={"robustness": published.ROBUSTNESS},
            )
        yield Artefact(
            f"auc-{dataset}",
            "figure",
            f"Area under the published robustness curves on {title} for the three margins.",
            partial(_areas, dataset),
            packaged={"robustness": published.ROBUSTNESS, "auc": published.AUC},
        )
