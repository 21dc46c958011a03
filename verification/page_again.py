"""How to check an audit again: command lines and the lines that replay a witness."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verification.claims import limit
from verification.wording import above

if TYPE_CHECKING:
    from typer import Context


def command_line(context: "Context", name: str) -> str:
    """The command that is running, with its arguments and all options that were given, quoted."""
    words = ["dsnn", name]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value is False or value == parameter.get_default(context):
            continue
        option = parameter.opts[:1] if parameter.param_type_name == "option" else []
        for one in value if isinstance(value, list | tuple) else [value]:
            words += option if one is True else [*option, str(one)]
    return shlex.join(words)


def steps(
    audit: Mapping[str, Any], command: str | None, certificate: Path | None
) -> list[dict[str, str]]:
    """What to run, in words and as lines, and why it is a check."""
    found = []
    if command is not None:
        found.append({"words": "Run the audit again, here or elsewhere:", "lines": command})
    if certificate is not None:
        check = ["dsnn", "check", str(certificate)]
        target = [_file(audit)] if "file_sha256" in audit else []
        words = (
            "Derive every verdict of the certificate again, with code that shares nothing with "
            "the audit, and replay its witnesses:"
        )
        found.append({"words": words, "lines": shlex.join(check + target)})
    elif command is not None:
        words = (
            "No certificate was written. To have the Lipschitz bounds derived again by code that "
            "shares nothing with the audit, write one and check it:"
        )
        lines = f"{command} --certificate audit-certificate.json\ndsnn check audit-certificate.json"
        found.append({"words": words, "lines": lines})
    for entry in audit["claims"]:
        lines = replay(audit, entry)
        if lines is not None:
            words = f"Replay the witness against {entry['claim']}, in Python, beside its file:"
            found.append({"words": words, "lines": lines})
    return found


def _file(audit: Mapping[str, Any]) -> str:
    """Of the weights that were audited: the target, or where the zoo has it."""
    return str(audit.get("file", audit["target"]))


def left_out(certificate: Path | None) -> list[dict[str, str]]:
    """The verdicts that a certificate leaves out: claim, module and reason."""
    if certificate is None:
        return []
    return json.loads(certificate.read_text(encoding="utf-8"))["left_out"]


def replay(audit: Mapping[str, Any], entry: Mapping[str, Any]) -> str | None:
    """A program that prints the ratio of a pair; None without a pair, or without a weights file:
    a factory is somebody else's code, to be run in the sandbox alone."""
    evidence, card = entry["evidence"], audit.get("card")
    if evidence["kind"] != "witness" or "file" not in evidence or card is None:
        return None
    pixel = "lipschitz[pixel]" in entry["claim"]
    least = above(entry["bound"][0], limit(entry["claim"]))
    module = (
        f"PixelInput(net, {tuple(card['mean'])!r}, {tuple(card['std'])!r})"
        if pixel
        else f"net.get_submodule({entry['module']!r})"
    )
    return "\n".join(
        [
            "from dsnn.weights import load",
            "from verification import witness",
            *(["from verification.pixel_input import PixelInput"] if pixel else []),
            "",
            f"net = load({_file(audit)!r}, {card['arch']!r}).net",
            f"module = {module}",
            f"found = witness.load({evidence['file']!r})",
            f"print(witness.replay(module, found.x, found.y))  # >= {least}",
        ]
    )
