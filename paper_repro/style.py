"""House style of the figures: sizes, type, and one colour and marker per regime throughout.

Colours are Okabe and Ito's, told apart with every common form of colour vision deficiency;
markers and dashes say the same again for print in grey.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import rc_context, rcParams, ticker

COLUMN = 3.4
"""Width of a journal column in inches."""
PAGE = 6.9
"""Width of the text block in inches."""
DPI = 220

INK = "#222222"
REGION = "#56B4E9"
EXPANSIVE = "#D55E00"
CONTRACTIVE = "#0072B2"


@dataclass(frozen=True)
class Look:
    """How one regime is drawn."""

    label: str
    color: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]]

    def line(self, **changes: Any) -> dict[str, Any]:
        """What a line with marks takes to be drawn so, with `changes`."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "label": self.label,
            "markeredgecolor": "white",
            "markeredgewidth": 0.4,
            **changes,
        }


REGIMES = {
    "unconstrained": Look("unconstrained", "#000000", "o", (0, (1.2, 1.2))),
    "naive": Look("naively constrained", "#CC79A7", "s", (0, (4.5, 1.5))),
    "non-expansive": Look("non-expansive", "#009E73", "^", (0, (4.5, 1.2, 1.2, 1.2))),
    "switch-prescribed": Look("prescribed switching", "#0072B2", "D", (0, (2.5, 1.0))),
    "switch-flexible": Look("flexible switching", "#D55E00", "v", "-"),
}
CERTIFIED = {
    "certified-non-expansive": Look("certified, non-expansive", "#E69F00", "^", "-"),
    "certified-smooth": Look("certified, smooth", "#882255", "s", "-"),
    "certified-switch": Look("certified, switching", "#56B4E9", "D", "-"),
}
"""Networks of ours, 1-Lipschitz by construction."""
NETWORKS = REGIMES | CERTIFIED

FORMS = {
    "mass-preserving": Look("mass-preserving", "#0072B2", "D", "-"),
    "symplectic": Look("symplectic", "#0072B2", "D", "-"),
    "corrected": Look("corrected", "#0072B2", "D", "-"),
    "published": Look("as published", "#D55E00", "v", (0, (4.5, 1.5))),
    "unconstrained": Look("unconstrained", "#000000", "o", (0, (1.2, 1.2))),
}
"""The networks of the structured experiments, by their names in the kept results."""

_PARAMETERS: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "pdf.fonttype": 42,
    "savefig.dpi": DPI,
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@contextmanager
def house() -> Iterator[None]:
    """Draw and save inside this block: the reader's own matplotlib settings play no part."""
    with rc_context():
        matplotlib.rcdefaults()
        rcParams.update(_PARAMETERS)
        yield


def percent() -> ticker.Formatter:
    """Tick labels in percent, without the sign (the axis label carries it)."""
    return ticker.PercentFormatter(1.0, decimals=0, symbol=None)
