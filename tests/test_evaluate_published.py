"""The published weights give the accuracies the authors published, to the image when clean."""

import csv
from fractions import Fraction
from pathlib import Path

import pytest
import torch

import paper_repro
from dsnn.data.cifar import images_and_labels
from dsnn.data.folder import data_folder as resolve
from dsnn.weights import load
from experiments import attacks
from experiments.epsilons import PAPER_LIMIT
from experiments.evaluate import evaluate
from experiments.executed import Executed
from experiments.pieces import SHARD
from experiments.request import Request

PUBLISHED = Path(paper_repro.__file__).parent / "data" / "published_robustness.csv"
REGIMES = ("non_expansive", "switch_flexible", "switch_prescribed")
TOLERANCE = 12
"""Images by which a PGD count may differ: random starts are not the authors'."""


def published(arch: str, margin: str, epsilon: str) -> int:
    with PUBLISHED.open(newline="") as file:
        for row in csv.DictReader(file):
            found = (row["dataset"], row["regime"], row["margin"], row["epsilon"])
            if found == ("cifar10", arch, margin, epsilon):
                return int(row["correct_of_1024"])
    raise LookupError((arch, margin, epsilon))


def request(data: Path, regime: str, margin: str, **options: object) -> Request:
    path = data / "published" / f"cifar10_{regime}_{margin}.pt"
    loaded = load(path, regime.replace("_", "-"))
    return Request(loaded, "cifar10", resolve(data), protocol="published", **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("margin", ["0.07", "0.15"])
@pytest.mark.parametrize("regime", REGIMES)
def test_clean_accuracy_is_the_published_one_to_the_image(
    data_folder: Path, regime: str, margin: str
):
    asked = request(data_folder, regime, margin)
    images, labels = images_and_labels("cifar10", "test", asked.folder)
    model = Executed(asked.loaded.net, *asked.statistics, torch.device("cpu"))
    with torch.no_grad():
        logits = torch.cat([model(part) for part in images[:PAPER_LIMIT].split(SHARD)])
    correct = int((logits.argmax(1) == labels[:PAPER_LIMIT]).sum())
    assert correct == published(regime.replace("_", "-"), margin, "0")


def test_the_attack_agrees_with_the_published_count(data_folder: Path):
    """One epsilon, all 1024 images, the attack alone; the slow test has the whole evaluation."""
    asked = request(data_folder, "non_expansive", "0.07")
    images, labels = images_and_labels("cifar10", "test", asked.folder)
    model = Executed(asked.loaded.net, *asked.statistics, torch.device("cpu"))
    survivors = 0
    for part, truth in zip(
        images[:PAPER_LIMIT].split(SHARD), labels[:PAPER_LIMIT].split(SHARD), strict=True
    ):
        with torch.no_grad():
            right = model(part).argmax(1) == truth
        outcome = attacks.l2_pgd(model, part[right], truth[right], 0.5, 0, attacks.PAPER)
        survivors += int(right.sum() - outcome.broken.sum())
    assert abs(survivors - published("non-expansive", "0.07", "0.5")) <= TOLERANCE


@pytest.mark.slow
def test_three_epsilons_agree_in_a_whole_evaluation(data_folder: Path, tmp_path: Path):
    epsilons = ("36/255", "0.5", "1.0")
    asked = request(
        data_folder,
        "non_expansive",
        "0.07",
        attacks=("clean", "pgd-paper"),
        epsilons=tuple(float(Fraction(epsilon)) for epsilon in epsilons),
        out=tmp_path,
    )
    done = evaluate(asked)
    assert done.violations == ()
    clean, *rows = done.result["results"]
    assert clean["correct"] == published("non-expansive", "0.07", "0")
    for row, epsilon in zip(rows, epsilons, strict=True):
        count = published("non-expansive", "0.07", epsilon)
        assert abs(row["correct"] - count) <= TOLERANCE
        assert abs(row["correct_alone"] - count) <= TOLERANCE
