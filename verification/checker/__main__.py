"""`python -m verification.checker CERTIFICATE [TARGET]`: exit code 0 when every verdict was
derived again, 1 when something in the certificate is wrong, 2 when it cannot be read, 3 when what
it holds was derived again but it names verdicts of the audit that it does not hold."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import LONGEST_NAME, Checked, check, compare, read


@dataclass(frozen=True)
class Outcome:
    """What a check came to: the verdicts that were derived again, the entries of those that were
    left out, what was found of the target, what is wrong, if anything is, and the file of tensors
    that was read."""

    certificate: str
    verdicts: list[Checked]
    left_out: list[dict[str, str]]
    target: str | None = None
    wrong: str | None = None
    tensors: Path | None = None

    @property
    def exit_code(self) -> int:
        return 1 if self.wrong is not None else 3 if self.left_out else 0

    @property
    def reasons(self) -> list[str]:
        """Why the certificate is not accepted; empty where it is."""
        if self.wrong is not None:
            return [f"wrong: {_line(self.wrong)}"]
        count = len(self.left_out)
        total = count + len(self.verdicts)
        text = f"{count} of {total} verdicts of the audit were left out: not checked"
        return [text] if count else []

    def as_json(self) -> dict[str, Any]:
        """As JSON holds it: an unknown end of an interval is null."""
        return {
            "certificate": self.certificate,
            "accepted": not self.reasons,
            "reasons": self.reasons,
            "target": self.target,
            "verdicts": [
                {
                    "claim": _line(v.claim),
                    "module": _line(v.module),
                    "verdict": v.verdict,
                    "bound": [end if math.isfinite(end) else None for end in (v.lower, v.upper)],
                }
                for v in self.verdicts
            ],
            "left_out": [
                {key: _line(entry[key]) for key in ("claim", "module", "reason")}
                for entry in self.left_out
            ],
        }


def examine(certificate: str, target: str | None = None) -> Outcome:
    """Check all of a certificate, and compare it with `target`. Raises Unreadable."""
    path, name = Path(certificate), _line(certificate)
    verdicts, left, said, tensors = [], [], None, None
    try:
        found = read(path)
        left = found.content["left_out"]
        tensors = path.with_name(found.content["tensors"]["file"])
        verdicts = check(found)
        said = None if target is None else _line(compare(found, Path(target)))
    except Wrong as wrong:
        return Outcome(name, verdicts, left, wrong=str(wrong), tensors=tensors)
    except MemoryError as error:
        raise Unreadable(f"{name} needs more memory than there is") from error
    return Outcome(name, verdicts, left, said, tensors=tensors)


def show(outcome: Outcome) -> None:
    """Print what was found, one line a verdict; of a wrong certificate, what is wrong."""
    if outcome.wrong is not None:
        _say(f"{outcome.certificate}: {outcome.reasons[0]}")
        return
    for verdict in outcome.verdicts:
        known = f"[{verdict.lower!r}, {verdict.upper!r}]"
        module = _name(verdict.module or "(network)")
        _say(f"{verdict.verdict:8} {_name(verdict.claim)}  {module}  {known}  derived again")
    for entry in outcome.left_out:
        module = _name(entry["module"] or "(network)")
        _say(f"left out {_name(entry['claim'])}  {module}  {_line(entry['reason'])}")
    for reason in outcome.reasons:
        _say(reason)
    if outcome.target is not None:
        _say(outcome.target)


def _say(text: str) -> None:
    """Print a line; what stdout cannot encode, escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def run(certificate: str, target: str | None = None, tell: Callable[[Outcome], None] = show) -> int:
    """Check, `tell` what was found, and return the exit code."""
    try:
        outcome = examine(certificate, target)
    except Unreadable as error:
        print(f"dsnn: not a certificate that can be read: {_line(error)}", file=sys.stderr)
        return 2
    tell(outcome)
    return outcome.exit_code


def _line(text: object) -> str:
    """One printable line of what a file may hold, all of it where it is a claim that is checked,
    or its module."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}..."


def _name(text: str) -> str:
    """A claim or a module as a line, in quotes where it is not plain: with spaces in it, it could
    look like another verdict."""
    line = _line(text)
    return line if re.fullmatch("[!-~]*", line) else repr(line)


def main() -> int:
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 2):
        print("usage: python -m verification.checker CERTIFICATE [TARGET]", file=sys.stderr)
        return 2
    return run(arguments[0], arguments[1] if len(arguments) > 1 else None)


if __name__ == "__main__":
    sys.exit(main())
