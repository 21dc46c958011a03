"""Split flows [T2] of affine fields and of shears, whose exact flows are known.

Affine fields act on (x, 1) as matrices: their flows are exponentials, their brackets commutators.
The symmetric and the skew part of a matrix are the two parts that T1 gives of a linear field.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.composition import distances_apart
from verification.strategies.counted import Counted, stored, total
from verification.strategies.draws import HAIR
from verification.strategies.rounding import (
    COVER,
    UNIT,
    Array,
    Tracked,
    affine,
    exact,
    singular_range,
)
from verification.strategies.trial import Strategy, Structure, Trial, Violation

Kind = Literal["lie", "strang"]
AFFINE = ("presnov", "constant second", "constant first", "affine")
ROUND = 1 + 1e-10  # covers the rounding of a product of a few norms


@dataclass(frozen=True, repr=False)
class Affine(Structure):
    """f(x) = Ax + a and g(x) = Bx + b with entries of the given size, over the time T in N steps.

    "presnov": A symmetric, B skew and a = b = 0; "constant second": a = 0, B = 0; "constant first"
    the reverse. With `rates` A and B are these multiples of I. Claimed are shares of the growth and
    of the brackets, or the growth `nu`.
    """

    kind: str
    variables: int
    size: float
    T: float
    N: int
    seed: int
    claimed_growth: float = 1.0
    claimed_brackets: float = 1.0
    rates: tuple[float, float] | None = None
    nu: float | None = None


def _norm(matrix: Array) -> Array:
    """An upper bound of the Frobenius norm, with the rounding of commutators below it."""
    return np.linalg.norm(matrix, axis=(1, 2)) * ROUND


def _growth(A: Array) -> Array:
    """An upper bound of lambda_max of the symmetric part: |S + mI| - m, for m >= |S|."""
    S = (A + A.mT) / 2
    m = _norm(S)[:, None, None] + 2.0**-20
    high = singular_range(S + m * np.eye(S.shape[-1]))[1]
    return high * (1 + 4 * UNIT) - m[:, 0, 0] + 8 * UNIT * high


def _commutator(M: Array, K: Array) -> tuple[Array, Array]:
    """MK - KM and a bound on the size of its rounding error (fields,)."""
    roundings = (2 * M.shape[-1] + 4) * UNIT
    return M @ K - K @ M, 2 * roundings * _norm(M) * _norm(K)


def _on_ball(M: Array, error: Array, radius: Array) -> Array:
    """sup of |Mx + m| over |x| <= radius, for the matrix of x -> Mx + m with its error."""
    return (_norm(M[:, :-1, :-1]) * radius + _norm(M[:, :-1, -1:]) + error * (radius + 1)) * ROUND


def _exponential(M: Array, time: float, x: Tracked) -> Tracked:
    """exp(time M) x by its Taylor polynomial, the remainder in the error."""
    size = float(_norm(M).max()) * abs(time)
    order = next(k for k in range(2, 200) if size ** (k + 1) / math.factorial(k + 1) < 1e-19)
    y = x
    for k in range(order, 0, -1):
        field = affine(M, y)
        h = time / k  # rounded: one more in the error
        moved = h * field.value
        error = x.error + abs(h) * (1 + UNIT) * field.error
        error = error + 4 * UNIT * (np.abs(x.value) + np.abs(moved))
        y = Tracked(x.value + moved, error * COVER)
    remainder = 2 * size ** (order + 1) / math.factorial(order + 1) * math.exp(size)
    length = np.linalg.norm(np.abs(x.value) + x.error, axis=1, keepdims=True)
    return Tracked(y.value, y.error + remainder * length)


def _affine_fields(structure: Affine, fields: int) -> tuple[Array, Array, np.random.Generator]:
    rng = np.random.default_rng(structure.seed)
    n = structure.variables
    A, B = structure.size * rng.uniform(-1, 1, (2, fields, n, n))
    a, b = structure.size * rng.uniform(-1, 1, (2, fields, n, 1))
    match structure.kind:
        case "presnov":
            A, B, a, b = (A + A.mT) / 2, (B - B.mT) / 2, 0 * a, 0 * b
        case "constant second":
            B, a = 0 * B, 0 * a
        case "constant first":
            A, b = 0 * A, 0 * b
    if structure.rates is not None:
        A, B = (rate * np.tile(np.eye(n), (fields, 1, 1)) for rate in structure.rates)

    def augmented(matrix: Array, vector: Array) -> Array:
        last = np.zeros((fields, 1, n + 1))
        return np.concatenate([np.concatenate([matrix, vector], axis=2), last], axis=1)

    return augmented(A, a), augmented(B, b), rng


def _affine(kind: Kind, structure: Affine, fields: int, points: int) -> Trial:
    F, G, rng = _affine_fields(structure, fields)
    n, T, N = structure.variables, structure.T, structure.N
    x = rng.standard_normal((fields, n, max(1, points // 8)))
    lifted = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    substeps = [(F, T / N), (G, T / N)] if kind == "lie" else [(G, T / N / 2), (F, T / N)]
    substeps = substeps if kind == "lie" else [*substeps, (G, T / N / 2)]
    split = exact(lifted)
    for _ in range(N):
        for M, time in substeps:
            split = _exponential(M, time, split)
    true = _exponential(F + G, T, exact(lifted))  # F + G is rounded: its error is added
    wrong = T * UNIT * _norm(F + G) * np.exp(T * (_norm(F) + _norm(G)))
    length = np.linalg.norm(lifted, axis=1, keepdims=True)
    true = Tracked(true.value, true.error + wrong[:, None, None] * 2 * length)
    rates = _norm(F[:, :n, :n]) + _norm(G[:, :n, :n])
    pushes = _norm(F[:, :n, n:]) + _norm(G[:, :n, n:])
    farthest = np.linalg.norm(x, axis=1).max(axis=1) * ROUND
    radius = np.exp(T * rates) * (farthest + T * pushes) * ROUND
    C, slip = _commutator(F, G)
    growths = [_growth(M[:, :n, :n]) for M in (F + G, F, G)]
    if kind == "lie":
        brackets = {"": _on_ball(C, slip, radius)}
        nu = np.maximum(0, np.maximum(growths[0], growths[2]))
    else:
        brackets = {}
        for name, M in (("_f", F), ("_g", G)):
            outer, error = _commutator(C, M)
            brackets[name] = _on_ball(outer, error + 2 * slip * _norm(M) * ROUND, radius)
        f, g = np.maximum(growths[1], 0), np.maximum(growths[2], 0)
        nu = np.maximum(growths[0], (f + g / 2) * ROUND)
        nu = np.maximum(nu, 0)
    facts: dict[str, Any] = {
        "T": T,
        "N": float(N),
        "nu": structure.claimed_growth * nu if structure.nu is None else structure.nu,
        "growth": growths[0],
        "growth_f": growths[1],
        "growth_g": growths[2],
        "reach": radius,
        "tube": radius,
    }
    for name, value in brackets.items():
        facts |= {f"bracket{name}": value, f"kappa{name}": structure.claimed_brackets * value}
    return Trial(facts, distances_apart(split, true))


@dataclass(frozen=True, repr=False)
class Shear(Structure):
    """P(y) = sum_k coefficients[k] y^k in the first entry, and (0, rate): f is the shear and g the
    translation, or with `swapped` the reverse. The start is x = 0, |y| <= 1; then y stays in
    [-1 - |rate| T, 1 + |rate| T], of which the share `claimed_tube` is used for the constants."""

    coefficients: tuple[float, ...]
    rate: float
    swapped: bool
    T: float
    N: int
    seed: int
    claimed_brackets: float = 1.0
    claimed_tube: float = 1.0


def _integral(coefficients: tuple[float, ...], low: Counted, high: Counted) -> Counted:
    terms = [stored(np.zeros_like(low.value))]
    for k, c in enumerate(coefficients):
        whole = high.power(k + 1) - low.power(k + 1)
        terms.append(Counted(whole.value * c, whole.moduli * abs(c), whole.roundings + 1))
        terms[-1] = terms[-1] / stored(np.full_like(low.value, k + 1.0))
    return total(terms)


def _value(coefficients: tuple[float, ...], y: Counted) -> Counted:
    return total(
        [stored(np.full_like(y.value, c)) * y.power(k) for k, c in enumerate(coefficients)]
    )


def _derivative(coefficients: tuple[float, ...], order: int, reach: float) -> float:
    """A bound of |P^(order)(y)| for |y| <= reach."""
    return ROUND * sum(
        abs(c) * math.perm(k, order) * reach ** (k - order)
        for k, c in enumerate(coefficients)
        if k >= order
    )


def _sheared(kind: Kind, structure: Shear, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    T, N, rate, P = structure.T, structure.N, structure.rate, structure.coefficients
    y = draws.single(rng.uniform(-1, 1, (fields, max(1, points // 8))))
    start, whole = stored(y), stored(T / N)
    h = Counted(whole.value, whole.moduli, 1)
    end = start + stored(rate) * stored(T)
    # the exact first entry is int P(y + rate t) dt, times rate here; the split one likewise
    true = _integral(P, start, end)
    visited = []
    for i in range(N):
        there = start + stored(rate * i) * h
        if kind == "lie":
            share = stored(1.0 if structure.swapped else 0.0)
            visited.append(h * _value(P, there + share * stored(rate) * h))
        elif structure.swapped:  # the shear is the outer one
            ends = _value(P, there) + _value(P, there + stored(rate) * h)
            visited.append(stored(0.5) * h * ends)
        else:
            visited.append(h * _value(P, there + stored(0.5 * rate) * h))
    missed = stored(rate) * total(visited) - true
    reach = (1 + abs(rate) * T) * ROUND
    tube = structure.claimed_tube * reach

    def constants(where: float) -> dict[str, float]:
        growth = _derivative(P, 1, where) / 2
        first = abs(rate) * _derivative(P, 1, where) * ROUND
        second = rate**2 * _derivative(P, 2, where) * ROUND
        inner, outer = (second, 0.0) if structure.swapped else (0.0, second)
        return {"nu": growth, "": first, "_f": inner, "_g": outer}

    true_ones, claimed = constants(tube), constants(tube)
    facts: dict[str, Any] = {
        "T": T,
        "N": float(N),
        "nu": claimed["nu"],
        "growth": true_ones["nu"],
        "growth_f": 0.0 if structure.swapped else true_ones["nu"],
        "growth_g": true_ones["nu"] if structure.swapped else 0.0,
        "reach": reach,
        "tube": tube,
    }
    for name in ("", "_f", "_g"):
        facts[f"bracket{name}"] = true_ones[name]
        facts[f"kappa{name}"] = structure.claimed_brackets * claimed[name]
    return Trial(facts, missed.defect() / abs(rate) * (1 - 2 * UNIT))


@dataclass(frozen=True, repr=False)
class Kinked(Structure):
    """f moves x by the positive part of y - 1, or half its square for Strang, and g moves y by 1:
    from (0, 1), one step over the time T. On the tube y <= 1 both brackets vanish."""

    T: float


def _kinked(kind: Kind, structure: Kinked) -> Trial:
    T = structure.T
    # Lie: T^2/2 against 0. Strang: T^3/6 against T (T/2)^2/2.
    missed = T**2 / 2 if kind == "lie" else T**3 / 24 * (1 - 2 * UNIT)
    names = ("nu", "growth", "growth_f", "growth_g")
    names += tuple(f"{what}{of}" for what in ("bracket", "kappa") for of in ("", "_f", "_g"))
    facts = {**dict.fromkeys(names, 0.0), "T": T, "N": 1.0, "reach": 1 + T, "tube": 1.0}
    return Trial(facts, np.array([[missed]]))


def _draw(kind: Kind, structure: Affine | Shear | Kinked, fields: int, points: int) -> Trial:
    if isinstance(structure, Kinked):
        return _kinked(kind, structure)
    if isinstance(structure, Affine):
        return _affine(kind, structure, fields, points)
    return _sheared(kind, structure, fields, points)


def _affines(**changes: st.SearchStrategy) -> st.SearchStrategy[Affine]:
    parts = {
        "kind": st.sampled_from(AFFINE),
        "variables": st.integers(1, 4),
        "size": draws.fractions(1 / 2, 1 / 16, 7),
        "T": draws.multiples(1 / 4, 2, 4),
        "N": st.integers(1, 4),
        "seed": draws.seeds,
    }
    return st.builds(Affine, **{**parts, **changes})


def _shears(**changes: st.SearchStrategy) -> st.SearchStrategy[Shear]:
    parts = {
        "coefficients": st.tuples(*[draws.multiples(-1, 1, 4)] * 4),
        "rate": st.sampled_from((1.0, -1.0, 0.5, 2.0)),
        "swapped": st.booleans(),
        "T": draws.multiples(1 / 4, 1, 4),
        "N": st.integers(1, 4),
        "seed": draws.seeds,
    }
    return st.builds(Shear, **{**parts, **changes})


def _weak(power: int) -> st.SearchStrategy[tuple[float, ...]]:
    """c y^power: too weak for e^(nu T) to matter."""
    return st.sampled_from(tuple((0.0,) * power + (2.0**-k,) for k in (10, 14)))


def _rates(first: float, second: float, T: float, nu: float, N: int = 1) -> Affine:
    """In one variable, with the growth that is claimed."""
    size = max(abs(first), abs(second))
    return Affine("affine", 1, size, T, N, seed=0, rates=(first, second), nu=nu)


_TINY = 2.0**-30  # 0, but for the rounding of the true growth
_damped = _rates(-2 * HAIR, -2 * HAIR, 4 / HAIR, -15 / 16 * HAIR, N=4)  # nu is negative
_opposed = _rates(-0.25, 0.25, 48.0, _TINY)  # f + g does not grow, g does
_GROWING: dict[Kind, tuple[Affine, ...]] = {
    "lie": (_damped, _opposed, _rates(0.25, 0.0, 4.0, _TINY)),
    "strang": (_damped, _opposed, _rates(0.0, 1.0, 4.0, 0.5 + _TINY)),
}


def _strategy(kind: Kind, power: int) -> Strategy:
    draw = partial(_draw, kind)
    weak = (0.0,) * power + (2.0**-22,)
    steep = st.sampled_from(((0.0, 0.0, 0.0, 2.0**-10),))
    sharp = tuple(
        Shear(weak, 1.0, swapped, 0.5, N, seed=0) for swapped in (False, True) for N in (1, 2)
    )
    return Strategy(
        structures=_shears() | _affines(),
        draw=draw,
        sharp=sharp,
        without={
            "bracket": Violation(
                _shears(coefficients=_weak(power), claimed_brackets=draws.shares()),
                draw,
                tuple(replace(shear, claimed_brackets=1 - HAIR) for shear in sharp),
            ),
            "growth": Violation(
                _affines(
                    kind=st.sampled_from(AFFINE[1:]),
                    variables=st.just(1),
                    claimed_growth=st.just(0.0),
                ),
                draw,
                _GROWING[kind],
            ),
            "tube": Violation(
                _shears(coefficients=steep, claimed_tube=st.sampled_from((0.25, 0.125))),
                draw,
                (Kinked(HAIR),),
            ),
        },
    )


LIE_TROTTER = _strategy("lie", 1)
STRANG = _strategy("strang", 2)
