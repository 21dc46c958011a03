"""Contractivity regions: the steps (h_1, h_2) for which a block is 1-Lipschitz by [T9] or [T10].

Drawn are the paper's laws for orthogonal operators and slopes in [1/2, 1], each as the closed
form of its boundary; the region is what lies below.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sympy import Basic, Rational, integrate

from paper_repro import style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.output import beside, write_csv, write_figure
from theory.compile import compiled
from theory.facts import S, a, h_1, h_2
from theory.projections import BOX
from theory.switching import flexible_boundary, switching

_POINTS = 401


@dataclass(frozen=True)
class Region:
    """The part of [0, width] x [0, 1] where h_2 is at most `boundary`(h_1), drawn up to `height`.

    `law` is the inequality in LaTeX, `peak` where the boundary is largest.
    """

    id: str
    caption: str
    law: str
    boundary: Basic
    width: int
    peak: float
    height: float = 1.0
    box: bool = False

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of the boundary, h_1 ascending over the whole width."""
        steps = np.linspace(0, self.width, _POINTS)
        return steps, np.maximum(compiled(self.boundary)(h_1=steps), 0.0)

    def area(self) -> float:
        """The region's share of [0, width] x [0, 1], by the antiderivative of the boundary."""
        return float(integrate(self.boundary, (h_1, 0, self.width)) / self.width)

    def summit(self) -> float:
        """The largest h_2, at h_1 = peak."""
        return float(compiled(self.boundary, "math")(h_1=self.peak))


def _prescribed(substeps: int) -> Region:
    boundary = switching.forms["boundary"].subs({a: Rational(1, 2), S: substeps})
    counts = {1: "one alternation", 2: "two alternations"}
    laws = {
        1: r"$\sqrt{1-h_1+h_1^2}\,(1+h_2)\leq 1$",
        2: r"$\sqrt{1-\frac{h_1}{2}+\frac{h_1^2}{4}}\,\left(1+\frac{h_2}{2}\right)\leq 1$",
    }
    return Region(
        f"contractivity-s{substeps}",
        f"Steps for which {counts[substeps]} of an expansive and a contractive Euler step together "
        "do not expand: 1-Lipschitz by T9, orthogonal weights, a = 1/2.",
        laws[substeps],
        boundary,
        1,
        substeps / 2,
    )


def regions() -> list[Region]:
    """The four figures of the paper."""
    half_step = Region(
        "contractivity-half-step",
        "Steps for which two contractive half steps and one expansive step together do not "
        "expand: 1-Lipschitz by T10, orthogonal weights, a = 1/2.",
        r"$\left(1-\frac{h_1}{2}+\frac{h_1^2}{4}\right)(1+h_2)\leq 1$",
        flexible_boundary,
        2,
        1.0,
    )
    boxed = replace(
        half_step,
        id="contractivity-rectangle",
        caption="The region of T10 with the inscribed rectangle [0.11, 1.89] x [0, 0.05] that "
        "training projects the steps onto.",
        height=0.42,
        box=True,
    )
    return [_prescribed(1), _prescribed(2), half_step, boxed]


def draw(region: Region, stem: Path) -> None:
    """Write the figure of `region` and the table of its boundary."""
    steps, boundary = region.curve()
    peak, summit = region.peak, region.summit()
    with style.house():
        figure = Figure(figsize=(style.COLUMN, 2.75))
        axes = figure.subplots()
        axes.fill_between(steps, boundary, color=style.REGION, alpha=0.45, linewidth=0, zorder=2)
        axes.plot(steps, boundary, color=style.CONTRACTIVE, zorder=3, clip_on=False)
        axes.plot(peak, summit, "o", color=style.CONTRACTIVE, zorder=4, clip_on=False)
        right_edge = peak == region.width
        axes.annotate(
            rf"$\max\,h_2={summit:.4f}$",
            (peak, summit),
            textcoords="offset points",
            xytext=(-4, 7) if right_edge else (0, 7),
            ha="right" if right_edge else "center",
        )
        if region.box:
            (left, right), (_, top) = (map(float, BOX[step]) for step in (h_1, h_2))
            axes.add_patch(
                Rectangle(
                    (left, 0), right - left, top, fill=False, edgecolor=style.EXPANSIVE,
                    linewidth=1.4, zorder=4, clip_on=False,
                )
            )  # fmt: skip
            axes.annotate(
                rf"$[{left:g},{right:g}]\times[0,{top:g}]$",
                ((left + right) / 2, top),
                textcoords="offset points",
                xytext=(0, 4),
                ha="center",
                color=style.EXPANSIVE,
            )
        axes.set(
            xlim=(0, region.width),
            ylim=(0, region.height),
            xticks=np.linspace(0, region.width, 5 if region.width > 1 else 6),
            xlabel=r"contractive step $h_1$",
            ylabel=r"expansive step $h_2$",
            title=region.law,
        )
        axes.text(peak / 2 if right_edge else peak, 0.35 * summit, "1-Lipschitz", ha="center")
        if not region.box:
            axes.text(
                0.97, 0.95, rf"{100 * region.area():.2f} % of $[0,{region.width}]\times[0,1]$",
                transform=axes.transAxes, ha="right", va="top",
            )  # fmt: skip
        write_figure(figure, stem)
    write_csv(
        beside(stem, "csv"),
        ("h_1", "h_2_boundary"),
        zip(steps.tolist(), boundary.tolist(), strict=True),
    )


def _make(region: Region, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    draw(region, stem)
    return [_box_inside()] if region.box else []


def _box_inside() -> Comparison:
    """One-sided: agrees where the paper's limit on h_2 is at most the boundary over the box."""
    (left, right), (_, top) = BOX[h_1], BOX[h_2]
    edge = min(flexible_boundary.subs(h_1, left), flexible_boundary.subs(h_1, right))
    inside = bool(top <= edge)
    return Comparison(
        "expansive limit of the box, at most the boundary at h_1 = 0.11 and 1.89",
        float(top),
        float(edge),
        None,
        "agrees" if inside else "differs",
        "" if inside else "the rectangle reaches beyond the region",
    )


def artefacts() -> Iterator[Artefact]:
    """The four contractivity figures."""
    for region in regions():
        yield Artefact(region.id, "figure", region.caption, partial(_make, region))
