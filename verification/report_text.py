"""Reports for a terminal: why claims are not proved, and what all verdicts rest on."""

from typing import TYPE_CHECKING

from verification.page_budget import sections
from verification.page_claims import interval
from verification.page_witness import Views, in_words

if TYPE_CHECKING:
    from verification.verdicts import Report, Verdict


def failure(report: "Report") -> str:
    """The verdicts that are not `proved`, each with its witness."""
    lines = [f"not proved of {report.target}:"]
    for verdict in report.verdicts:
        if verdict.outcome != "proved":
            lines += [str(verdict), *(f"    {line}" for line in _witness(verdict))]
    return "\n".join(lines)


def full(report: "Report") -> str:
    """All verdicts, the factors of their constants, and the norms of the linear maps."""
    lines = [str(verdict) for verdict in report.verdicts]
    found = report.as_json()
    for section in sections(found["claims"]):
        lines += ["", f"{section['module']} <= {section['upper']}, the product of"]
        for row in section["rows"]:
            reason = row["measured"] or row["words"]
            lines.append(f"  {row['upper']:>9}  {row['module']}  {row['law']}  {reason}".rstrip())
    if found["operators"]:
        lines += ["", "linear maps: norm, smallest singular value, method"]
        for map in found["operators"]:
            ends = f"{interval(map['norm'])}  {interval(map['smallest'])}"
            lines.append(
                f"  {map['module'] or '(network)'}  {map['kind']}  {ends}  {map['method']}"
            )
    return "\n".join(lines)


def _witness(verdict: "Verdict") -> list[str]:
    if verdict.outcome != "refuted":
        return []
    views: Views = {}
    if verdict.pair is not None:
        x, y = (t.detach().double().numpy() for t in (verdict.pair.x, verdict.pair.y))
        views = {"x": x, "y": y, "y − x": y - x}
    elif verdict.point is not None:
        views = {"x": verdict.point.detach().double().numpy()}
    return in_words(views) if views else []
