"""What one deviation of the published code from the theory is: words of ours, numbers measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from verification.wording import at_least, at_most

if TYPE_CHECKING:
    from paper_repro.material import Material

Sense = Literal["at most", "at least", "about", "count"]
Status = Literal["measured", "constructed", "not measured here"]
STATUSES: Mapping[Status, str] = {
    "measured": "on the authors' published weights, or on networks trained here",
    "constructed": "on a case built here that does what the code is said to do",
    "not measured here": "stated by the notes on the published code, whose text is not here",
}


@dataclass(frozen=True)
class Number:
    """One measured number: `name` is what sentences call it, `what` its line in a table.

    `sense` says what the value is: a rigorous bound from above or below, a value in floating
    point, or a count. It is shown with `digits` significant digits, a bound rounded outwards.
    """

    name: str
    what: str
    value: float
    sense: Sense = "about"
    digits: int = 4


@dataclass(frozen=True)
class Source:
    """A kept result that some of the numbers come from, and how it is made again."""

    command: str
    commit: str


@dataclass(frozen=True)
class Deviation:
    """What the code does at `where`, what the theory asks, and what follows; `consequence` names
    numbers of `measure` in braces. Without `measure` nothing of it can be measured here."""

    number: int
    title: str
    where: str
    code: str
    theory: str
    consequence: str
    status: Status
    measure: "Callable[[Material], Iterable[Number]] | None" = None
    sources: Sequence[Source] = field(default=())

    @property
    def module(self) -> str:
        """The module that holds the measurement; empty where there is none."""
        return "" if self.measure is None else str(self.measure.__module__)


def shown(number: Mapping[str, Any]) -> str:
    """The value of a kept number with its sense, bounds rounded outwards."""
    value, digits = number["value"], number["digits"]
    if number["sense"] == "at most":
        return f"≤ {float(at_most(value, digits)):.12g}"
    if number["sense"] == "at least":
        return f"≥ {float(at_least(value, digits)):.12g}"
    if number["sense"] == "count":
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return text if float(text) == value else f"≈ {text}"


def sentence(text: str, numbers: Iterable[Mapping[str, Any]]) -> str:
    """`text` with each {name} replaced by the number of that name, as it is shown."""
    return text.format_map({number["name"]: shown(number) for number in numbers})
