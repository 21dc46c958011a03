"""Figures of the appendix and beyond it: regression, learned fields, long horizons, orders."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from paper_repro import kept_results, style
from paper_repro.artefact import Artefact, Comparison
from paper_repro.kept_results import column, copied, groups, table
from paper_repro.output import beside, write_csv, write_figure

NETWORKS = ("published", "corrected", "unconstrained")


def _line(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    rows = table(inputs["curves"])
    x, true = column(rows, "x"), column(rows, "true")
    with style.house():
        figure = Figure(figsize=(style.PAGE, 2.6))
        left, right = figure.subplots(1, 2)
        left.plot(x, true, color="#999999", linewidth=3, label="exact")
        for name in NETWORKS:
            look, ours = style.FORMS[name], column(rows, name)
            left.plot(x, ours, color=look.color, linestyle=look.dashes, label=look.label)
            errors = [max(abs(a - b), 1e-6) for a, b in zip(ours, true, strict=True)]
            right.semilogy(x, errors, color=look.color, linestyle=look.dashes, linewidth=0.9)
        left.set(xlabel="$x$", ylabel=r"$|x|+\sin x+x^2$")
        right.set(xlabel="$x$", ylabel="absolute error", ylim=(1e-5, None))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        write_figure(figure, stem)
    copied(stem, rows)
    return []


def _plane(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    rows = table(inputs["curves"])
    side = math.isqrt(len(rows))
    x1, x2, true, *ours = (
        np.array(column(rows, name)).reshape(side, side) for name in ("x1", "x2", "true", *NETWORKS)
    )
    with style.house():
        figure = Figure(figsize=(style.PAGE, 2.1))
        axes = figure.subplots(1, 4, sharey=True)
        shape = axes[0].contourf(x1, x2, ours[1], levels=12, cmap="cividis")
        axes[0].contour(x1, x2, true, levels=shape.levels, colors="white", linewidths=0.5)
        axes[0].set(title="corrected (white: exact)", ylabel="$x_2$")
        norm = LogNorm(1e-4, 1e-1)
        scale = ScalarMappable(norm, "magma_r")
        for place, name, found in zip(axes[1:], NETWORKS, ours, strict=True):
            errors = np.clip(np.abs(found - true), norm.vmin, norm.vmax)
            place.pcolormesh(x1, x2, errors, norm=norm, cmap=scale.cmap, rasterized=True)
            place.set(title=f"error, {style.FORMS[name].label}")
        for place in axes:
            place.set(xlabel="$x_1$", aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
            place.grid(visible=False)
        figure.colorbar(scale, ax=axes[1:], shrink=0.85, pad=0.015, label="absolute error")
        write_figure(figure, stem)
    copied(stem, rows)
    return []


def _field(axes: Sequence[str], inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    rows = table(inputs["curves"])
    x1, x2 = column(rows, "x1"), column(rows, "x2")
    with style.house():
        figure = Figure(figsize=(style.PAGE, 2.65))
        for place, name in zip(figure.subplots(1, 3, sharey=True), NETWORKS, strict=True):
            longest = max(math.hypot(*v) for v in _vectors(rows, "true"))
            for which, color, width in (
                ("true", "#222222", 0.011), (name, _arrow(name), 0.005)
            ):  # fmt: skip
                u, v = zip(*_vectors(rows, which), strict=True)
                place.quiver(
                    x1, x2, u, v, color=color, width=width, scale=longest * 5.5,
                    scale_units="width", pivot="tail", zorder=3,
                )  # fmt: skip
            kept = kept_results.row(inputs["numbers"], network=name)
            error = kept["error of the field, relative"]["values"][0]  # of the one drawn
            place.set(
                title=f"{style.FORMS[name].label}: error {100 * error:.3g} %",
                xlabel=axes[0], aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25),
                xticks=[-1, 0, 1], yticks=[-1, 0, 1],
            )  # fmt: skip
        figure.axes[0].set(ylabel=axes[1])
        write_figure(figure, stem)
    copied(stem, rows)
    return []


def _arrow(name: str) -> str:
    """Bright, on top of the dark arrow of the true field."""
    return {"published": "#E69F00", "corrected": "#56B4E9", "unconstrained": "#CC79A7"}[name]


def _vectors(rows: kept_results.Rows, name: str) -> list[tuple[float, float]]:
    return list(zip(column(rows, f"{name} v1"), column(rows, f"{name} v2"), strict=True))


_PANELS = {"pendulum": "pendulum", "henon-heiles": "Hénon-Heiles"}


def _energy(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    drawn = []
    with style.house():
        figure = Figure(figsize=(style.PAGE, 2.6))
        for axes, (name, title) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
            rows = [row for row in table(inputs[name]) if int(row["step"]) > 0]
            steps, seen = column(rows, "step"), set()
            for key in list(rows[0])[1:]:
                kind, _, seed = key.rpartition(" ")
                look, drift = style.FORMS[kind], [max(v, 1e-9) for v in column(rows, key)]
                axes.loglog(
                    steps, drift, color=look.color, linestyle=look.dashes, linewidth=0.9,
                    label=None if kind in seen else look.label,
                )  # fmt: skip
                seen.add(kind)
                drawn += [(name, kind, seed, s, d) for s, d in zip(steps, drift, strict=True)]
            axes.set(xlabel="steps of 0.1", title=title)
        figure.axes[0].set(ylabel="drift of the true energy")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
        )
        write_figure(figure, stem)
    write_csv(beside(stem, "csv"), ("problem", "network", "seed", "step", "drift"), drawn)
    return []


_WAYS = {
    "Lie-Trotter, T2": ("#D55E00", "s"),
    "Strang, T2": ("#0072B2", "D"),
    "Hamiltonian lift, T3": ("#009E73", "^"),
}


def _orders(inputs: Mapping[str, Path], stem: Path) -> list[Comparison]:
    rows = [row for row in table(inputs["curves"]) if row["way"] in _WAYS]
    steps = sorted({float(row["steps"]) for row in rows})
    targets = groups(rows, "target")
    with style.house():
        figure = Figure(figsize=(style.PAGE, 2.9))
        places = figure.subplots(1, len(targets))
        for axes, (target, points) in zip(places, targets.items(), strict=True):
            for way, found in groups(points, "way").items():
                color, marker = _WAYS[way]
                errors, bounds = column(found, "error"), column(found, "bound")
                axes.loglog(steps, errors, marker, linestyle="-", color=color, label=way)
                axes.loglog(steps, bounds, color=color, linestyle=(0, (1.2, 1.2)))
                order = kept_results.row(inputs["numbers"], target=target, way=way)
                axes.annotate(
                    f"{order['measured order']:.2f}", (steps[-1], errors[-1]),
                    textcoords="offset points", xytext=(6, -3), color=color, fontsize=8,
                )  # fmt: skip
            axes.set(xlabel="steps $N$ (step size $1/N$)", title=f"{target} (right: orders)")
            axes.set_xticks(steps, [f"{n:.0f}" for n in steps])
            axes.minorticks_off()
        figure.axes[0].set(ylabel="distance (dots: proved bound)")
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3)
        write_figure(figure, stem)
    copied(stem, rows)
    return []


def artefacts() -> Iterator[Artefact]:
    """The figures of the appendix, then those the paper does not have."""

    def made(name, caption, make, *experiments, **tables) -> Artefact:
        packaged = kept_results.files(*experiments, tables=tables)
        if len(experiments) == 1:
            packaged["numbers"] = packaged.pop(experiments[0])
        return Artefact(name, "figure", caption, make, packaged=packaged)

    yield made(
        "regression-1d",
        "Regression of a scalar function by gradient and sphere-preserving steps, as published "
        "and corrected, beside an unconstrained network.",
        _line, "regression-1d", curves="regression-1d-curves",
    )  # fmt: skip
    yield made(
        "regression-2d",
        "Regression of the Euclidean norm in the plane, with its error.",
        _plane, "regression-2d", curves="regression-2d-curves",
    )  # fmt: skip
    yield made(
        "ode-field",
        "A vector field learned from one-step data, beside the true one (black): sin³x + x³ in "
        "four dimensions, on the plane of the first two. Errors are of the networks drawn, of the "
        "first seed, over states of the whole cube.",
        partial(_field, ("$x_1$", "$x_2$")), "ode-cubic", curves="ode-cubic-curves",
    )  # fmt: skip
    yield made(
        "ode-field-pendulum",
        "The field of the pendulum learned from one-step data, beside the true one (black): its "
        "sphere-preserving part is not zero. Errors are of the networks drawn, of the first seed.",
        partial(_field, ("$q$", "$p$")), "ode-pendulum", curves="ode-pendulum-curves",
    )  # fmt: skip
    yield made(
        "hamiltonian-drift",
        "Drift of the true energy along 10,000 learned steps, the largest over eight trajectories; "
        "one line a seed.",
        _energy, "hamiltonian-pendulum", "hamiltonian-henon-heiles",
        **{name: f"hamiltonian-{name}-curves" for name in _PANELS},
    )  # fmt: skip
    yield made(
        "approximation-order",
        "Distance of structured flows from two maps, with proved bounds: T2 by splittings, T3 by "
        "symplectic steps of lifted fields.",
        _orders, "approximation", curves="approximation-curves",
    )  # fmt: skip
