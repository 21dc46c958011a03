"""The robustness figure of the paper's first version: a baseline beside prescribed switching."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from paper_repro import published, style
from paper_repro.artefact import Artefact, Comparison, not_run
from paper_repro.compared import PGD_TOLERANCE
from paper_repro.output import beside, write_csv, write_figure
from paper_repro.robustness import grid

_DRAWN = (0, 2, 3, 4, 5, 8)
"""Which of the nine sizes that version shows."""
_LABELS = {"unconstrained": "baseline", "switch-prescribed": "Lipschitz (prescribed switching)"}
_REASON = (
    "the baseline of the first version was trained three times 100 epochs, its weights are not "
    "published, and it is not retrained here"
)


def _make(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    baseline = published.curves("cifar10", inputs["first"])
    later = published.curves("cifar10", inputs["robustness"])
    shown = [
        curve
        for margin in published.MARGINS
        for curve in (baseline["unconstrained", margin], later["switch-prescribed", margin])
    ]
    with style.house():
        figure, panels = grid(len(published.MARGINS), "robust accuracy (%)")
        for axes, margin in zip(panels, published.MARGINS, strict=True):
            for curve in shown:
                if curve.margin == margin:
                    sizes, shares = (
                        [values[i] for i in _DRAWN] for values in (curve.epsilons, curve.accuracies)
                    )
                    look = style.REGIMES[curve.regime]
                    axes.plot(
                        sizes, shares, **look.line(label=_LABELS[curve.regime], clip_on=False)
                    )
            axes.set(
                xlim=(0, 1),
                xlabel=r"perturbation size $\varepsilon$ ($\ell_2$)",
                title=f"margin $m = {margin}$",
            )
        panels[0].set(ylim=(0, 1))
        panels[0].yaxis.set_major_formatter(style.percent())
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2)
        write_figure(figure, stem)
    write_csv(
        beside(stem, "csv"),
        ("network", "margin", "epsilon", "robust_accuracy", "drawn"),
        (
            (_LABELS[curve.regime], curve.margin, epsilon, accuracy, int(number in _DRAWN))
            for curve in shown
            for number, (epsilon, accuracy) in enumerate(
                zip(curve.epsilons, curve.accuracies, strict=True)
            )
        ),
    )
    return [
        not_run(f"version 1's baseline at margin {margin}, epsilon {epsilon:.4g}", accuracy,
                PGD_TOLERANCE, _REASON)
        for (_, margin), curve in baseline.items()
        for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True)
    ]  # fmt: skip


def artefacts() -> Iterator[Artefact]:
    yield Artefact(
        "robustness-v1",
        "figure",
        "Robust accuracy on CIFAR-10 as the paper's first version published it: a baseline beside "
        "its Lipschitz networks, which are those of prescribed switching in the later version.",
        _make,
        packaged={"first": published.VERSION_ONE, "robustness": published.ROBUSTNESS},
    )
