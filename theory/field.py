"""A vector field of one's own: x' = X(x) as SymPy expressions, with the ranges of what is in it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import (
    Add,
    Expr,
    Float,
    Matrix,
    MatrixBase,
    Mul,
    NumberSymbol,
    Pow,
    Rational,
    Symbol,
    cos,
    exp,
    log,
    oo,
    sin,
    sympify,
    tanh,
)

from theory import balls
from theory.activation import Activation
from theory.field_properties import PROPERTIES

Ranges = Mapping[Symbol, tuple[Any, Any]]
REGULAR = (Add, Mul, Pow, Rational, NumberSymbol, Symbol, exp, log, sin, cos, tanh)


@dataclass(frozen=True, eq=False)
class Field:
    """x' = velocity(x) for the `states` x.

    `ranges` gives parameters, and states that are confined, their exact interval (low, high); a
    state without one is any real number. A parameter has a range, (-oo, oo) where it is any number.
    `one_sided`, `lipschitz` are laws in the parameters and `properties` names of
    `PROPERTIES` that the author declares, for `theory.derive` to prove or refute; `integrals` are
    expressions said to be constant along the flow. `id`, `words` and `source` are those of the
    theorem that a registered field becomes.

    Raises ValueError for a symbol that is neither state nor parameter, for another number of
    velocities than states, for an unknown property, for an empty range, for a state of one value.
    """

    states: tuple[Symbol, ...]
    velocity: tuple[Expr, ...]
    ranges: Ranges = field(default_factory=dict)
    one_sided: Expr | None = None
    lipschitz: Expr | None = None
    properties: tuple[str, ...] = ()
    integrals: Mapping[str, Expr] = field(default_factory=dict)
    id: str = "field"
    words: str = ""
    source: str = "a field of its user"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "states", tuple(self.states))
        put(self, "velocity", tuple(_exact(entry) for entry in _entries(self.velocity)))
        put(self, "ranges", {s: _range(s, ends) for s, ends in self.ranges.items()})
        put(self, "properties", tuple(self.properties))
        for name in ("one_sided", "lipschitz"):
            if getattr(self, name) is not None:
                put(self, name, _exact(getattr(self, name)))
        put(self, "integrals", {name: _exact(e) for name, e in self.integrals.items()})
        self._check()

    def _check(self) -> None:
        if len(self.velocity) != len(self.states) or not self.states:
            raise ValueError(
                f"{self.id}: {len(self.velocity)} velocities for {len(self.states)} states: "
                "give one for each"
            )
        for symbol, ends in self.box.items():
            if word := _contradicted(symbol, *ends):
                raise ValueError(
                    f"{self.id}: {symbol} is declared {word} and lies between {ends[0]} and "
                    f"{ends[1]}: declare it real=True only"
                )
        for state in self.states:
            low, high = self.box[state]
            if low == high:  # its direction would count, in which no two points differ
                raise ValueError(
                    f"{self.id}: the state {state} has the one value {low}: make it a parameter"
                )
        known = {*self.states, *self.ranges}
        names = {s.name for s in known if isinstance(s, Symbol)}  # by which intervals are found
        if len(names) < len(known) or len(set(self.states)) < len(self.states):
            raise ValueError(
                f"{self.id}: states and parameters are SymPy symbols, each with a name of its own"
            )
        parts = {"velocity": self.velocity, "integrals": tuple(self.integrals.values())}
        for what, expressions in parts.items():
            self._known(what, expressions, known)
        laws = [law for law in (self.one_sided, self.lipschitz) if law is not None]
        self._known("laws", laws, known - {*self.states})
        slopes: dict[str, tuple[Any, Any]] = {}
        for part in self.activations():
            name, ends = str(part.args[0]), (part.args[1], part.args[2])
            if slopes.setdefault(name, ends) != ends:
                raise ValueError(
                    f"{self.id}: {name} has slopes in {slopes[name]} and in {ends}: call one of "
                    "them otherwise"
                )
        for name in self.properties:
            if name not in PROPERTIES:
                raise ValueError(
                    f"{self.id}: no property is called {name!r}: one of {', '.join(PROPERTIES)}"
                )
        for name in self.integrals:
            if name in PROPERTIES:  # findings are kept by name
                raise ValueError(f"{self.id}: {name!r} is a property: call the integral otherwise")

    def _known(self, what: str, expressions: Iterable[Expr], known: set[Symbol]) -> None:
        for expression in expressions:
            unknown = sorted(map(str, expression.free_symbols - known))
            if unknown:
                raise ValueError(
                    f"{self.id}: {unknown[0]} in its {what} is neither a state nor a parameter: "
                    f"give ranges={{{unknown[0]}: (low, high)}}"
                    if what != "laws"
                    else f"{self.id}: {unknown[0]} in a declared law is no parameter"
                )

    @property
    def column(self) -> Any:
        """The velocity as a column."""
        return Matrix(self.velocity)

    @property
    def parameters(self) -> tuple[Symbol, ...]:
        """The symbols with a range that are no states, by name."""
        return tuple(sorted(set(self.ranges) - set(self.states), key=str))

    @property
    def box(self) -> dict[Symbol, tuple[Any, Any]]:
        """The range of every state and parameter."""
        return {**dict.fromkeys(self.states, (-oo, oo)), **self.ranges}

    @property
    def confined(self) -> bool:
        """Whether some state has a range: then all that is derived holds inside it."""
        return any(state in self.ranges for state in self.states)

    def jacobian(self) -> Any:
        """The matrix of derivatives, `Slope` for those of activations."""
        return self.column.jacobian(list(self.states))

    def check_functions(self, *expressions: Any) -> None:
        """Raises ValueError unless the expressions are made of functions whose derivatives, where
        they have a value, are those of a neighbourhood: Abs has the derivative 0 at its kink."""
        for expression in expressions:
            for part in _parts(expression):
                if not isinstance(part, (Activation, *REGULAR)):
                    raise ValueError(
                        f"{part} may jump or have no derivative: write it as an activation"
                    )

    def check_regular(self, *expressions: Any) -> None:
        """Raises ValueError unless the expressions are locally Lipschitz all over the box, so that
        their derivatives say all: a jump has the derivative 0 on either side."""
        self.check_functions(*expressions)
        for expression in expressions:
            for part in _parts(expression):
                if isinstance(part, log) or (isinstance(part, Pow) and not _natural(part.exp)):
                    self._check_away_from_zero(part)

    def _check_away_from_zero(self, part: Any) -> None:
        base: Any = part.args[0]
        ranges = {s.name: self.box[s] for s in base.free_symbols}
        if any(not end.is_finite for ends in ranges.values() for end in ends):
            raise ValueError(f"{base} in {part} may vanish: give its symbols ranges")
        value = balls.enclose(base, ranges)
        whole = isinstance(part, Pow) and part.exp.is_Integer
        if not (value > 0 or (whole and value < 0)):
            raise ValueError(f"{base} in {part} may vanish: give ranges where it does not")

    def activations(self) -> list[Activation]:
        """The activations in it, with their slopes."""
        return sorted(self.column.atoms(Activation), key=str)


def _parts(expression: Any) -> Iterator[Any]:
    """The expression and all its parts, of an activation that at which it is taken."""
    yield expression
    arguments = expression.args[3:] if isinstance(expression, Activation) else expression.args
    for argument in arguments:
        yield from _parts(argument)


def _of_a_kind(symbol: Any) -> bool:
    return any(kind is not None for kind in (symbol.is_integer, symbol.is_algebraic))


def _single(symbol: Any, low: Any, high: Any) -> bool:
    """Whether the range is one number, which is all that the symbol is assumed to be."""
    found = {kind: getattr(low, f"is_{kind}") for kind in symbol.assumptions0}
    return low == high and all(found[k] in (None, so) for k, so in symbol.assumptions0.items())


def _contradicted(symbol: Any, low: Any, high: Any) -> str:
    """What the symbol is assumed to be, and not all numbers of the range are: SymPy has simplified
    by it, as Abs(x) to x for a positive x. "" where there is no such thing."""
    assumed = {
        "no real number": False if symbol.is_real is False or not symbol.is_commutative else None,
        "polar": False if symbol.is_polar else None,
        "an integer, or the like": _single(symbol, low, high) if _of_a_kind(symbol) else None,
        "positive": low > 0 if symbol.is_extended_positive else None,
        "negative": high < 0 if symbol.is_extended_negative else None,
        "nonnegative": low >= 0 if symbol.is_extended_nonnegative else None,
        "nonpositive": high <= 0 if symbol.is_extended_nonpositive else None,
        "nonzero": low > 0 or high < 0 if symbol.is_zero is False else None,
    }
    return next((word for word, right in assumed.items() if right == False), "")  # noqa: E712


def _entries(velocity: Any) -> list[Any]:
    entries: Any = velocity
    if isinstance(velocity, MatrixBase) and 1 not in velocity.shape:
        raise ValueError(f"a velocity of shape {velocity.shape}: give a column, one for each state")
    return list(entries)


def _natural(exponent: Any) -> bool:
    return bool(exponent.is_Integer and exponent >= 0)


def _exact(expression: Any) -> Any:
    """With the exact fractions that its floats are."""
    expression = sympify(expression)
    return expression.xreplace({x: Rational(x) for x in expression.atoms(Float)})


def _range(symbol: Any, ends: Any) -> tuple[Any, Any]:
    try:
        low, high = (_exact(end) for end in ends)
        if all(end.is_Rational or end in (-oo, oo) for end in (low, high)) and low <= high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"the range {ends} of {symbol}: give two rational numbers (low, high), low first"
    )
