"""Witnesses as pictures: the two inputs of a refutation and what separates them."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dsnn.errors import UserError
from paper_repro import style
from paper_repro.output import write_figure


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The inputs x and y of a witness file, without batch dimension; UserError if unreadable."""
    try:
        tensors = load_file(path)
        x, y = (_single(tensors[name]) for name in ("x", "y"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"cannot read the witness {path}: {error}; run the audit again") from error
    return x, y


def _single(batch: np.ndarray) -> np.ndarray:
    """One example in float64: the first where there is a batch dimension."""
    value = batch.astype(np.float64)
    return value[0] if value.ndim == 4 else value


def drawable(x: np.ndarray) -> bool:
    """Whether x is an image or a feature map, (C, H, W)."""
    return x.ndim == 3


def draw(x: np.ndarray, y: np.ndarray, stem: Path) -> str:
    """Write `stem`.pdf and .png: x, y and y - x, each (C, H, W); returns what is shown, in words.

    Three channels are shown in colour, each triple stretched to the range of x; of more channels
    the one that differs most, in grey. The difference is scaled to its own largest entry.
    """
    difference = y - x
    if len(x) == 3:
        what = "the three colours"
        low, high = x.min(), x.max()
        span = high - low or 1.0
        views = [np.clip((v - low) / span, 0, 1).transpose(1, 2, 0) for v in (x, y)]
        reach = np.abs(difference).max() or 1.0
        views.append(np.clip(0.5 + difference / (2 * reach), 0, 1).transpose(1, 2, 0))
        maps: list[dict[str, object]] = [{}, {}, {}]
    else:
        channel = int(np.argmax(np.square(difference).sum((1, 2))))
        what = f"channel {channel} of {len(x)}, the one that differs most"
        views = [x[channel], y[channel], difference[channel]]
        low, high = min(v.min() for v in views[:2]), max(v.max() for v in views[:2])
        reach = float(np.abs(views[2]).max()) or 1.0
        grey = {"cmap": "gray", "vmin": low, "vmax": high}
        maps = [grey, grey, {"cmap": "PuOr", "vmin": -reach, "vmax": reach}]
    norm = float(np.linalg.norm(difference))
    titles = ["$x$", "$y$", rf"$y-x$, $\|y-x\|={norm:.3g}$"]
    with style.house():
        figure = Figure(figsize=(style.COLUMN * 1.4, 1.85))
        for axes, view, title, options in zip(
            figure.subplots(1, 3), views, titles, maps, strict=True
        ):
            axes.imshow(view, interpolation="nearest", **options)
            axes.set(title=title, xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
        write_figure(figure, stem)
    return what
