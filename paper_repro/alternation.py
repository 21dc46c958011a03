"""Step alternation: the learned times of every layer, laid end to end.

A layer's bar runs from t_{j-1} to t_j, t the running sum over all layers before it. The signed
times are what training clamps; the published code executes their absolute values, so both are
drawn. (The published plot adds the first block's total to the third block twice, notes on the
paper, section 8, number 17; here every bar starts where the one before it ends.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dsnn.models.cifar import CifarNet, Flow
from paper_repro import published, style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.output import beside, write_csv, write_figure

KINDS = {
    "non-expansive": ("contractive",),
    "switch-prescribed": ("expansive", "contractive"),
    "switch-flexible": ("contractive", "expansive"),
}
"""The fields a flow cycles through, by regime."""
EXPANSIVE_LIMIT = 0.05
"""The largest expansive step of the flexible regime's box [T10]."""

_LOOKS = {
    ("non-expansive", "contractive"): (style.CONTRACTIVE, r"$x-uA^\top\mathrm{ReLU}(Ax+b)$"),
    ("switch-prescribed", "expansive"): (style.EXPANSIVE, r"$x+u\,r\,\Sigma(A_ex+b_e)$"),
    ("switch-prescribed", "contractive"): (
        style.CONTRACTIVE,
        r"$x-uA_c^\top\Sigma(A_cx+b_c)$",
    ),
    ("switch-flexible", "contractive"): (style.CONTRACTIVE, r"$x-uA_c^\top\Sigma(A_cx+b_c)$"),
    ("switch-flexible", "expansive"): (style.EXPANSIVE, r"$x+uA^\top\mathrm{ReLU}(Ax+b)$"),
}


@dataclass(frozen=True)
class Layer:
    """One learned step: its layer (from 1) and stage, the time u, and where its bars run."""

    layer: int
    stage: int
    kind: str
    signed: float
    signed_span: tuple[float, float]
    executed: float
    executed_span: tuple[float, float]


_HEADER = (
    *("layer", "stage", "kind"),
    *("u_signed", "signed_start", "signed_end"),
    *("u_executed", "executed_start", "executed_end"),
)


def layers(net: CifarNet) -> list[Layer]:
    """The learned steps of `net` in the order in which an input meets them."""
    flows = [flow.signed_times() for flow in net.modules() if isinstance(flow, Flow)]
    stages = [number for number, flow in enumerate(flows) for _ in flow]
    kinds = [
        kind for flow in flows for kind, _ in zip(KINDS[net.arch] * len(flow), flow, strict=False)
    ]
    signed = [time for flow in flows for time in flow]
    executed = signed if net.signed_steps else [abs(time) for time in signed]
    return [
        Layer(index, stage, kind, u, u_span, h, h_span)
        for index, (stage, kind, u, u_span, h, h_span) in enumerate(
            zip(stages, kinds, signed, _spans(signed), executed, _spans(executed), strict=True), 1
        )
    ]


def _spans(times: list[float]) -> list[tuple[float, float]]:
    return list(pairwise(accumulate(times, initial=0.0)))


def _panel(axes: Axes, arch: str, rows: list[Layer], spans: list[tuple[float, float]]) -> None:
    for row, (start, end) in zip(rows, spans, strict=True):
        color, _ = _LOOKS[arch, row.kind]
        negative = row.signed < 0
        axes.barh(
            row.layer,
            end - start,
            left=start,
            height=0.62,
            color="white" if negative else color,
            edgecolor=color,
            linewidth=0.8,
            hatch="//////" if negative else None,
            zorder=2,
        )
        if row is not rows[-1]:
            axes.plot([end, end], [row.layer, row.layer + 1], color="#999999", lw=0.6, zorder=1)
    times = [start for start, _ in spans] + [spans[-1][1]]
    for before, after in pairwise(zip(rows, spans, strict=True)):
        if before[0].stage != after[0].stage:
            axes.axhline(after[0].layer - 0.5, color="#bbbbbb", linewidth=0.6, zorder=1)
    axes.plot(times[0], rows[0].layer, "o", color=style.INK, markersize=3.5, zorder=4)
    axes.plot(times[-1], rows[-1].layer, "D", color=style.INK, markersize=3.5, zorder=4)
    reach = max(times) - min(times) or 1.0
    axes.set_xlim(min(times) - 0.06 * reach, max(times) + 0.06 * reach)


