"""docs/theorems.md from the registry: `python -m verification.theory_page` computes and writes it.

Beside it goes docs/theorems.svg, on which the instances that attain a law are drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sympy import latex
from sympy.core.alphabets import greeks

from theory import Theorem, theorems
from verification import markdown, suite
from verification.strategies import trial_laws
from verification.strategies.registered import strategy_of

DOCS = Path(__file__).parent.parent / "docs"
COLUMNS = 3  # panels of the figure
BAR = r"\|"  # in a table


def _formula(tex: str) -> str:
    return f"$$\n{tex}\n$$"


def _latex(expression: Any) -> str:
    """With s_min as a symbol with an index, and words upright."""
    names = {symbol: _name(str(symbol)) for symbol in expression.free_symbols}
    return latex(expression, symbol_names=names)


def _name(symbol: str) -> str:
    stem, *index = symbol.split("_")
    if stem in greeks:
        stem = f"\\{stem}"
    elif len(stem) > 1:
        stem = rf"\mathrm{{{stem}}}"
    return rf"{stem}_{{\mathrm{{{' '.join(index)}}}}}" if index else stem


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def opening(known: Sequence[Theorem]) -> str:
    """Title and table."""
    rows = [(f"[{t.id}](#{_anchor(t)})", t.status, t.words.replace("|", BAR)) for t in known]
    return "\n".join(
        [
            "# The theorems",
            "",
            "Made from the registry by `python -m verification.theory_page`, which proves each "
            "step and searches each counterexample as it writes. How to read it: "
            "[theory.md](theory.md).",
            "",
            markdown.table(("theorem", "status", "in words"), rows),
        ]
    )


def _anchor(theorem: Theorem) -> str:
    """As GitHub and MkDocs name a heading."""
    return "".join(c for c in theorem.id.lower() if c.isalnum() or c in "-_")


def statement(theorem: Theorem) -> str:
    """What needs no computation: statement, bound, hypotheses' words, source."""
    parts = [f"## {theorem.id}", theorem.words, _formula(theorem.statement)]
    if theorem.constant is not None:
        bound = "at most" if theorem.bound == "upper" else "at least"
        if theorem.constant == 0:
            parts.append(f"{_capital(theorem.measures)}: 0.")
        else:
            parts.append(f"{_capital(theorem.measures)} {bound}")
            parts.append(_formula(_latex(theorem.constant)))
    if theorem.admissible is not None:
        parts += ["This is at most 1 for", _formula(_latex(theorem.admissible))]
    for name, form in theorem.forms.items():
        parts += [f'Form "{name}":', _formula(_latex(form))]
    parts.append(f"Source ({theorem.status}): {theorem.source}.")
    if theorem.warning:
        parts.append(f"**Warning.** {theorem.warning}")
    return "\n\n".join(parts)


def _hypotheses(theorem: Theorem) -> str:
    strategy, lines = strategy_of(theorem), []
    for hypothesis in theorem.hypotheses:
        lines.append(
            f"- **{hypothesis.name}**: {hypothesis.words}: ${_latex(hypothesis.relation)}$"
        )
        if strategy is not None and hypothesis.name in strategy.without:
            minimal = suite.drop(theorem, hypothesis.name).counterexamples[hypothesis.name]
            lines.append(
                f"  Without it: {f'`{minimal}`' if minimal else 'no counterexample found'}"
            )
    return "\n".join(lines)


def _proof(theorem: Theorem) -> str:
    steps = suite.prove(theorem).steps
    return "\n".join(
        f"{i}. {claim}{'' if found > 0 else ' **fails**'}"
        for i, (claim, found) in enumerate(steps, 1)
    )


def section(theorem: Theorem) -> str:
    """All of one theorem, computed now. Raises ImportError without the extra `verify`."""
    parts = [statement(theorem)]
    if theorem.hypotheses:
        parts += ["### Hypotheses", _hypotheses(theorem)]
    if theorem.proof:
        parts += ["### Proof", _proof(theorem)]
    strategy = strategy_of(theorem)
    if theorem.sharp:
        parts += ["### Sharp", f"{_capital(theorem.sharp)}."]
        if strategy is not None and strategy.sharp:
            reached = suite.sharpen(theorem).sharpness
            parts.append(f"Measured over law, the least of these instances: {reached}")
            parts.append("\n".join(f"- `{structure!r}`" for structure in strategy.sharp))
    return "\n\n".join(parts)


def page() -> str:
    known = list(theorems().values())
    figure = "![Measured over law on instances that attain it](theorems.svg)"
    return "\n\n".join([opening(known), figure, *(section(t) for t in known)]) + "\n"


def _quotients(theorem: Theorem, structure: Any) -> np.ndarray:
    """Measured over law, or its inverse for a lower bound, of each pair."""
    strategy = strategy_of(theorem)
    assert strategy is not None
    trial = strategy.draw(structure, *suite.FEW)
    law = trial_laws.laws(theorem, trial)
    below, above = (trial.measured, law) if theorem.bound == "upper" else (law, trial.measured)
    return (below / above).ravel()


def draw(path: Path) -> None:
    """A panel per theorem that is sharp: a column per instance, a dot per pair, the law at 1."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    strategies = [(theorem, strategy_of(theorem)) for theorem in theorems().values()]
    sharp = [(theorem, found.sharp) for theorem, found in strategies if found and found.sharp]
    rows = -(-len(sharp) // COLUMNS)
    with mpl.rc_context({"svg.hashsalt": "theorems", "font.size": 7, "svg.fonttype": "none"}):
        figure = Figure(figsize=(2.4 * COLUMNS, 1.4 * rows), layout="constrained")
        panels = np.ravel(figure.subplots(rows, COLUMNS, squeeze=False, sharey=True))
        for panel in panels[len(sharp) :]:
            panel.set_axis_off()
        for panel, (theorem, structures) in zip(panels, sharp, strict=False):
            panel.axhline(1, color="0.6", linewidth=0.8)
            for i, structure in enumerate(structures):
                dots = _quotients(theorem, structure)
                panel.plot(np.full(len(dots), i + 1), dots, "o", markersize=2, color="C0")
            panel.set_title(theorem.id)
            panel.set_xticks([])
            panel.set_ylim(0, 1.1)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    (DOCS / "theorems.md").write_text(page(), encoding="utf-8")
    draw(DOCS / "theorems.svg")


if __name__ == "__main__":
    main()
