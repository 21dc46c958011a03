"""The strategy of any registered theorem: ours, a package's own, or that of a field.

A package gives its theorem a strategy by an entry point of the group `dsnn.strategies`, named as
the theorem; a field of the group `dsnn.fields` has one by itself.
"""

from importlib.metadata import entry_points
from typing import Any

from dsnn.errors import UserError
from theory import Theorem, registry
from verification.strategies import STRATEGIES
from verification.strategies.fields import strategy
from verification.strategies.trial import Strategy


def strategy_of(theorem: Theorem) -> Strategy[Any] | None:
    """How the theorem is attacked; None where nothing draws fields for it. Raises UserError where a
    package registers something else."""
    if theorem.id in STRATEGIES:
        return STRATEGIES[theorem.id]
    for entry in entry_points(group="dsnn.strategies"):
        if entry.name == theorem.id:
            try:
                loaded = registry.load(entry)
            except (Exception, SystemExit) as error:
                raise UserError(
                    f"{entry.name} = {entry.value} of group dsnn.strategies cannot be loaded: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if not isinstance(loaded, Strategy):
                raise UserError(
                    f"the entry point {entry.name} = {entry.value} of group dsnn.strategies is a "
                    f"{type(loaded).__name__}: register a verification.strategies.trial.Strategy"
                )
            return loaded
    field = registry.fields().get(theorem.id)
    return None if field is None else strategy(field)
