"""Figures that need no training: their tables against theory and the published numbers, their
bytes against themselves."""

import csv
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from matplotlib import rcParams

from dsnn.models import build
from dsnn.weights import load
from paper_repro import alternation, evaluated, published, regions, registry, style
from paper_repro.artefact import Artefact
from theory import theorems
from theory.compile import compiled

DRAWABLE = [
    a
    for a in registry.registry().values()
    if a.make and a.kind in ("figure", "table") and not (a.needs or a.waits_for)
]


def _make(artefact: Artefact, folder: Path) -> list[dict[str, str]]:
    """Make `artefact` in `folder` and return the rows of its table."""
    assert artefact.make is not None
    artefact.make(artefact.packaged, folder / artefact.id)
    return _rows(folder / f"{artefact.id}.csv")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("artefact", DRAWABLE, ids=lambda artefact: artefact.id)
def test_figure_exists_in_three_forms_with_the_same_bytes_twice(
    artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _make(artefact, tmp_path / "once"), "the table has rows"
    monkeypatch.setitem(rcParams, "font.size", 20)  # the reader's own settings play no part
    _make(artefact, tmp_path / "twice")
    for suffix, magic in (("pdf", b"%PDF"), ("png", b"\x89PNG"), ("csv", b"")):
        once = (tmp_path / "once" / f"{artefact.id}.{suffix}").read_bytes()
        assert once.startswith(magic)
        assert once == (tmp_path / "twice" / f"{artefact.id}.{suffix}").read_bytes()
        assert b"CreationDate" not in once


LAWS = {
    "contractivity-s1": ("T9-switching", {"a": 0.5, "S": 1}),
    "contractivity-s2": ("T9-switching", {"a": 0.5, "S": 2}),
    "contractivity-half-step": ("T10-flexible-switching", {}),
    "contractivity-rectangle": ("T10-flexible-switching", {}),
}


def _paper_law(region: str, h_1: float, h_2: float) -> float:
    """Left side of the paper's inequality, from the law's own formula and not the boundary."""
    name, values = LAWS[region]
    law = theorems()[name].forms["paper"]
    return compiled(law, "math")(h_1=h_1, h_2=h_2, **values)


@pytest.mark.parametrize("region", regions.regions(), ids=lambda region: region.id)
def test_boundary_is_where_the_law_reaches_one(region: regions.Region) -> None:
    steps, boundary = region.curve()
    for h_1, h_2 in list(zip(steps.tolist(), boundary.tolist(), strict=True))[20:-20:40]:
        assert _paper_law(region.id, h_1, 0.999 * h_2) < 1
        assert _paper_law(region.id, h_1, 1.001 * h_2) > 1


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("contractivity-s1", math.log(3) - 1),
        ("contractivity-s2", 2 * math.log(3) - 2),
        ("contractivity-half-step", 2 * math.pi / (3 * math.sqrt(3)) - 1),
    ],
)
def test_area_is_the_closed_form_and_the_sum_over_the_table(
    name: str, area: float, tmp_path: Path
) -> None:
    region = next(r for r in regions.regions() if r.id == name)
    assert region.area() == pytest.approx(area, abs=1e-12)
    regions.draw(region, tmp_path / name)
    points = [(float(r["h_1"]), float(r["h_2_boundary"])) for r in _rows(tmp_path / f"{name}.csv")]
    trapezoid = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(points))
    assert trapezoid / region.width == pytest.approx(area, abs=1e-5)
    assert trapezoid / region.width <= area, "chords of a concave curve lie below it"


def test_rectangle_lies_inside_the_region() -> None:
    for h_1 in (0.11, 0.5, 1.0, 1.5, 1.89):
        assert _paper_law("contractivity-rectangle", h_1, 0.05) < 1
    assert _paper_law("contractivity-rectangle", 1.9, 0.05) > 1, "the published clamp of CIFAR-100"


@pytest.mark.parametrize("dataset", published.DATASETS)
@pytest.mark.parametrize("margin", published.MARGINS)
def test_robustness_table_holds_the_published_counts(
    dataset: str, margin: str, tmp_path: Path
) -> None:
    rows = _make(registry.registry()[f"robustness-{dataset}-{margin}"], tmp_path)
    with published.ROBUSTNESS.open(newline="") as lines:
        source = [
            (r["regime"], int(r["correct_of_1024"]))
            for r in csv.DictReader(lines)
            if (r["dataset"], r["margin"]) == (dataset, margin)
        ]
    assert {row["source"] for row in rows} == {evaluated.NUMBERS}, "nothing else is given here"
    ours = [(row["regime"], float(row["robust_accuracy"]) * 1024) for row in rows]
    assert len(source) == 45
    assert sorted(ours) == sorted(source)


@pytest.mark.parametrize("dataset", published.DATASETS)
def test_areas_round_to_the_published_ones(dataset: str, tmp_path: Path) -> None:
    rows = _make(registry.registry()[f"auc-{dataset}"], tmp_path)
    ours = {(row["regime"], row["margin"]): round(float(row["auc"]), 4) for row in rows}
    assert ours == published.printed_auc(dataset)
    assert len(ours) == 15


