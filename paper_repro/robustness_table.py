"""The robust accuracies as tables, the best of each row bold: as published, and by source ours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dsnn.files import write_text
from experiments.epsilons import AUTOATTACK
from paper_repro import published, style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.evaluated import NUMBERS, Evaluated, Point, evaluated
from paper_repro.models import Source
from paper_repro.output import beside, write_csv, write_figure
from paper_repro.robustness import TITLES, absent, by_source, heading, inputs_of, sources
from verification import markdown

SHORT = {
    "unconstrained": "U",
    "naive": "NC",
    "non-expansive": "NE",
    "switch-flexible": "SF",
    "switch-prescribed": "SP",
    "certified-non-expansive": "NE",
    "certified-smooth": "SM",
    "certified-switch": "S",
}
"""The columns' names, in the paper's order."""
AREA = "AUC"

Row = tuple[str, float | None]
"""What is counted and at which size: the paper's attack, `AREA`, AutoAttack, certified."""


@dataclass(frozen=True)
class Column:
    """One network: its values by row, accuracies as fractions."""

    head: str
    network: str
    regime: str
    values: Mapping[Row, float]


@dataclass(frozen=True)
class Group:
    """The networks of one source."""

    title: str
    columns: Sequence[Column]

    def best(self, row: Row) -> float | None:
        """The largest accuracy of a row, to be marked; None for areas, single networks and 0."""
        values = [column.values[row] for column in self.columns if row in column.values]
        return None if row[0] == AREA or len(values) < 2 else max(values) or None

    @property
    def width(self) -> float:
        """In inches; the title needs some."""
        return _WIDTH * max(2.6, len(self.columns))


def groups(dataset: str, margin: str, numbers: Path, found: Mapping[str, Evaluated]) -> list[Group]:
    """The published numbers, then the sources that are there."""
    curves = {
        c.regime: c for c in published.curves(dataset, numbers).values() if c.margin == margin
    }
    printed = [
        Column(head, "", regime, _curve(curves[regime]) | {(AREA, None): curves[regime].auc})
        for regime, head in SHORT.items()
        if regime in curves
    ]
    sizes = curves["unconstrained"].epsilons
    shown = {source: by_source(found, source) for source in Source}
    return [Group(NUMBERS, printed)] + [
        Group(
            heading(source, networks, dataset), [_column(one, sizes) for one in _sorted(networks)]
        )
        for source, networks in shown.items()
        if networks
    ]


def _sorted(networks: Sequence[Evaluated]) -> list[Evaluated]:
    order = list(SHORT)
    return sorted(networks, key=lambda one: (order.index(one.model.regime), one.model.seed))


def _column(one: Evaluated, sizes: tuple[float, ...]) -> Column:
    values = _curve(one.curve)
    if one.curve.epsilons == sizes:
        values[AREA, None] = one.curve.auc
    values |= {(_autoattack(one, p), p.epsilon): p.accuracy for p in one.autoattack}
    values |= {("certified", AUTOATTACK): one.shares[AUTOATTACK]}
    seed = str(one.model.seed) if one.model.source == Source.certified else ""
    return Column(SHORT[one.model.regime] + seed, one.model.id, one.model.regime, values)


def _autoattack(one: Evaluated, point: Point) -> str:
    """The name of its row, with the number of images where it saw fewer than its column is of:
    these are then shares of different images, and may stand in any order."""
    return "AutoAttack" if point.images == one.images else f"AutoAttack/{point.images}"


def _curve(curve: published.Curve) -> dict[Row, float]:
    return {
        ("PGD" if epsilon > 0 else "clean", epsilon): accuracy
        for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True)
    }


def rows_of(table: Sequence[Group]) -> list[Row]:
    """Every row that has a value: in the paper's order, then what the paper does not have."""
    known = {row for group in table for column in group.columns for row in column.values}
    order = ["clean", "PGD", AREA, "AutoAttack", "certified"]
    kinds = {row[0]: order.index(row[0].partition("/")[0]) for row in known}
    return sorted(known, key=lambda row: (kinds[row[0]], row[1] or 0.0, row[0]))


def _label(row: Row) -> str:
    what, epsilon = row
    size = "" if epsilon is None else f"{epsilon:.4f}"
    return size if what in ("clean", "PGD") else f"{what} {size}".strip()


def _cell(column: Column, row: Row) -> str:
    value = column.values.get(row)
    if value is None:
        return "–"
    return f"{value:.4f}" if row[0] == AREA else f"{100 * value:.2f}"


def _marked(group: Group, column: Column, row: Row) -> bool:
    return row in column.values and column.values[row] == group.best(row)


