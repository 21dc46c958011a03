"""`python -m verification.checker CERTIFICATE [TARGET]`: exit code 0 when every verdict was
derived again, 1 when something in the certificate is wrong, 2 when it cannot be read, 3 when what
it holds was derived again but it names verdicts of the audit that it does not hold."""

import sys
from pathlib import Path

from verification.checker.reading import Unreadable, Wrong
from verification.checker.verdicts import check, compare, read


def run(certificate: str, target: str | None = None) -> int:
    """Check, say what was found in one line a verdict, and return the exit code."""
    try:
        path = Path(certificate)
        found = read(path)
        verdicts = check(found)
        said = None if target is None else compare(found, Path(target))
    except Wrong as wrong:
        print(f"{_line(certificate)}: wrong: {_line(wrong)}")
        return 1
    except Unreadable as error:
        print(f"dsnn: not a certificate that can be read: {_line(error)}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"dsnn: {_line(certificate)} needs more memory than there is", file=sys.stderr)
        return 2
    for verdict in verdicts:
        known = f"[{verdict.lower:.6g}, {verdict.upper:.6g}]"
        module = _line(verdict.module or "(network)")
        print(f"{verdict.verdict:8} {_line(verdict.claim)}  {module}  {known}  derived again")
    left = found.content["left_out"]
    for entry in left:
        module = _line(entry["module"] or "(network)")
        print(f"left out {_line(entry['claim'])}  {module}  {_line(entry['reason'])}")
    if left:
        count = len(left) + len(verdicts)
        print(f"{len(left)} of {count} verdicts of the audit were left out: not checked")
    if said is not None:
        print(said)
    return 3 if left else 0


def _line(text: object) -> str:
    """One printable line of what a file may hold."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:400]


def main() -> int:
    arguments = sys.argv[1:]
    if len(arguments) not in (1, 2):
        print("usage: python -m verification.checker CERTIFICATE [TARGET]", file=sys.stderr)
        return 2
    return run(*arguments)


if __name__ == "__main__":
    sys.exit(main())