def draw(net: CifarNet, title: str, stem: Path) -> list[Layer]:
    """Write the figure and the table of `net`'s steps; returns the rows of the table."""
    rows = layers(net)
    arch = net.arch
    signs_matter = any(row.executed != row.signed for row in rows)
    with style.house():
        figure = Figure(figsize=(style.PAGE if signs_matter else style.COLUMN, 2.9))
        panels = figure.subplots(1, 2, sharey=True) if signs_matter else [figure.subplots()]
        spans = [[row.signed_span for row in rows], [row.executed_span for row in rows]]
        names = [r"as learned, signed $u_j$", r"as executed, $|u_j|$"]
        labels = [r"$t_j=u_1+\cdots+u_j$", r"$t_j=|u_1|+\cdots+|u_j|$"]
        for axes, span, name, label in zip(panels, spans, names, labels, strict=False):
            _panel(axes, arch, rows, span)
            axes.set(xlabel=f"time {label}", title=name if signs_matter else title)
        panels[0].set(
            ylabel="layer $j$",
            ylim=(0.4, len(rows) + 0.6),
            yticks=[row.layer for row in rows],
        )
        for axes in panels:
            axes.grid(visible=False, axis="y")
        for stage in {row.stage for row in rows}:
            here = [row.layer for row in rows if row.stage == stage]
            panels[-1].text(
                1.02, sum(here) / len(here), f"stage {stage}", rotation=270, va="center",
                transform=panels[-1].get_yaxis_transform(), fontsize=8,
            )  # fmt: skip
        if signs_matter:
            figure.suptitle(title, fontsize=9)
        handles: list[Patch | Line2D] = [
            Patch(color=color, label=label)
            for (regime, _), (color, label) in _LOOKS.items()
            if regime == arch
        ]
        if signs_matter:
            ink, label = style.EXPANSIVE, "$u_j<0$"
            handles.append(Patch(facecolor="white", edgecolor=ink, hatch="//////", label=label))
        for marker, label in (("o", "start"), ("D", "end")):
            handles.append(
                Line2D([], [], color=style.INK, marker=marker, linestyle="none", label=label)
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=5 if signs_matter else 2)
        write_figure(figure, stem)
    table = [
        (r.layer, r.stage, r.kind, r.signed, *r.signed_span, r.executed, *r.executed_span)
        for r in rows
    ]
    write_csv(beside(stem, "csv"), _HEADER, table)
    return rows


def _make(regime: str, margin: str, inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    from dsnn.weights import load

    net = load(inputs["weights"], regime).net
    assert isinstance(net, CifarNet)
    label = style.REGIMES[regime].label
    rows = draw(net, f"{label}, CIFAR-10, margin $m = {margin}$", stem)
    if regime != "switch-flexible":
        return []
    second = [row for row in rows if row.kind == "expansive"]
    signed, executed = max(row.signed for row in second), max(row.executed for row in second)
    reason = _CLAMP if executed == signed else _ABSOLUTE
    limit = f"at most the box's, margin {margin}"
    return [
        _within_box(f"largest expansive step as learned, {limit}", signed, _CLAMP),
        _within_box(f"largest expansive step as executed, {limit}", executed, reason),
    ]


_CLAMP = (
    "the published weights were trained with the clamp 0.0548, admissible over the whole box, "
    "and not with the 0.05 of the published code"
)
_ABSOLUTE = (
    "the published code executes |u|: a step learned as negative, hence non-expansive, "
    "is executed as an expansion"
)


def _within_box(what: str, ours: float, reason: str) -> Comparison:
    """One-sided: agrees where the step is at most the limit of the paper's box [T10]."""
    holds = ours <= EXPANSIVE_LIMIT
    verdict = "agrees" if holds else "differs"
    return Comparison(what, EXPANSIVE_LIMIT, ours, None, verdict, "" if holds else reason)


def artefacts() -> Iterator[Artefact]:
    """One figure per regime with learned steps, margin and data set."""
    for regime in KINDS:
        for margin in published.MARGINS:
            caption = (
                f"Learned steps of the {style.REGIMES[regime].label} network on CIFAR-10 at "
                f"margin {margin}, from the published weights"
            )
            if regime == "switch-flexible":
                caption += ": signed as training clamps them, and |u| as the code executes them"
            yield Artefact(
                f"steps-{regime}-cifar10-{margin}",
                "figure",
                f"{caption}.",
                partial(_make, regime, margin),
                needs={
                    "weights": f"published/cifar10_{regime.replace('-', '_')}_{margin}.pt",
                },
            )
        for margin in published.MARGINS:
            yield Artefact(
                f"steps-{regime}-cifar100-{margin}",
                "figure",
                f"Learned steps of the {style.REGIMES[regime].label} network on CIFAR-100 at "
                f"margin {margin}; published: unavailable.",
                waits_for="training: the authors published no CIFAR-100 weights",
            )
