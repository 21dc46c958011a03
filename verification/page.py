"""The page of an audit: one HTML file made from its JSON, its witness files and its certificate.

The page asks nothing of the network, and runs no script: a policy in it forbids both. Whatever
comes from the target is escaped.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsnn.errors import UserError
from dsnn.files import write_text
from verification import page_again, page_budget, page_claims, page_witness

if TYPE_CHECKING:
    from jinja2 import Environment

    from theory import Theorem

NEEDED = ("jinja2", "matplotlib")


def require() -> None:
    """Raise UserError, before any long work, where a package that pages need is missing."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"a page needs {' and '.join(missing)}: pip install 'dsnn[report]'")


def write(
    file: Path,
    audit: Mapping[str, Any],
    folder: Path,
    *,
    command: str | None = None,
    certificate: Path | None = None,
) -> None:
    """Write the page of the Audit JSON `audit`, whose witnesses are in `folder`. `command` is the
    line that made it, `certificate` the file of its certificate.

    Raises UserError where a witness cannot be read or the page cannot be written.
    """
    write_text(file, build(audit, folder, command=command, certificate=certificate))


def build(
    audit: Mapping[str, Any],
    folder: Path,
    *,
    command: str | None = None,
    certificate: Path | None = None,
) -> str:
    """The page as text; as `write`."""
    claims = audit["claims"]
    return (
        environment("verification")
        .get_template("audit.html")
        .render(
            version=version("dsnn"),
            audit=audit,
            headline=page_claims.counted(claims, "this target") + ".",
            arithmetic=page_claims.arithmetic(audit),
            rows=page_claims.claim_rows(audit),
            budget=page_budget.sections(claims),
            theorems=_with_words(page_budget.theorems_used(claims)),
            witnesses=page_witness.shown(audit, folder),
            operators=page_claims.operator_rows(audit),
            again=page_again.steps(audit, command, certificate),
            left_out=page_again.left_out(certificate),
            certificate=certificate,
            about=_about(audit),
            environment=list(audit["environment"].items()),
        )
    )


def environment(*packages: str) -> "Environment":
    """Templates of the packages, those of this one last; everything rendered is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    names = dict.fromkeys((*packages, "verification"))
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in names]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _with_words(uses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Uses of theorems under their theorem, with its statement where the registry has it."""
    from theory import theorems

    known = theorems()
    names = dict.fromkeys(use["theorem"] for use in uses)
    return [
        {
            "id": name,
            "words": _words(name, known),
            "uses": [use for use in uses if use["theorem"] == name],
        }
        for name in names
    ]


def _words(name: str, known: Mapping[str, "Theorem"]) -> str:
    """The statement of a theorem, or of the only one whose id starts with this number."""
    found = [known[id] for id in known if id == name or id.startswith(f"{name}-")]
    return found[0].words if len(found) == 1 else ""


def _about(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else the report says of the target: hashes, the card of the weights, isolation."""
    shown = [("sha256 of the weights", audit["sha256"])]
    told = {"target", "sha256", "environment", "claims", "operators"}
    for name, value in audit.items():
        if name in told:
            continue
        label = "sha256 of the file" if name == "file_sha256" else name
        if isinstance(value, Mapping):
            shown += [(f"{label}: {key}", _plain(one)) for key, one in value.items()]
        else:
            shown.append((label, _plain(value)))
    return shown


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else str(value)
