"""What a field may conserve, each property as expressions that vanish, and its decision.

A property is proved where SymPy reduces all of them to 0, refuted by a rational point where one of
them, evaluated exactly or in ball arithmetic, does not vanish, and else open.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Dummy, Matrix, Rational, Symbol, eye, zeros

from theory import balls
from theory.activation import Activation, Slope, straight
from theory.algebra import identical

POINTS = 120  # tried for a refutation before a proof is sought
VALUES = (0, 1, -1, 2, Rational(1, 2), -2, 3)


@dataclass(frozen=True)
class Property:
    """`defects(x, X, J)`: what must vanish, for states, velocity and Jacobian as matrices."""

    words: str
    defects: Callable[[Any, Any, Any], list[Any]]


def canonical(size: int) -> Any:
    """S = [[0, I], [-I, 0]] for states (q, p)."""
    half = size // 2
    zero = zeros(half, half)
    return Matrix([[zero, eye(half)], [-eye(half), zero]])


def _hamiltonian(_: Any, X: Any, J: Any) -> list[Any]:
    S = canonical(len(X))
    return list(S * J - (S * J).T)


PROPERTIES: Mapping[str, Property] = {
    "gradient": Property("J = J': the gradient of a potential", lambda x, X, J: list(J - J.T)),
    "skew": Property("J = -J': distances stay", lambda x, X, J: list(J + J.T)),
    "norm": Property("<x, X> = 0: |x| is constant", lambda x, X, J: [(x.T * X)[0]]),
    "mass": Property("1'X = 0: the sum of the states is constant", lambda x, X, J: [sum(X)]),
    "volume": Property("tr J = 0: the flow keeps volumes", lambda x, X, J: [J.trace()]),
    "hamiltonian": Property(
        "SJ = (SJ)' for states (q, p): x' = S grad H, the flow is symplectic", _hamiltonian
    ),
}
POINTWISE = ("norm", "mass")  # say nothing of derivatives


@dataclass(frozen=True)
class Decided:
    """`verdict` with the point that refutes it, and the value there of what should vanish."""

    verdict: str
    text: str
    point: Mapping[Symbol, Any]


def undefined(name: str, size: int) -> str:
    """Why a property makes no sense for so many states, "" where it does."""
    if name == "hamiltonian" and size % 2:
        return f"{size} states have no halves (q, p)"
    return ""


def decide(defects: list[Any], box: Mapping[Symbol, tuple[Any, Any]]) -> Decided:
    """Whether all defects vanish for all values in the box and all admissible activations."""
    found = _refuted(defects, box)
    if found is not None:
        return found
    plain = [_independent(defect) for defect in defects]
    if all(identical(defect, 0) for defect in plain):
        return Decided("proved", "", {})
    return Decided("open", "neither a proof nor a point against it was found", {})


def _independent(defect: Any) -> Any:
    """Activations and slopes as independent symbols: what vanishes then, always does."""
    parts = sorted(defect.atoms(Activation, Slope), key=str)
    outermost = {part: Dummy(f"s_{k}", real=True) for k, part in enumerate(parts)}
    return defect.xreplace(outermost)


def _refuted(defects: list[Any], box: Mapping[Symbol, tuple[Any, Any]]) -> Decided | None:
    used = [defect for defect in defects if defect != 0]
    for share in (1, 0):  # linear activations with the greatest slopes, then with the least
        chosen = [straight(defect, share) for defect in used]
        symbols = sorted(set().union(*(d.free_symbols for d in chosen)), key=str)
        for values in itertools.islice(_points([box[s] for s in symbols]), POINTS):
            point = dict(zip(symbols, values, strict=True))
            for defect in chosen:
                size = _away_from_zero(defect, point)
                if size is not None:
                    kind = ("least", "greatest")[share]
                    note = f", activations linear with their {kind} slope"
                    text = size + (note if any(d.has(Activation, Slope) for d in used) else "")
                    return Decided("refuted", text, point)
    return None


def _away_from_zero(defect: Any, point: Mapping[Symbol, Any]) -> str | None:
    """The value there, where it is certainly not 0."""
    value = defect.xreplace(dict(point))
    if value.is_Rational:
        return str(value) if value != 0 else None
    try:
        low = balls.lower(abs(value), {})
    except ValueError:
        return None
    return f"at least {low:.3g} in modulus" if low > 0 else None


def _points(ranges: list[tuple[Any, Any]]) -> Iterator[tuple[Any, ...]]:
    """Rational points of the box, those with few and simple entries first."""
    choices = [_choices(low, high) for low, high in ranges]
    for moved in range(len(choices) + 1):
        for places in itertools.combinations(range(len(choices)), moved):
            options = [c[1:] if k in places else c[:1] for k, c in enumerate(choices)]
            few = 2 if moved > 1 else 6
            yield from itertools.product(*(option[:few] for option in options))


def _choices(low: Any, high: Any) -> list[Any]:
    inside = [Rational(v) for v in VALUES if bool(low <= v) and bool(v <= high)]
    if low.is_finite and high.is_finite:
        inside += [Rational(end) for end in (low, high, (low + high) / 2) if end.is_Rational]
    elif low.is_Rational or high.is_Rational:
        end, sign = (low, 1) if low.is_Rational else (high, -1)
        inside += [end, end + sign]
    return list(dict.fromkeys(inside))
