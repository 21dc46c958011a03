"""The tables of kept networks of the paper's five regimes in docs/training.md.

`python -m paper_repro.grid_page` writes them from the results that `paper_repro.keep` kept. A test
finds the page out of date.
"""

from pathlib import Path

from dsnn.files import write_text
from dsnn.models import ARCHITECTURES
from experiments.protocol import MARGINS
from paper_repro.evaluated import evaluated
from paper_repro.models import KEPT, Model, Source, evaluation
from verification import markdown

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
DATASETS = ("cifar10", "cifar100")
EPSILONS = (0.0, 0.5, 1.0)
"""Of the columns: clean, and where the paper's regimes part."""
HEADER = (
    "regime",
    *(f"{margin:g}, {f'at {at:g}' if at else 'clean'}" for margin in MARGINS for at in EPSILONS),
)


def kept(dataset: str) -> dict[tuple[str, float], dict[float, float]]:
    """Of the narrow networks, by regime and margin: accuracy by the size of the paper's attack."""
    grid = {
        (regime, margin): Model(Source.retrained, regime, dataset, f"{margin:g}")
        for regime in ARCHITECTURES
        for margin in MARGINS
    }
    found = evaluated(
        {f"evaluation:{one.id}": evaluation(one, KEPT / "cpu", "cpu") for one in grid.values()}
    )
    return {
        cell: {point.epsilon: point.accuracy for point in found[one.id].paper}
        for cell, one in grid.items()
    }


def page(text: str) -> str:
    """The page with the tables put between their marks."""
    for dataset in DATASETS:
        found = kept(dataset)
        rows = [
            [regime, *(f"{100 * found[regime, m][at]:.1f}" for m in MARGINS for at in EPSILONS)]
            for regime in ARCHITECTURES
        ]
        body = markdown.table(HEADER, rows)
        text = markdown.between(text, dataset, "paper_repro.grid_page", body)
    return text


def main() -> None:
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
