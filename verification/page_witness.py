"""Witnesses to look at: pictures of inputs that are images or feature maps, entries of all others.

A witness file holds a pair x and y, or a point x with the directions of a Jacobian.
"""

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from dsnn.errors import UserError
from verification.claims import limit
from verification.wording import above

ENTRIES = 12
"""The most entries of a vector that are shown."""
DIRECTIONS = 2
SMALLEST = 24
"""Pixels on a side below which a picture is shown with its pixels visible."""

Views = dict[str, np.ndarray]


def read(content: bytes, name: str) -> Views:
    """What a witness file holds, by the names it is shown under, in float64: x, y and y - x, or x
    and the first directions. Raises UserError if it cannot be read."""
    try:
        tensors = {k: v.astype(np.float64) for k, v in load(content).items()}
        x = tensors["x"]
        if "y" in tensors:
            return {"x": x, "y": tensors["y"], "y − x": tensors["y"] - x}
        directions = tensors.get("directions", np.zeros((0, *x.shape)))[:DIRECTIONS]
        return {"x": x} | {
            f"direction {k + 1}": d.reshape(x.shape) for k, d in enumerate(directions)
        }
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"cannot read the witness {name}: {error}; run the audit again") from error


def shown(audit: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Every witness of an audit, ready to be shown; the files are in `folder`.

    Raises UserError where one cannot be read.
    """
    found: list[dict[str, Any]] = []
    for entry in audit["claims"]:
        file = entry["evidence"].get("file")
        if file is None:
            continue
        try:
            content = (folder / file).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot read the witness {file}: {reason}; run the audit again"
            ) from error
        views = read(content, file)
        drawn = drawable(views["x"])
        what, pictures = draw(views) if drawn else ("", [])
        found.append(
            {
                "caption": caption(entry),
                "norms": norms(views),
                "shown": what,
                "pictures": pictures,
                "rows": [] if drawn else rows(views),
                "names": list(views),
                "entries": views["x"].size,
                "file": file,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    return found


def caption(entry: Mapping[str, Any]) -> str:
    """What a witness refutes, and by how much."""
    where = entry["module"] or "whole network"
    least = above(entry["bound"][0], limit(entry["claim"]))
    if entry["evidence"]["kind"] == "witness":
        return f"{where}, {entry['claim']}: at least {least} times further apart at the output."
    return f"{where}, {entry['claim']}: a defect of at least {least}."


def norms(views: Views) -> str:
    """The l2 norm of every view."""
    return ", ".join(f"|{name}| ≈ {np.linalg.norm(view):.3g}" for name, view in views.items())


def drawable(x: np.ndarray) -> bool:
    """Whether x is an image or a feature map, (C, H, W)."""
    return x.ndim == 3 and min(x.shape[1:]) >= 2


def draw(views: Views) -> tuple[str, list[dict[str, Any]]]:
    """What is shown of views (C, H, W), in words, and a picture of each, as a data URI.

    Three channels are shown in colour; of more, the one that differs most (whose direction is
    largest), in grey. x and y share one scale; other views are scaled to their own largest entry.
    """
    last = list(views.values())[-1]
    inputs = [view for name, view in views.items() if name in "xy"]
    channel = int(np.argmax(np.square(last).sum((1, 2))))
    where = f"channel {channel} of {len(last)}, where {list(views)[-1]} is largest"
    known = {1: ("the only channel", 0), 3: ("the three colours", slice(None))}
    what, pick = known.get(len(last), (where, channel))
    low, high = (bound([bound(v[pick]) for v in inputs]) for bound in (np.min, np.max))
    pictures = []
    for name, view in views.items():
        one = view[pick]
        reach = np.abs(one).max() or 1.0
        ends = (low, high) if name in "xy" else (-reach, reach)
        pictures.append(
            {
                "name": name,
                "image": _data_uri(_png(one, *ends, signed=name not in "xy")),
                "scale": f"{ends[0]:.3g} to {ends[1]:.3g}",
                "coarse": max(one.shape[-2:]) < 2 * SMALLEST,
            }
        )
    return what, pictures


def rows(views: Views) -> list[tuple[str, list[str]]]:
    """The entries in which the last view is largest, with their indices, in order."""
    size = np.abs(list(views.values())[-1]).flatten()
    found = []
    for flat in sorted(np.argsort(-size, kind="stable")[:ENTRIES]):
        index = np.unravel_index(flat, views["x"].shape)
        name = ", ".join(str(int(i)) for i in index)
        found.append((name, [f"{view[index]:.6g}" for view in views.values()]))
    return found


def in_words(views: Views) -> list[str]:
    """Lines for a terminal: norms, and the entries of `rows`."""
    shape, entries = "x".join(map(str, views["x"].shape)), rows(views)
    head = f"{len(entries)} of {views['x'].size} entries ({shape}): {', '.join(views)}"
    return [norms(views), head, *(f"  [{name}]  {'  '.join(values)}" for name, values in entries)]


def _png(view: np.ndarray, low: float, high: float, *, signed: bool) -> bytes:
    """(H, W) in grey, purple below and orange above 0 when signed; (3, H, W) in colour."""
    from matplotlib.image import imsave

    unit = np.clip((view - low) / ((high - low) or 1.0), 0, 1)
    image = unit.transpose(1, 2, 0) if view.ndim == 3 else unit
    content = io.BytesIO()
    colours = "PuOr_r" if signed else "gray"
    imsave(
        content, image, format="png", cmap=colours, vmin=0, vmax=1, metadata={"Software": "dsnn"}
    )
    return content.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