_LABELS, _WIDTH, _GAP, _HEIGHT = 1.05, 0.37, 0.12, 0.165
"""Inches: the column of labels, a column, the space between sources, and a row."""


def _draw(table: Sequence[Group], title: str, note: str, stem: Path) -> None:
    rows = rows_of(table)
    width = _LABELS + sum(group.width + _GAP for group in table)
    lines = len(rows) + 4.1 + 0.8 * bool(note)
    with style.house():
        figure = Figure(figsize=(width + 0.1, _HEIGHT * lines + 0.1))
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.05, width + 0.05), ylim=(lines + 0.1, -0.2))
        axes.axis("off")

        def rule(y: float, start: float, end: float, thick: float) -> None:
            axes.plot([start, end], [y, y], color=style.INK, linewidth=thick)

        def write(x: float, y: float, text: str, **how: Any) -> None:
            axes.text(x, y, text, **({"ha": "right", "va": "center", "fontsize": 7.5} | how))

        write(0, 0.5, title, ha="left", fontsize=9)
        rule(1.1, 0, width, 0.9)
        write(0, 3.25, r"size $\varepsilon$", ha="left")
        for y, row in enumerate(rows):
            write(0, y + 4.4, _label(row), ha="left")
        left = _LABELS
        for group in table:
            left += _GAP
            title, _, marks = group.title.partition(", ")
            write(left + group.width / 2, 1.6 if marks else 2, title, ha="center")
            write(left + group.width / 2, 2.3, marks, ha="center", fontsize=6.5)
            rule(2.75, left, left + group.width, 0.5)
            x = left + (group.width - _WIDTH * len(group.columns)) / 2 - 0.02
            for column in group.columns:
                x += _WIDTH
                write(x, 3.25, column.head)
                for y, row in enumerate(rows):
                    weight = "bold" if _marked(group, column, row) else "normal"
                    write(x, y + 4.4, _cell(column, row), fontweight=weight)
            left += group.width
        added = sum(row[0] not in ("clean", "PGD") for row in rows)
        for y, thick in ((3.8, 0.5), (3.85 + len(rows) - added, 0.5), (3.9 + len(rows), 0.9)):
            rule(y, 0, width, thick)
        if note:
            write(0, len(rows) + 4.4, note, ha="left", fontsize=7)
        write_figure(figure, stem)


def _markdown(table: Sequence[Group], title: str) -> str:
    parts = [f"# {title}"]
    for group in table:
        rows = []
        for row in rows_of([group]):
            cells = [_label(row)]
            for column in group.columns:
                text = _cell(column, row)
                cells.append(f"**{text}**" if _marked(group, column, row) else text)
            rows.append(cells)
        body = markdown.table(["size", *(column.head for column in group.columns)], rows)
        parts.append(f"## {group.title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def _csv(table: Sequence[Group]) -> Iterator[tuple[Any, ...]]:
    for group in table:
        for row in rows_of([group]):
            for column in group.columns:
                if row in column.values:
                    best = int(_marked(group, column, row))
                    what, epsilon = row
                    at = "" if epsilon is None else epsilon
                    names = group.title, column.regime, column.network
                    yield *names, what, at, column.values[row], best


def _make(dataset: str, margin: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    found = evaluated(inputs)
    table = groups(dataset, margin, inputs["robustness"], found)
    title = f"{TITLES[dataset]}, margin {margin}: robust accuracy (%)"
    _draw(table, title, absent(sources(dataset, found)), stem)
    write_text(beside(stem, "md"), _markdown(table, title))
    header = ("source", "regime", "network", "row", "epsilon", "value", "best")
    write_csv(beside(stem, "csv"), header, _csv(table))
    return []


def artefacts() -> Iterator[Artefact]:
    """One table a data set and margin."""
    for dataset, title in TITLES.items():
        for margin in published.MARGINS:
            yield Artefact(
                f"table-{dataset}-{margin}",
                "table",
                f"Robust accuracy (%) on {title} at margin {margin} of the unconstrained (U), "
                "naively constrained (NC), non-expansive (NE), flexible switching (SF) and "
                "prescribed switching (SP) networks; bold: the best of its source. Where "
                f"evaluated, AutoAttack and certified accuracy at {AUTOATTACK:.4f} (AutoAttack/N: "
                "of the first N images alone, and not of those of its column), and certified "
                "networks of ours by seed.",
                partial(_make, dataset, margin),
                suffixes=("pdf", "png", "csv", "md"),
                packaged={"robustness": published.ROBUSTNESS},
                evaluations=inputs_of(dataset, [margin]),
            )
