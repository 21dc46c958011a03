"""What an evaluation is asked to do, with its defaults and its refusals."""

import math
from dataclasses import dataclass
from pathlib import Path

from dsnn.data.cifar import CLASSES, check_dataset
from dsnn.data.folder import DataFolder
from dsnn.data.statistics import Channels, published_evaluation
from dsnn.errors import UserError
from dsnn.models import CERTIFIED
from dsnn.weights import Loaded
from experiments import autoattack, epsilons
from experiments.attacks import FARTHEST

ATTACKS = ("clean", "pgd-paper", "autoattack")
PROTOCOLS = ("consistent", "published")


@dataclass(frozen=True)
class Request:
    """What to evaluate. `epsilons` and `limit` None stand for the defaults of the attacks."""

    loaded: Loaded
    dataset: str
    folder: DataFolder
    attacks: tuple[str, ...] = ("clean",)
    epsilons: tuple[float, ...] | None = None
    protocol: str = "consistent"
    limit: int | None = None
    device: str = "cpu"
    seed: int = 0
    out: Path = Path("out/evaluate")
    target: str = ""
    """What the result calls the network; its file, unless given."""

    @property
    def statistics(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation the inputs are normalised with, by protocol."""
        card = self.loaded.card
        if self.protocol == "published":
            return published_evaluation(card.arch, self.dataset)
        return card.mean, card.std

    def rows(self) -> list[tuple[str, float]]:
        """The (attack, epsilon) of every row of the result."""
        chosen = self.epsilons
        by_attack = {
            "clean": [0.0] if self.attacked else sorted({0.0, *(chosen or ())}),
            "pgd-paper": epsilons.PAPER if chosen is None else chosen,
            "autoattack": (epsilons.AUTOATTACK,) if chosen is None else chosen,
        }
        return [
            (attack, e) for attack in ATTACKS if attack in self.attacks for e in by_attack[attack]
        ]

    @property
    def attacked(self) -> bool:
        """Whether more than the clean accuracy is asked for."""
        return any(attack != "clean" for attack in self.attacks)

    def check(self) -> None:
        """Raise UserError on what cannot be evaluated, before any long work."""
        card, classes = self.loaded.card, self.loaded.net.classes
        self._check_numbers()
        check_dataset(self.dataset)
        if classes != CLASSES[self.dataset]:
            raise UserError(
                f"{self.loaded.path} has a head for {classes} classes, {self.dataset} has "
                f"{CLASSES[self.dataset]}: choose --dataset {card.dataset}"
            )
        if card.dataset != self.dataset:
            raise UserError(
                f"{self.loaded.path} was trained on {card.dataset}: choose --dataset {card.dataset}"
            )
        if self.protocol == "published" and card.arch in CERTIFIED:
            raise UserError(
                f"--protocol published: the authors evaluated no {card.arch} network; leave it out"
            )
        if "autoattack" in self.attacks:
            autoattack.version()

    def _check_numbers(self) -> None:
        for epsilon in self.epsilons or ():
            if not 0 <= epsilon < math.inf:
                raise UserError(f"epsilon {epsilon}: expected a finite number >= 0, such as 0.141")
            if epsilon > FARTHEST and self.attacked:
                raise UserError(
                    f"epsilon {epsilon}: no two images are farther apart than {FARTHEST:.4g}"
                )
        if self.epsilons == ():
            raise UserError("no epsilon: give one, or None for those of the paper")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit {self.limit}: evaluate at least 1 image, or None for all")
        for what, value, known in (
            *(("attack", attack, ATTACKS) for attack in self.attacks),
            ("protocol", self.protocol, PROTOCOLS),
        ):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}: one of {', '.join(known)}")
