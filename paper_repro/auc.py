"""The area under the robustness curves against the margin of the loss."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from paper_repro import compared, published, style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.evaluated import NUMBERS, SOURCES, Evaluated, evaluated
from paper_repro.models import Source
from paper_repro.output import beside, write_csv, write_figure
from paper_repro.robustness import TITLES, absent, grid, heading, inputs_of, sources

_AREA = r"area $\int_0^1 \mathrm{acc}(\varepsilon)\,\mathrm{d}\varepsilon$"
Areas = dict[tuple[str, str], float]
"""By regime and margin."""


def _areas(shown: list[Evaluated], sizes: tuple[float, ...]) -> Areas:
    """Of the networks that the paper's attack met at all of its sizes."""
    return {
        (one.model.regime, one.model.margin): one.curve.auc
        for one in shown
        if one.curve.epsilons == sizes
    }


def _panel(axes: Axes, areas: Areas, title: str) -> None:
    for regime, look in style.REGIMES.items():
        margins = [margin for margin in published.MARGINS if (regime, margin) in areas]
        axes.plot(
            [float(margin) for margin in margins],
            [areas[regime, margin] for margin in margins],
            **look.line(markersize=4.5),
        )
    axes.set(
        xlim=(0.04, 0.33),
        xticks=[float(margin) for margin in published.MARGINS],
        xticklabels=published.MARGINS,
        xlabel="margin $m$ of the hinge loss",
        title=title,
    )


def _make(dataset: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    curves = published.curves(dataset, inputs["robustness"])
    sizes = next(iter(curves.values())).epsilons
    found = evaluated(inputs)
    known = sources(dataset, found)
    known.pop(Source.certified, None)
    areas = {source: _areas(shown, sizes) for source, shown in known.items()}
    drawn = {NUMBERS: {key: curve.auc for key, curve in curves.items()}}
    whole = {source: known[source] if areas[source] else [] for source in known}
    drawn |= {heading(source, whole[source], dataset): areas[source]
              for source in known if areas[source]}  # fmt: skip
    with style.house():
        figure, panels = grid(len(drawn), _AREA)
        for axes, (title, shown) in zip(panels, drawn.items(), strict=True):
            _panel(axes, shown, title.replace(", ", "\n"))
        panels[0].margins(y=0.08)
        figure.suptitle(TITLES[dataset], fontsize=9.5)
        columns = 2 if len(drawn) == 1 else 3
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns,
                      title=absent(whole), title_fontsize=7.5)  # fmt: skip
        write_figure(figure, stem)
    names = {NUMBERS: drawn[NUMBERS]} | {SOURCES[source]: areas[source] for source in areas}
    write_csv(
        beside(stem, "csv"),
        ("source", "dataset", "regime", "margin", "auc"),
        ((name, dataset, *key, area) for name, shown in names.items()
         for key, area in shown.items()),
    )  # fmt: skip
    return compared.areas(dataset, inputs, found)


def artefacts() -> Iterator[Artefact]:
    """One figure a data set."""
    for dataset, title in TITLES.items():
        yield Artefact(
            f"auc-{dataset}",
            "figure",
            f"Area under the robustness curves on {title} for the three margins, as published and "
            "as measured by us; networks attacked at fewer than the nine sizes have none.",
            partial(_make, dataset),
            packaged={"robustness": published.ROBUSTNESS, "auc": published.AUC},
            evaluations=tuple(
                name for name in inputs_of(dataset, published.MARGINS) if "certified" not in name
            ),
        )
