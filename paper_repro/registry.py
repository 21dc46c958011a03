"""Every figure and table of the paper by id, with what it is made from."""

from collections.abc import Iterator

from dsnn.errors import UserError
from paper_repro import alternation, regions, robustness
from paper_repro.artefact import Artefact

_STRUCTURED = {
    "sir-components": "The three components of the SIR flow map learned by a mass-preserving "
    "network, for ten initial conditions.",
    "sir-trajectory": "One SIR trajectory of a mass-preserving network and its total mass.",
    "regression-1d": "Regression of a scalar function by gradient and sphere-preserving steps.",
    "regression-2d": "Regression of the Euclidean norm in the plane, with its error.",
    "ode-field": "A vector field learned from one-step data, beside the true one.",
}


def _waiting() -> Iterator[Artefact]:
    for name, caption in _STRUCTURED.items():
        yield Artefact(name, "figure", caption, waits_for="training of the structured networks")


def registry() -> dict[str, Artefact]:
    """All artefacts, in the order of the paper."""
    groups = (
        regions.artefacts(), robustness.artefacts(), alternation.artefacts(), _waiting()
    )  # fmt: skip
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
