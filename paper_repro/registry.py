"""Every figure and table of the paper by id, with what it is made from."""

from dsnn.errors import UserError
from paper_repro import (
    alternation,
    auc,
    regions,
    robustness,
    robustness_table,
    structured_figures,
    structured_sir,
    version_one,
)
from paper_repro.artefact import Artefact


def registry() -> dict[str, Artefact]:
    """All artefacts, in the order of the paper."""
    groups = (
        regions.artefacts(),
        robustness.artefacts(),
        auc.artefacts(),
        robustness_table.artefacts(),
        version_one.artefacts(),
        alternation.artefacts(),
        structured_sir.artefacts(),
        structured_figures.artefacts(),
    )
    return {artefact.id: artefact for group in groups for artefact in group}


def select(ids: list[str]) -> list[Artefact]:
    """The artefacts named by `ids`, all for none; UserError on an id that is not there."""
    known = registry()
    for name in ids:
        if name not in known:
            raise UserError(
                f"no artefact {name!r}: `dsnn reproduce --status` lists all {len(known)} of them"
            )
    return [known[name] for name in dict.fromkeys(ids)] if ids else list(known.values())
