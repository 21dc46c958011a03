"""Every figure and table of the paper by id, the networks behind them, and the report."""

from collections.abc import Iterable, Mapping

from dsnn.errors import UserError
from paper_repro import (
    alternation,
    auc,
    networks,
    regions,
    report,
    robustness,
    robustness_table,
    structured_figures,
    structured_sir,
    version_one,
)
from paper_repro.artefact import Artefact


def registry(scale: str = "cpu") -> dict[str, Artefact]:
    """All artefacts of a scale: those of the paper in its order, the networks, the report."""
    groups = (
        regions.artefacts(),
        robustness.artefacts(),
        auc.artefacts(),
        robustness_table.artefacts(),
        version_one.artefacts(),
        alternation.artefacts(),
        structured_sir.artefacts(),
        structured_figures.artefacts(),
        networks.artefacts(scale),
        report.artefacts(),
    )
    return {artefact.id: artefact for group in groups for artefact in group}


GROUPS = {"figures": "figure", "tables": "table", "models": "model", "data": "data"}
"""What stands for all artefacts of a kind."""


def select(words: Iterable[str], known: Mapping[str, Artefact]) -> list[str]:
    """The ids that `words`, ids or groups, stand for; UserError on one that is neither."""
    found: list[str] = []
    for word in words:
        if word in GROUPS:
            found += [n for n, a in known.items() if a.kind == GROUPS[word] and a.in_all]
        elif word in known:
            found.append(word)
        else:
            raise UserError(
                f"no artefact {word!r}: `dsnn reproduce --status` lists all {len(known)} of them; "
                f"{', '.join(GROUPS)} stand for all of a kind"
            )
    return list(dict.fromkeys(found))