def test_every_published_curve_falls_and_is_a_count_of_1024() -> None:
    for dataset in published.DATASETS:
        for curve in published.curves(dataset).values():
            assert all(p >= q for p, q in pairwise(curve.accuracies))
            assert all((1024 * p).is_integer() for p in curve.accuracies)


def _steps(net, times: list[list[float]]) -> list[alternation.Layer]:
    with torch.no_grad():
        for stage, values in zip(net.stages, times, strict=True):
            flat = iter(values)
            for step in stage.flow:
                step.u.copy_(torch.tensor([next(flat) for _ in step.u]))
    return alternation.layers(net)


TIMES = [[0.5, -0.25, 1.0, 0.03125], [0.25, 0.0, 0.5, -1.5], [1.5, -0.125, 0.75, 0.0]]


@pytest.mark.parametrize("signed_steps", [True, False])
def test_bars_lie_end_to_end_over_all_stages(signed_steps: bool) -> None:
    """The published plot shifts the third stage by the first one's total: here nothing is."""
    net = build("switch-flexible", channels=(2, 2, 2), signed_steps=signed_steps)
    rows = _steps(net, TIMES)
    flat = [time for stage in TIMES for time in stage]
    assert [row.layer for row in rows] == list(range(1, 13))
    assert [row.stage for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row.kind for row in rows] == ["contractive", "expansive"] * 6
    assert [row.signed for row in rows] == flat
    assert [row.executed for row in rows] == (flat if signed_steps else list(map(abs, flat)))
    for spans, times in (
        ([row.signed_span for row in rows], flat),
        ([row.executed_span for row in rows], [row.executed for row in rows]),
    ):
        assert spans[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(spans))
        assert spans[-1][1] == pytest.approx(sum(times), abs=1e-12)
        assert [end - start for start, end in spans] == pytest.approx(times, abs=1e-12)


def test_prescribed_flows_expand_before_they_contract() -> None:
    rows = alternation.layers(build("switch-prescribed", channels=(2, 2, 2)))
    assert [row.kind for row in rows] == ["expansive", "contractive"] * 6


def test_published_steps_are_drawn_from_the_weights(data_folder: Path, tmp_path: Path) -> None:
    artefact = registry.registry()["steps-switch-flexible-cifar10-0.15"]
    inputs = {name: data_folder / path for name, path in artefact.uses.items()}
    assert artefact.make is not None
    compared = artefact.make(inputs, tmp_path / artefact.id)
    rows = _rows(tmp_path / f"{artefact.id}.csv")
    net = load(inputs["weights"], "switch-flexible").net
    times = [u for flow in (stage.flow for stage in net.stages) for u in flow.signed_times()]  # type: ignore[union-attr]
    assert [float(row["u_signed"]) for row in rows] == times
    assert [float(row["u_executed"]) for row in rows] == [abs(u) for u in times]
    assert min(times) < 0, "a step learned as negative is what the figure is about"
    assert [c.verdict for c in compared] == ["agrees", "differs"]
    assert all(c.reason for c in compared if c.verdict == "differs")


def test_regimes_are_told_apart_by_colour_marker_and_dashes() -> None:
    looks = style.REGIMES.values()
    for feature in ("color", "marker", "dashes", "label"):
        assert len({str(getattr(look, feature)) for look in looks}) == len(style.REGIMES)
    assert len({look.color for look in style.NETWORKS.values()}) == len(style.NETWORKS)


def test_published_plot_counts_the_first_stage_twice() -> None:
    net = build("switch-flexible", channels=(2, 2, 2), signed_steps=False)
    rows = _steps(net, TIMES)
    ours, theirs = [row.signed_span for row in rows], alternation.published_spans(rows)
    twice = sum(TIMES[0])
    assert theirs[:8] == ours[:8]
    assert theirs[8] == (ours[8][0], ours[8][1] + twice), "a bar too long by the first stage"
    assert theirs[9:] == [(start + twice, end + twice) for start, end in ours[9:]]


def test_captions_of_steps_speak_of_bars_that_are_drawn() -> None:
    """The published plot is outlined beside the published weights, of CIFAR-10 alone."""
    outlined = {name for name, a in registry.registry().items() if "(outlined" in a.caption}
    margins = published.MARGINS
    assert outlined == {f"steps-switch-flexible-cifar10-{margin}" for margin in margins}


def test_baseline_of_the_first_version_is_as_printed(tmp_path: Path) -> None:
    rows = _make(registry.registry()["robustness-v1"], tmp_path)
    shares = {(row["network"], row["margin"], row["epsilon"]): row for row in rows}
    assert len(rows) == len(shares) == 2 * 3 * 9
    assert round(float(shares["baseline", "0.07", "0.5"]["robust_accuracy"]), 4) == 0.4609
    assert sum(row["drawn"] == "1" for row in rows) == 2 * 3 * 6
