"""`dsnn theory list | show ID`: the registry as a mathematician reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsnn.options import Json

if TYPE_CHECKING:
    from theory import Theorem

app = typer.Typer(
    help="The registered theorems: statement, hypotheses, source, proof.",
    rich_markup_mode=None,
)


def _expression(expression: Any) -> str | None:
    return None if expression is None else str(expression)


def _summary(theorem: Theorem) -> dict[str, Any]:
    return {
        "constant": _expression(theorem.constant),
        "id": theorem.id,
        "source": theorem.source,
        "statement": theorem.statement,
        "status": theorem.status,
        "words": theorem.words,
    }


def _counterexamples(theorem: Theorem) -> dict[str, str | None]:
    """Minimal ones by hypothesis; empty without a strategy. Raises ImportError."""
    from verification.strategies.registered import strategy_of
    from verification.suite import drop

    strategy = strategy_of(theorem)
    if strategy is None or theorem.constant is None:
        return {}
    names = [h.name for h in theorem.hypotheses if h.name in strategy.without]
    return {name: drop(theorem, name).counterexamples[name] for name in names}


def _in_full(
    theorem: Theorem, steps: list[tuple[str, int]], minimal: dict[str, str | None]
) -> dict[str, Any]:
    from sympy import latex

    return {
        **_summary(theorem),
        "admissible": _expression(theorem.admissible),
        "forms": {name: str(form) for name, form in theorem.forms.items()},
        "hypotheses": [
            {
                "minimal": minimal.get(h.name),
                "name": h.name,
                "relation": str(h.relation),
                "words": h.words,
            }
            for h in theorem.hypotheses
        ],
        "latex": None if theorem.constant is None else latex(theorem.constant),
        "proof": [
            {
                "boxes": max(found, 0) if step.method == "interval" else None,
                "claim": step.claim,
                "holds": found > 0,
                "method": step.method,
            }
            for step, (_, found) in zip(theorem.proof, steps, strict=True)
        ],
        "sharp": theorem.sharp,
        "warning": theorem.warning,
    }


def _write(target: str, content: Any) -> bool:
    """Write the JSON; whether the terminal is still free for reading."""
    from dsnn.files import write_json

    write_json(target, content)
    return target != "-"


@app.command("list")
def list_theorems(json: Json = None) -> int:
    """All theorems, one a line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from verification.commands.registry import registered

    known = registered().values()
    if json is not None and not _write(json, {"theorems": [_summary(t) for t in known]}):
        return 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("theorem", "status", "in words"):
        table.add_column(heading, no_wrap=heading != "in words")
    for theorem in known:
        table.add_row(Text(theorem.id, style="bold"), theorem.status, Text(theorem.words))
    Console().print(table)
    return 0


@app.command("show")
def show_theorem(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `dsnn theory list` names it.")],
    json: Json = None,
) -> int:
    """One theorem in full; its proof steps are computed as they are printed."""
    from dsnn.errors import UserError
    from dsnn.files import check_outputs
    from verification.commands.registry import find

    theorem = find(id)
    check_outputs({"--json": json})
    try:
        from verification.suite import prove

        steps = list(prove(theorem).steps)
        minimal = _counterexamples(theorem)
    except ImportError as error:
        raise UserError(
            f"dsnn theory show {id} needs {error.name}: pip install 'dsnn[verify]'"
        ) from error
    found = [number for _, number in steps]
    holds = bool(found) and all(number > 0 for number in found)
    code = 1 if 0 in found else 0 if holds else 3
    if json is not None and not _write(json, _in_full(theorem, steps, minimal)):
        return code
    _print(theorem, steps, minimal)
    return code


def _drawn(expression: Any) -> str:
    """A formula in two dimensions (SymPy draws Max only as text)."""
    from sympy.printing.pretty.pretty import PrettyPrinter

    class Printer(PrettyPrinter):
        def _print_Max(self, maximum: Any) -> Any:
            return self._print_Function(maximum, func_name="max")

    return Printer({"wrap_line": False}).doprint(expression)  # in ASCII where stdout is


def _print(theorem: Theorem, steps: list[tuple[str, int]], minimal: dict[str, str | None]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from theory.theorem import OPEN

    console = Console()

    def heading(title: str) -> None:
        console.print()
        console.print(Text(title, style="bold"))

    def indented(content: Any) -> None:
        console.print(Padding(content, (0, 0, 0, 2)))

    def formula(expression: Any) -> None:
        for line in _drawn(expression).splitlines():
            console.print(Text(f"  {line.rstrip()}"), soft_wrap=True)

    def rows(pairs: list[tuple[str, str]]) -> None:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        for left, right in pairs:
            grid.add_row(Text(left, style="cyan"), Text(right))
        indented(grid)

    console.print(Text(theorem.id, style="bold"), Text(f"({theorem.status})"))
    indented(Text(theorem.words))
    heading("Statement")
    indented(Text(theorem.statement))
    if theorem.constant is not None:
        bound = "at most" if theorem.bound == "upper" else "at least"
        heading(f"{theorem.measures[0].upper()}{theorem.measures[1:]} {bound}")
        formula(theorem.constant)
    if theorem.admissible is not None:
        heading("At most 1 for")
        formula(theorem.admissible)
    heading("Hypotheses (claims of the law against facts of the field)")
    rows([(h.name, f"{h.words}\n{h.relation}") for h in theorem.hypotheses])
    for name, form in theorem.forms.items():
        heading(f"Form: {name}")
        formula(form)
    heading("Proof, computed now")
    marks = {0: "FAILS", OPEN: "open"}
    rows([(marks.get(found, "holds"), claim) for claim, found in steps])
    if minimal:
        heading("Without a hypothesis: minimal counterexamples, measured against the law")
        rows([(name, text or "none found") for name, text in minimal.items()])
    if theorem.sharp:
        heading("Sharp")
        indented(Text(theorem.sharp))
    heading("Source")
    indented(Text(theorem.source))
    if theorem.warning:
        heading("Warning")
        indented(Text(theorem.warning, style="red"))
